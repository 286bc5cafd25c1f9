"""What labelled shots buy: balanced accuracy by threshold rule and shots, per language."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..results import ThresholdRow
from .chart import Key, legend, series_css, series_shape
from .figure import Figure, Layout
from .multiples import Panel, panels
from .names import TierGroup, language_label
from .numbers import decimal, is_missing
from .svg import Canvas, Scale
from .tables import Table, make


def thresholds_figure(items: Sequence[ThresholdRow], groups: Sequence[TierGroup]) -> Figure:
    """Draw one small line chart per language, a line per rule, over k shots per class."""
    rules = list(dict.fromkeys(i.rule for i in items))
    shots = sorted({i.k for i in items})
    cells = {(i.language, i.rule, i.k): i for i in items}
    known = [i.balanced_accuracy for i in items if i.balanced_accuracy is not None]
    low = min([0.5, *(math.floor(v * 10) / 10 for v in known if not math.isnan(v))])

    def draw(layout: Layout) -> Canvas:
        canvas = Canvas(layout.width)
        keys = [Key(r, series_css(i), series_shape(i)) for i, r in enumerate(rules)]
        top = legend(canvas, layout, [*keys, Key("in use", "ring")]) + 2
        for panel in panels(canvas, layout, groups, top, 104):
            _panel(canvas, panel, rules, shots, cells, low)
        return canvas

    caption = (
        "Balanced accuracy on validation prompts by the number k of labelled examples per class "
        "used to set the threshold, averaged over random draws of the shots; k = 0 uses none. A "
        "line that starts below its own k = 0 shows shots that hurt. The ring marks the "
        "threshold in use."
    )
    title = "Thresholds by rule and shots"
    return Figure("thresholds", title, caption, draw, (_table(items, groups),))


def _panel(
    canvas: Canvas,
    panel: Panel,
    rules: Sequence[str],
    shots: Sequence[int],
    cells: Mapping[tuple[str, str, int], ThresholdRow],
    low: float,
) -> None:
    left, bottom = panel.left + 26, panel.bottom - 18
    x_of = Scale(0, max(1, len(shots) - 1), left + 8, panel.right - 8)
    y_of = Scale(low, 1, bottom, panel.top + 6)
    for tick in y_of.ticks(3):
        canvas.line(left, y_of(tick), panel.right, y_of(tick), "grid")
        canvas.text(left - 6, y_of(tick) + 4, decimal(tick, 1), "tick", "end")
    # Crowded axes name every second or third k.
    stride = 1 + (len(shots) - 1) // max(1, int((x_of.end - x_of.start) / 22))
    for i, k in enumerate(shots):
        if i % stride == 0:
            canvas.text(x_of(i), bottom + 15, f"k={k}" if i == 0 else str(k), "tick", "middle")
    for index, rule in enumerate(rules):
        points = []
        for i, k in enumerate(shots):
            cell = cells.get((panel.language, rule, k))
            if cell is not None and not is_missing(cell.balanced_accuracy):
                points.append((x_of(i), y_of(cell.balanced_accuracy or 0), cell))
        css = series_css(index)
        if len(points) > 1:
            path = "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
            canvas.add("path", f"curve {css}", d=path)
        for x, y, cell in points:
            hint = f"{rule}, k = {cell.k}: {decimal(cell.balanced_accuracy)}, n = {cell.n}"
            if cell.used:
                canvas.add("circle", "ring", cx=x, cy=y, r=7.5)
            canvas.mark(series_shape(index), x, y, 3.2, css, hint)


def _table(items: Sequence[ThresholdRow], groups: Sequence[TierGroup]) -> Table:
    place = {code: i for i, code in enumerate(c for g in groups for c in g.languages)}
    rows = [
        (
            language_label(i.language),
            i.rule,
            str(i.k),
            decimal(i.threshold, 3),
            decimal(i.balanced_accuracy, 3),
            str(i.n),
            str(i.n_draws),
            "in use" if i.used else "",
        )
        for i in sorted(items, key=lambda i: (place.get(i.language, 0), i.rule, i.k))
    ]
    columns = ("Language", "Rule", "k", "Threshold", "Balanced accuracy", "n", "Draws", "")
    return make("Thresholds", columns, "llrrrrrl", rows)
