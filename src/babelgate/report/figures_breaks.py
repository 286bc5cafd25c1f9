"""What breaks where as a figure of verdicts, a table of sentences and words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..breaks import BORDERS, NOTHING, STEPS, UNDECIDED, Breaks, LanguageBreaks, Step
from .chart import Key, Slot, language_rows, legend, rows_height
from .figure import Figure, Layout
from .names import TierGroup, language_label, language_name
from .numbers import MISSING, decimal, listed, percent, points
from .svg import Canvas, text_width
from .tables import Table, make

_MOST_NAMED = 6
_THE = {"threshold": "the threshold"}
_STEP_NAMES = {
    "understanding": "Understanding",
    "representation": "Representation",
    "threshold": "Threshold",
    "action": "Action",
    "repair": "With the repair",
}
_SHORT_NAMES = {
    "understanding": "Prompt",
    "representation": "Harm",
    "threshold": "Thresh.",
    "action": "Action",
    "repair": "Repaired",
}
_MEASURES = {
    "understanding": "above chance, %",
    "representation": "AUROC",
    "threshold": "gain, points",
    "action": "of the gate, %",
    "repair": "of the gate, %",
}
#: Verdict -> colour class and shape, so that colour is never the only difference.
_LOOKS = {
    "fine": ("twins", "circle"),
    "weak": ("s2", "triangle"),
    "broken": ("harmful", "cross"),
    "unknown": ("s0", "bar"),
}


def breaks_words(breaks: Breaks) -> str:
    """Return which step breaks first in which languages, in one sentence."""
    by_step: dict[str, list[str]] = {}
    for row in breaks.rows:
        by_step.setdefault(row.diagnosis, []).append(language_name(row.language))
    parts = [
        f"{_THE.get(step, step)} breaks first in {_some(by_step[step])}"
        for step in STEPS
        if step in by_step
    ]
    if NOTHING in by_step:
        parts.append(f"no step is broken in {_some(by_step[NOTHING])}")
    if UNDECIDED in by_step:
        parts.append(f"too little was measured to tell in {_some(by_step[UNDECIDED])}")
    text = "; ".join(parts)
    doubted = [language_name(r.language) for r in breaks.rows if r.doubts and r.diagnosis in STEPS]
    if doubted:
        text += f". An earlier step may be broken too in {_some(doubted)}"
    return f"{text[:1].upper()}{text[1:]}."


def _some(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    shown = list(names[: _MOST_NAMED if more > 1 else len(names)])
    return listed(shown + ([f"{more} more"] if more > 1 else []))


def breaks_figure(rows: Mapping[str, LanguageBreaks], groups: Sequence[TierGroup]) -> Figure:
    """Draw a verdict per language and step; the first broken one has a frame."""
    columns = [*STEPS, *(["repair"] if any(r.repair for r in rows.values()) else [])]

    def draw(layout: Layout) -> Canvas:
        canvas = Canvas(layout.width)
        keys = [Key(verdict, *look) for verdict, look in _LOOKS.items()]
        top = legend(canvas, layout, [*keys, Key("first break", "ring", "square")])
        label = layout.label - (0 if layout.compact else 8)
        width = (layout.width - label) / len(columns)
        names = _SHORT_NAMES if layout.compact else _STEP_NAMES
        for i, column in enumerate(columns):
            x = label + i * width
            canvas.text(x, top + 24, names[column], "tick" if layout.compact else "panel")
            if not layout.compact:
                canvas.text(x, top + 40, _MEASURES[column], "tick")
        row = 40.0 if layout.compact else 34.0
        body = top + (22 if layout.compact else 38)
        for slot in language_rows(canvas, layout, groups, body, row):
            found = rows[slot.key]
            for i, column in enumerate(columns):
                step = found.repair if column == "repair" else found.step(column)
                if step is not None:
                    first = column == found.diagnosis
                    _chip(canvas, layout, slot, label + i * width, width, step, first)
        canvas.height = body + rows_height(groups, row) + 4
        return canvas

    caption = (
        "A verdict stands only where the whole 95\u202f% interval lies on one side of its borders; "
        "where it does not, what it leaves open is said instead (“weak or fine”). Understanding: "
        "share of prompts whose translation is found, with chance taken out. Representation: AUROC "
        "of harm on held-out prompts. Threshold: what the source threshold gains over the "
        "language's own, below 0 a loss. Action: how much of the gate's selectivity the replies "
        "show. The borders stand below."
    )
    title = "What breaks where"
    return Figure("breaks", title, caption, draw, (_verdicts_table(rows, groups, columns),))


def _chip(
    canvas: Canvas,
    layout: Layout,
    slot: Slot,
    left: float,
    width: float,
    step: Step,
    first: bool,
) -> None:
    css, shape = _LOOKS[step.verdict]
    hint = f"{slot.key}, {step.name}: {step.verdict}"
    hint += "".join(f"; {text}" for text in (step.evidence, step.why) if text)
    if layout.compact:
        if first:
            _frame(canvas, left - 3, slot.top + 3, width - 2, slot.height - 6)
        canvas.mark(shape, left + 8, slot.top + 13, 5, css, hint)
        # A verdict must fit the fifth of a phone's width.
        canvas.parts.append('<g font-size="10.5">')
        canvas.text(left, slot.top + 32, step.verdict)
        canvas.parts.append("</g>")
        return
    text = step.verdict
    if step.verdict == "unknown" and len(step.possible) == 2:
        text = " or ".join(step.possible)
    size = text_width(text, 12.5) + 32
    y = slot.middle - 11
    canvas.add("rect", css, hint, x=left, y=y, width=size, height=22, rx=11, fill_opacity=".16",
               stroke_width="2" if first else "0")  # fmt: skip
    canvas.mark(shape, left + 13, slot.middle, 4.5, css)
    canvas.text(left + 23, slot.middle + 4.3, text, "small")
    value = _value(step)
    if value != MISSING and left + size + 8 + text_width(value, 11.5) < left + width:
        canvas.text(left + size + 7, slot.middle + 4.3, value, "tick")


def _frame(canvas: Canvas, x: float, y: float, width: float, height: float) -> None:
    canvas.add("rect", "ring", x=x, y=y, width=width, height=height, rx=6)


def _value(step: Step) -> str:
    if step.name == "representation":
        return decimal(step.value)
    return points(step.value, 0) if step.name == "threshold" else percent(step.value, 0)


def _ends(step: Step) -> str:
    if math.isnan(step.low) or math.isnan(step.high):
        return MISSING
    write = decimal if step.name == "representation" else lambda v: percent(v, 0)
    return f"{write(step.low)} to {write(step.high)}"


def _verdicts_table(
    rows: Mapping[str, LanguageBreaks], groups: Sequence[TierGroup], columns: Sequence[str]
) -> Table:
    cells = []
    for code in (c for g in groups for c in g.languages):
        for column in columns:
            step = rows[code].repair if column == "repair" else rows[code].step(column)
            if step is None:
                continue
            n = str(step.n) if step.n else MISSING
            name = _STEP_NAMES[column]
            measure = f"{_value(step)}", _ends(step)
            cells.append([language_label(code), name, step.verdict, *measure, n, step.why])
    header = ("Language", "Step", "Verdict", "Measure", "95 %", "n", "Why")
    note = "; ".join(f"{_STEP_NAMES[c]}: {_MEASURES[c]}" for c in columns)
    return make("Verdicts", header, "lllrrrl", cells, f"{note}.")


def sentences_table(rows: Mapping[str, LanguageBreaks], groups: Sequence[TierGroup]) -> Table:
    """Return the evidence in words, a row per language."""
    said = {NOTHING: "Nothing is broken", UNDECIDED: "Undecided"}
    cells = []
    for code in (c for g in groups for c in g.languages):
        row = rows[code]
        head = said.get(row.diagnosis, f"Breaks at {row.diagnosis}")
        text = row.sentence.removeprefix(f"{row.name}: ")
        cells.append([language_label(code), f"{head}: {text}"])
    return make("In words", ("Language", "What breaks, and the evidence"), "ll", cells)


def borders_table() -> Table:
    """Return the borders of every step, with their reasons and sources."""
    rows = [
        (
            name.capitalize(),
            border.measure,
            decimal(border.fine),
            decimal(border.broken),
            border.reason,
            border.source,
        )
        for name, border in BORDERS.items()
    ]
    header = ("Step", "Measure", "Fine from", "Broken below", "Reason", "Source")
    return make("The borders of the verdicts", header, "llrrll", rows)
