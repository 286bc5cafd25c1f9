"""Where in the network harm can be told: AUROC per layer and language, on both contrasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..results import Separability
from .chart import HEADING, Key, language_rows, legend, rows_height
from .figure import Figure, Layout
from .names import TierGroup, language_label
from .numbers import MISSING, decimal, is_missing
from .palette import HEAT_BINS, HEAT_EDGES, heat_bin
from .svg import Canvas
from .tables import Table, make

CONTRAST_NAMES = {"topic": "Topic contrast", "twins": "Twins contrast"}
Cells = Mapping[tuple[str, str, int], float | None]


def separability_figure(
    items: Sequence[Separability], chosen: Sequence[int], groups: Sequence[TierGroup]
) -> Figure:
    """Draw one heatmap per contrast, rows of languages by columns of layers."""
    layers = sorted({i.layer for i in items})
    found = {i.contrast for i in items}
    contrasts = [c for c in CONTRAST_NAMES if c in found] + sorted(found - set(CONTRAST_NAMES))
    cells = {(i.contrast, i.language, i.layer): i.auroc for i in items}

    def draw(layout: Layout) -> Canvas:
        canvas = Canvas(layout.width)
        top = _legend(canvas, layout) + 6
        row = 19.0
        gutter = 22.0
        across = 1 if layout.compact else len(contrasts)
        width = (layout.width - layout.label - gutter * (across - 1)) / across
        cell = min(width / max(1, len(layers)), 30.0)
        body = 46.0
        for i, contrast in enumerate(contrasts):
            column, line = (0, i) if layout.compact else (i, 0)
            left = layout.label + column * (width + gutter)
            y = top + line * (rows_height(groups, row) + body + 16)
            canvas.text(left, y + 14, CONTRAST_NAMES.get(contrast, contrast), "panel")
            _heat(
                canvas,
                layout,
                (left, y + body),
                (cell, row),
                contrast,
                layers,
                chosen,
                groups,
                cells,
                column == 0,
            )
        lines = len(contrasts) if layout.compact else 1
        canvas.height = top + lines * (rows_height(groups, row) + body + 16) - HEADING - 10
        return canvas

    table = _tables(cells, contrasts, layers, groups)
    return Figure(
        "separability", "Separability by layer and language", _caption(chosen), draw, table
    )


def _caption(chosen: Sequence[int]) -> str:
    marked = ", ".join(map(str, chosen)) or "none"
    return (
        "AUROC of a probe trained on the source languages, on each language's held-out prompts; "
        "columns are layers (decoder blocks, from 0). Triangles mark the layers the gate reads: "
        f"{marked}. Topic can be won by form, twins cannot: harmless prompts of the topic "
        "contrast come from elsewhere and differ in topic and style, while twins differ in harm "
        "alone. Where topic is high and twins stay near 0.5, that layer reads form rather than "
        "harm."
    )


def _legend(canvas: Canvas, layout: Layout) -> float:
    step = 20.0 if layout.compact else 26.0
    canvas.text(0, 14, "AUROC", "small")
    for i in range(HEAT_BINS):
        canvas.rect(52 + i * step, 4, step, 12, f"q{i}")
    for i, edge in enumerate(HEAT_EDGES):
        if i % 2 == 1 or i == 0:
            canvas.text(52 + (i + 1) * step, 30, f"{edge:g}", "tick", "middle")
    keys = [Key("missing", "", "hatch"), Key("read by the gate", "ink", "down")]
    if layout.compact:
        return legend(canvas, layout, keys, 34)
    group = Canvas(layout.width)
    legend(group, layout, keys, -2)
    canvas.hatched = canvas.hatched or group.hatched
    shift = 52 + HEAT_BINS * step + 34
    canvas.parts.append(f'<g transform="translate({shift:.0f},0)">{"".join(group.parts)}</g>')
    return 34


def _heat(
    canvas: Canvas,
    layout: Layout,
    origin: tuple[float, float],
    size: tuple[float, float],
    contrast: str,
    layers: Sequence[int],
    chosen: Sequence[int],
    groups: Sequence[TierGroup],
    cells: Cells,
    labelled: bool,
) -> None:
    """Draw one heatmap as one path per colour, which keeps 80 layers x 30 languages small."""
    (left, top), (width, row) = origin, size
    paths: dict[str, str] = {}
    gap = 0.6 if width > 5 else 0.0
    target = canvas if labelled else Canvas(layout.width)
    slots = language_rows(target, layout, groups, top - HEADING, row)
    for slot in slots:
        for i, layer in enumerate(layers):
            value = cells.get((contrast, slot.key, layer))
            name = "hatch" if value is None or is_missing(value) else f"q{heat_bin(value)}"
            x, w, h = left + i * width, width - gap, row - 1.0
            paths[name] = paths.get(name, "") + f"M{x:.1f},{slot.top:.1f}h{w:.1f}v{h:.1f}h{-w:.1f}z"
    for name, path in sorted(paths.items()):
        canvas.hatched = canvas.hatched or name == "hatch"
        canvas.add("path", name, d=path)
    y = slots[0].top if slots else top
    for i, layer in enumerate(layers):
        x = left + (i + 0.5) * width
        if layer in chosen:
            canvas.mark("down", x, y - 7, 3.5, "ink")
    stride = next(s for s in (1, 2, 5, 10, 20, 50, 1000) if s * width >= 24)
    for i, layer in enumerate(layers):
        if layer % stride == 0:
            canvas.text(left + (i + 0.5) * width, y - 15, str(layer), "tick", "middle")


def _tables(
    cells: Cells, contrasts: Sequence[str], layers: Sequence[int], groups: Sequence[TierGroup]
) -> tuple[Table, ...]:
    tables = []
    for contrast in contrasts:
        rows = []
        for group in groups:
            for code in group.languages:
                values = [cells.get((contrast, code, layer)) for layer in layers]
                if any(v is not None for v in values):
                    rows.append([language_label(code), *(decimal(v) for v in values)])
        columns = ["Language", *(str(layer) for layer in layers)]
        align = "l" + "r" * len(layers)
        title = f"{CONTRAST_NAMES.get(contrast, contrast)}, AUROC by layer"
        note = f"{MISSING}: not measured."
        tables.append(make(title, columns, align, rows, note))
    return tuple(tables)
