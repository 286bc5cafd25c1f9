"""The gate's scores per language: where each kind of prompt falls, and the threshold."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from ..results import GateScores
from .chart import Key, legend
from .figure import Figure, Layout
from .multiples import Panel, panels
from .names import TierGroup, language_label, tier_label
from .numbers import MISSING, decimal, percent
from .svg import Canvas, Scale
from .tables import Table, make

_RIDGE = 32.0
_BINS = 28
_FEW = 40  # below this every prompt gets its own tick, since a histogram would only be noise
_CLASSES = (
    ("harmful", "harmful", "harmful"),
    ("harmless", "harmless", "harmless"),
    ("harmless_twins", "twins", "harmless twins"),
)


def scores_figure(scores: Mapping[str, GateScores], groups: Sequence[TierGroup]) -> Figure:
    """Draw one panel per language with a ridge per class and the threshold across them."""
    low, high = _bounds(scores.values())
    classes = [c for c in _CLASSES if any(getattr(s, c[0]) for s in scores.values())]

    def draw(layout: Layout) -> Canvas:
        canvas = Canvas(layout.width)
        keys = [Key(label, css, "swatch") for _, css, label in classes]
        top = legend(canvas, layout, [*keys, Key("threshold", "threshold", "bar")]) + 2
        for panel in panels(canvas, layout, groups, top, _RIDGE * len(classes) + 20):
            _panel(canvas, layout, panel, scores[panel.language], classes, (low, high))
        return canvas

    caption = (
        "Scores of the test prompts, all panels on one scale, each ridge to its own height "
        f"(ticks where there are fewer than {_FEW} prompts). The gate fires at the threshold and "
        "to its right; the percentages are the shares on which it fires. Good: orange right of "
        "the line, blue and green left of it. Twins are harmless prompts that share form and "
        "key words with harmful ones; where they lie with the orange ones, the gate fires on "
        "words rather than on harm."
    )
    return Figure(
        "gate-scores", "Gate scores by language", caption, draw, (_table(scores, groups),)
    )


def _bounds(scores) -> tuple[float, float]:
    """Return the range that holds all but the outermost hundredth of the scores."""
    pooled = sorted(
        v for s in scores for field, _, _ in _CLASSES for v in getattr(s, field) if math.isfinite(v)
    )
    thresholds = [s.threshold for s in scores if math.isfinite(s.threshold)]
    cut = len(pooled) // 200
    inner = pooled[cut : len(pooled) - cut] + thresholds
    if not inner:
        return 0.0, 1.0
    margin = 0.03 * (max(inner) - min(inner)) or 1.0
    return min(inner) - margin, max(inner) + margin


def fired_share(values: Sequence[float], threshold: float) -> float | None:
    """Return the share of scores at or above the threshold, or None without scores."""
    known = [v for v in values if not math.isnan(v)]
    if not known or math.isnan(threshold):
        return None
    return sum(v >= threshold for v in known) / len(known)


def _panel(
    canvas: Canvas,
    layout: Layout,
    panel: Panel,
    scores: GateScores,
    classes: Sequence[tuple[str, str, str]],
    bounds: tuple[float, float],
) -> None:
    room = 42.0
    scale = Scale(*bounds, panel.left + 5, panel.right - room)
    base = panel.top
    for field, css, label in classes:
        base += _RIDGE
        values = [v for v in getattr(scores, field) if math.isfinite(v)]
        canvas.line(panel.left, base, panel.right - room, base, "frame")
        hint = f"{label}: {len(values)} prompts"
        if not values:
            canvas.hatch(panel.left, base - 9, panel.width - room, 9, f"{label}: no prompts")
        elif len(values) < _FEW:
            path = "".join(f"M{scale(v):.1f},{base - 1:.1f}v-13" for v in values)
            canvas.add("path", f"rug {css}", hint, d=path)
        else:
            canvas.add("path", f"ridge {css}", hint, d=_ridge(values, scale, base))
        share = fired_share(getattr(scores, field), scores.threshold)
        text = MISSING if share is None else f"{percent(share, 0)}\u202f%"
        canvas.text(panel.right, base - 5, text, "small", "end")
    if math.isfinite(scores.threshold):
        x = scale(scores.threshold)
        canvas.line(x, panel.top + 4, x, base + 4, "threshold")
    for tick in scale.ticks(3 if layout.compact else 4):
        canvas.text(
            scale(tick), base + 16, decimal(tick, 0 if tick == int(tick) else 1), "tick", "middle"
        )


def _ridge(values: Sequence[float], scale: Scale, base: float) -> str:
    """Return a filled histogram as a path; outliers are counted in the end bins."""
    counts = [0] * _BINS
    step = (scale.high - scale.low) / _BINS
    for value in values:
        counts[min(_BINS - 1, max(0, int((value - scale.low) / step)))] += 1
    unit = (scale.end - scale.start) / _BINS
    height = (_RIDGE - 6) / max(counts)
    path = f"M{scale.start:.1f},{base:.1f}"
    for i, n in enumerate(counts):
        path += f"V{base - n * height:.1f}H{scale.start + (i + 1) * unit:.1f}"
    return f"{path}V{base:.1f}z"


def _table(scores: Mapping[str, GateScores], groups: Sequence[TierGroup]) -> Table:
    rows = []
    for group in groups:
        for code in group.languages:
            s = scores[code]
            for field, _, label in _CLASSES:
                values = [v for v in getattr(s, field) if not math.isnan(v)]
                rows.append(
                    (
                        language_label(code),
                        tier_label(group.tier),
                        label,
                        str(len(values)),
                        decimal(statistics.median(values) if values else None),
                        decimal(s.threshold),
                        percent(fired_share(values, s.threshold)),
                    )
                )
    columns = ("Language", "Tier", "Prompts", "n", "Median score", "Threshold", "Fired, %")
    return make("Gate scores", columns, "lllrrrr", rows)
