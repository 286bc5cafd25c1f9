"""A threshold study as a picture and a table: rules as lines over the number of shots."""

from __future__ import annotations

import math

from .. import console
from ..study_results import StudyMean, StudyResults
from .chart import Key, legend, series_css, series_shape
from .figure import Figure, Layout
from .names import language_label
from .numbers import MISSING, decimal, points
from .svg import Canvas, Scale
from .tables import Table, make

_PANELS = (("target", "value"), ("target", "worst"), ("source", "value"), ("source", "worst"))
_TITLES = {
    ("target", "value"): "Targets, mean balanced accuracy",
    ("target", "worst"): "Targets, worst language",
    ("source", "value"): "Left-out sources, mean balanced accuracy",
    ("source", "worst"): "Left-out sources, worst language",
}
_HEIGHT = 200.0


def study_figure(results: StudyResults) -> Figure:
    """Draw balanced accuracy over k, a line per rule: mean and worst language, by role."""
    rules = list(dict.fromkeys(m.rule for m in results.means))
    shots = sorted({m.k for m in results.means})
    curves = {role: results.curve(role) for role in ("target", "source")}
    panels = [p for p in _PANELS if curves[p[0]]]
    spans = {role: _span(curve) for role, curve in curves.items() if curve}

    def draw(layout: Layout) -> Canvas:
        canvas = Canvas(layout.width)
        keys = [Key(r, series_css(i), series_shape(i)) for i, r in enumerate(rules)]
        top = legend(canvas, layout, keys) + 20
        columns = 1 if layout.compact else 2
        width = (layout.width - 24 * (columns - 1)) / columns
        for i, (role, what) in enumerate(panels):
            left, y = (i % columns) * (width + 24), top + (i // columns) * (_HEIGHT + 34)
            canvas.text(left, y - 4, _TITLES[role, what], "label")
            _panel(canvas, (left, y, width), curves[role], what, rules, shots, spans[role])
        canvas.height = top + math.ceil(len(panels) / columns) * (_HEIGHT + 34)
        return canvas

    where = ", ".join(map(str, results.chosen[0]))
    caption = (
        f"Balanced accuracy on validation prompts, blocks {where}, rank {results.chosen[1]}, by "
        "the number k of labelled examples per class; means over draws of the shots. Sources "
        "are scored by probes that left them out. A point that is missing had too few prompts."
    )
    return Figure("threshold-study", "Thresholds by rule and shots", caption, draw)


def _span(curve: tuple[StudyMean, ...]) -> tuple[float, float]:
    """Return the axis of a role's panels: its values, out to the next multiples of 0.02."""
    known = [v for m in curve for v in (m.value, m.worst) if v is not None]
    low, high = math.floor(50 * min(known, default=0.8)), math.ceil(50 * max(known, default=1.0))
    return min(low, high - 1) / 50, high / 50


def _panel(
    canvas: Canvas,
    place: tuple[float, float, float],
    curve: tuple[StudyMean, ...],
    what: str,
    rules: list[str],
    shots: list[int],
    span: tuple[float, float],
) -> None:
    left, top, width = place
    start, bottom = left + 34, top + _HEIGHT - 22
    x_of = Scale(0, max(1, len(shots) - 1), start + 8, left + width - 10)
    y_of = Scale(*span, bottom, top + 8)
    for tick in y_of.ticks(5):
        canvas.line(start, y_of(tick), left + width, y_of(tick), "grid")
        canvas.text(start - 6, y_of(tick) + 4, decimal(tick, 2), "tick", "end")
    for i, k in enumerate(shots):
        canvas.text(x_of(i), bottom + 16, f"k={k}" if i == 0 else str(k), "tick", "middle")
    for index, rule in enumerate(rules):
        found = {
            m.k: value for m in curve if m.rule == rule and (value := getattr(m, what)) is not None
        }
        spots = [(x_of(i), y_of(found[k]), k) for i, k in enumerate(shots) if k in found]
        css = series_css(index)
        if len(spots) > 1:
            path = "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y, _ in spots)
            canvas.add("path", f"curve {css}", d=path)
        for x, y, k in spots:
            hint = f"{rule}, k = {k}: {decimal(found[k], 3)}"
            canvas.mark(series_shape(index), x, y, 3.4, css, hint)


def study_table(results: StudyResults, role: str) -> Table:
    """Return one role's curve: mean, spread over draws, worst language, and change from none."""
    rows = [
        (
            m.rule,
            str(m.k),
            decimal(m.value, 3),
            decimal(m.sd, 3),
            decimal(m.worst, 3),
            MISSING if m.worst_language is None else language_label(m.worst_language),
            points(m.change),
            points(m.worst_change),
        )
        for m in results.curve(role)
    ]
    where = ", ".join(map(str, results.chosen[0]))
    title = f"Thresholds for {role} languages, blocks {where}, rank {results.chosen[1]}"
    columns = (
        "Rule", "k", "Mean", "SD", "Worst", "Language", "Change, points", "Largest loss, points",
    )  # fmt: skip
    note = "Balanced accuracy on val prompts; changes are from the threshold of the sources."
    return make(title, columns, "lrrrrlrr", rows, note)


def study_markdown(results: StudyResults) -> str:
    """Return the tables of targets and left-out sources as Markdown."""
    parts = []
    for table in (study_table(results, role) for role in ("target", "source")):
        if table.rows:
            rule = ["---:" if a == "r" else "---" for a in table.align]
            lines = [" | ".join(cells) for cells in (table.columns, rule, *table.rows)]
            body = "\n".join(f"| {line} |" for line in lines)
            parts.append(f"### {table.title}\n\n{body}\n\n{table.note}\n")
    return "\n".join(parts)


def print_study(results: StudyResults) -> None:
    """Print the tables of targets and left-out sources to standard output."""
    for role in ("target", "source"):
        table = study_table(results, role)
        if table.rows:
            console.table(table.title, table.columns, table.rows)
            console.out.print(table.note, markup=False)
            console.out.print()
