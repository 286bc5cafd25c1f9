"""Heat maps of numbers between languages: cosines by layer, transfer from each to each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from .chart import Key, legend
from .figure import Figure, Layout
from .matrices import Matrix, Ramp, matrix_table
from .names import language_name, tier_label
from .numbers import listed, percent, plural
from .svg import Canvas, shorten, text_width

_GAP = 6.0
_CROWDED = 15.0  # narrower columns have their codes aslant
_HEAD = 18.0
_WIDEST_CODE = 34.0  # on narrow screens longer names stand above their rows
_MOST_MULTIPLES = 12


def _caption(matrix: Matrix) -> str:
    text = matrix.caption
    if matrix.marked is not None:
        text += f" A triangle marks a number that {matrix.mark_label}."
    if matrix.n_missing:
        text += f" Hatched: {plural(matrix.n_missing, 'number')} missing"
        text += f" ({matrix.missing})." if matrix.missing else "."
    return text.strip()


def matrix_figure(matrix: Matrix) -> Figure:
    """Draw a heat map with its numbers in the cells, as far as there is room for them."""

    def draw(layout: Layout) -> Canvas:
        canvas = Canvas(layout.width)
        top = _ramp_legend(canvas, layout, matrix) + 10
        canvas.height = _map(canvas, layout, matrix, top)
        return canvas

    return Figure(matrix.name, matrix.title, _caption(matrix), draw, (matrix_table(matrix),))


def _ramp_legend(canvas: Canvas, layout: Layout, matrix: Matrix, top: float = 0) -> float:
    ramp = matrix.ramp
    steps, step = 11, 13.0 if layout.compact else 16.0
    low, high = matrix.written(ramp.low), matrix.written(ramp.high)
    start = text_width(low, 12) + 8
    canvas.text(0, top + 14, low, "tick")
    for i in range(steps):
        value = ramp.low + (ramp.high - ramp.low) * i / (steps - 1)
        _cell(canvas, (start + i * step, top + 4, step, 12), *ramp.shade(value))
    end = start + steps * step
    canvas.add("rect", "frame", x=start, y=top + 4, width=steps * step, height=12, fill="none")
    canvas.text(end + 8, top + 14, high, "tick")
    keys = []
    if matrix.n_missing:
        keys.append(Key("missing", "", "hatch"))
    if matrix.marked is not None:
        keys.append(Key(matrix.mark_label, "ink", "triangle"))
    if not keys:
        return top + 22
    if layout.compact:
        return legend(canvas, layout, keys, top + 22)
    inner = Canvas(layout.width)
    legend(inner, layout, keys, top - 2)
    canvas.hatched = canvas.hatched or inner.hatched
    shift = end + 8 + text_width(high, 12) + 24
    canvas.parts.append(f'<g transform="translate({shift:.0f},0)">{"".join(inner.parts)}</g>')
    return top + 22


def _cell(
    canvas: Canvas,
    box: tuple[float, float, float, float],
    css: str,
    opacity: float,
    hint: str = "",
) -> None:
    x, y, width, height = box
    canvas.add(
        "rect",
        css,
        hint,
        x=x,
        y=y,
        width=width,
        height=height,
        fill_opacity=f"{opacity:.3f}",
        stroke_width="0",
    )


def _map(canvas: Canvas, layout: Layout, matrix: Matrix, top: float) -> float:
    """Draw the map and return the y below it."""
    n_columns = len(matrix.column_codes)
    label = _label(layout, matrix)
    room = layout.width - label - _GAP * (len(matrix.columns) - 1)
    width = min(room / max(1, n_columns), 42.0 if layout.compact else 58.0)
    height = min(26.0, max(18.0, width)) if layout.compact else 26.0
    write = _writer(matrix, width)
    canvas.text(0, top + 12, shorten(matrix.axes, layout.width, 12), "tick")
    y = top + (28 if width < _CROWDED else 20)
    lefts = _columns(canvas, matrix, label, y + _HEAD - 4, width)
    y += _HEAD
    for group in matrix.rows:
        heading = 18.0 if len(matrix.rows) > 1 else 0.0
        if heading:
            canvas.text(0, y + 13, tier_label(group.tier), "tier")
        y += heading
        for code in group.languages:
            row = matrix.row_codes.index(code)
            if layout.compact and text_width(code, 12.5) > _WIDEST_CODE:
                canvas.text(0, y + 12, shorten(code, layout.width, 12), "small")
                y += 16
            else:
                _row_name(canvas, code, y + height / 2 + 4, label, layout.compact)
            boxes = [(x, y, width, height) for x in lefts]
            _row(canvas, matrix, row, boxes, write)
            y += height
        y += _GAP if not heading else 2.0
    return y + 2


def _label(layout: Layout, matrix: Matrix) -> float:
    """Return the room for the rows' names: codes alone on narrow screens."""
    if not layout.compact:
        return layout.label
    widths = [text_width(code, 12.5) for code in matrix.row_codes]
    return max((w for w in widths if w <= _WIDEST_CODE), default=0.0) + 8


def _row_name(canvas: Canvas, code: str, y: float, label: float, short: bool) -> None:
    name = language_name(code)
    if short or name == code:
        canvas.text(0, y, shorten(code, label - 6, 12), "small")
        return
    tail = f" ({code})"
    canvas.text(0, y, shorten(name, label - 10 - text_width(tail, 13), 13) + tail, "label")


def _columns(canvas: Canvas, matrix: Matrix, label: float, y: float, width: float) -> list[float]:
    """Write the columns' codes and return the cells' left edges."""
    x, lefts = label, []
    crowded = width < _CROWDED
    for group in matrix.columns:
        for code in group.languages:
            if crowded:
                place = f"translate({x + width / 2 + 4:.1f},{y:.1f}) rotate(-60)"
                canvas.parts.append(f'<g transform="{place}">')
                canvas.text(0, 0, shorten(code, 26, 11.5), "tick")
                canvas.parts.append("</g>")
            else:
                canvas.text(x + width / 2, y, shorten(code, width + 6, 11.5), "tick", "middle")
            lefts.append(x)
            x += width
        x += _GAP
    return lefts


def _writer(matrix: Matrix, width: float) -> Callable[[float], str] | None:
    """Return how numbers are written in cells of a width; None where none fits."""
    known = [v for row in matrix.values for v in row if not math.isnan(v)]
    full = [matrix.written(v) for v in known]
    if all(text_width(t, 12) + 4 <= width for t in full):
        return matrix.written
    if all(text_width(percent(v, 0), 10.5) + 2 <= width for v in known):
        return lambda v: percent(v, 0)
    return None


def _row(
    canvas: Canvas,
    matrix: Matrix,
    row: int,
    boxes: Sequence[tuple[float, float, float, float]],
    write: Callable[[float], str] | None,
) -> None:
    source = matrix.row_codes[row]
    size = 12.0 if write == matrix.written else 10.5
    texts = []
    for column, (x, y, width, height) in enumerate(boxes):
        value, target = matrix.values[row][column], matrix.column_codes[column]
        hint = f"{source}, {target}: "
        if math.isnan(value):
            canvas.hatch(x, y, width - 1, height - 1, hint + "missing")
            continue
        marked = matrix.is_marked(row, column)
        hint += matrix.written(value) + (f", {matrix.mark_label}" if marked else "")
        _cell(canvas, (x, y, width - 1, height - 1), *matrix.ramp.shade(value), hint)
        if marked:
            a = 6.0 if width > 30 else 4.0
            canvas.add("path", "ink", d=f"M{x + width - 1:.1f},{y:.1f}v{a:.1f}l{-a:.1f},{-a:.1f}z",
                       stroke_width="0")  # fmt: skip
        if write is not None:
            inner = Canvas(0)
            inner.text(
                x + (width - 1) / 2, y + height / 2 + size * 0.34, write(value), "", "middle"
            )
            texts += inner.parts
    canvas.parts.append(f'<g font-size="{size:g}" pointer-events="none">{"".join(texts)}</g>')


def layers_figure(
    matrices: Sequence[tuple[int, Matrix]], name: str, title: str, caption: str = ""
) -> Figure:
    """Draw one small heat map per layer, without numbers, all on the first one's ramp.

    At most twelve evenly spread layers are drawn; the caption says which are left out.

    Raises:
        ValueError: without matrices.
    """
    if not matrices:
        raise ValueError(f"{name}: small multiples need at least one matrix")
    n = len(matrices)
    kept = sorted({round(i * (n - 1) / (_MOST_MULTIPLES - 1)) for i in range(_MOST_MULTIPLES)})
    shown = list(matrices) if n <= _MOST_MULTIPLES else [matrices[i] for i in kept]
    left_out = [str(layer) for layer, _ in matrices if layer not in {s for s, _ in shown}]
    first = matrices[0][1]

    def draw(layout: Layout) -> Canvas:
        canvas = Canvas(layout.width)
        top = _ramp_legend(canvas, layout, first) + 8
        columns = 2 if layout.compact else 4
        gutter = 16.0 if layout.compact else 24.0
        pitch = (layout.width + gutter) / columns
        size = min(pitch - gutter, max(72.0, 24.0 * len(first.row_codes)))
        for i, (layer, matrix) in enumerate(shown):
            x = (i % columns) * pitch
            y = top + (i // columns) * (size + 26)
            canvas.text(x, y + 13, f"Layer {layer}", "panel")
            _small(canvas, matrix, first.ramp, x, y + 19, size)
        canvas.height = top + math.ceil(len(shown) / columns) * (size + 26) + 2
        return canvas

    order = listed([language_name(c) for c in first.row_codes])
    text = f"{caption} Languages from top to bottom and left to right: {order}."
    if left_out:
        text += f" {plural(len(left_out), 'layer')} between them left out of the picture."
    return Figure(name, title, text.strip(), draw, tuple(matrix_table(m) for _, m in shown))


def _small(
    canvas: Canvas, matrix: Matrix, ramp: Ramp, left: float, top: float, size: float
) -> None:
    """Draw a map as one path per shade, which keeps twelve maps of 23 languages small."""
    n = max(len(matrix.row_codes), len(matrix.column_codes), 1)
    gaps = 3.0 * (max(len(matrix.rows), len(matrix.columns)) - 1)
    cell = (size - gaps) / n
    paths: dict[tuple[str, str], str] = {}
    places = [
        [(3.0 * i + cell * sum(len(g.languages) for g in groups[:i]) + cell * j)
         for i, group in enumerate(groups) for j in range(len(group.languages))]
        for groups in (matrix.rows, matrix.columns)
    ]  # fmt: skip
    for row, y in enumerate(places[0]):
        for column, x in enumerate(places[1]):
            value = matrix.values[row][column]
            key = ("hatch", "1")
            if not math.isnan(value):
                css, opacity = ramp.shade(value)
                key = (css, f"{opacity:.2f}")
            box = f"M{left + x:.1f},{top + y:.1f}h{cell:.2f}v{cell:.2f}h{-cell:.2f}z"
            paths[key] = paths.get(key, "") + box
    for (css, opacity), path in sorted(paths.items()):
        canvas.hatched = canvas.hatched or css == "hatch"
        canvas.add("path", css, d=path, fill_opacity=opacity, stroke_width="0")
    canvas.add("rect", "frame", x=left, y=top, width=size, height=size, fill="none")
