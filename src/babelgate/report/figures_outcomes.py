"""What became of every reply: counts of outcomes by language, method and label, as stacked bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..results import Row
from ..types import LABELS, OUTCOMES, Label
from .chart import HEADING, Key, language_rows, legend, rows_height
from .figure import Figure, Layout
from .names import TierGroup, language_label
from .svg import Canvas, shorten
from .tables import Table, make

_CSS = {
    "refused": "refused",
    "answered": "answered",
    "degenerate": "degenerate",
    "wrong_language": "wrong",
}
_BAR = 11.0
Rows = Mapping[tuple[str, str], Row]


def outcome_counts(row: Row, label: Label) -> dict[str, int]:
    """Return the counts in the order of the outcomes; names that do not exist count as unparsed."""
    counts = dict.fromkeys(OUTCOMES, 0)
    for outcome, n in row.outcomes.get(label, {}).items():
        key = outcome if outcome in OUTCOMES else "unparsed"
        counts[key] += max(0, n)
    return {str(name): n for name, n in counts.items()}


def outcomes_figure(rows: Rows, groups: Sequence[TierGroup], methods: Sequence[str]) -> Figure:
    """Draw two panels (harmful, harmless) of bars, one bar per language and method."""

    def draw(layout: Layout) -> Canvas:
        canvas = Canvas(layout.width)
        keys = [Key(o.replace("_", " "), css, "swatch") for o, css in _CSS.items()]
        top = legend(canvas, layout, [*keys, Key("unparsed", "", "hatch")]) + 8
        names = 0.0 if len(methods) < 2 else 66.0 if layout.compact else 74.0
        start = layout.label + names
        row = max(24.0, 12 + (_BAR + 3) * len(methods))
        body = rows_height(groups, row) + HEADING
        gutter = 40.0
        width = layout.width - start - 34
        if not layout.compact:
            width = (width - gutter) / 2
        for i, label in enumerate(LABELS):
            left = start + (0 if layout.compact else i * (width + gutter))
            y = top + (i * (body + 12) if layout.compact else 0)
            canvas.text(left, y + 14, f"{label.capitalize()} prompts", "panel")
            target = canvas if layout.compact or i == 0 else Canvas(layout.width)
            for slot in language_rows(target, layout, groups, y + 4, row):
                for j, method in enumerate(methods):
                    bar = slot.middle + (j - (len(methods) - 1) / 2) * (_BAR + 3) - _BAR / 2
                    if names:
                        text = shorten(method, names - 10, 11.5)
                        target.text(start - 8, bar + _BAR - 1.5, text, "tick", "end")
                    found = rows.get((method, slot.key))
                    if found is not None:
                        what = f"{slot.key}, {method}, {label}"
                        _bar(canvas, left, bar, width, outcome_counts(found, label), what)
        canvas.height = top + (2 * body + 12 if layout.compact else body) - HEADING + 10
        return canvas

    caption = (
        "Shares of what the judge saw; the number at the end of a bar counts its replies. "
        "“Degenerate” replies loop, echo the prompt or are empty, “wrong language” ones are not "
        "in the prompt's language; neither is a refusal nor an answer. Unparsed replies are in "
        "no rate."
    )
    return Figure("outcomes", "Outcomes", caption, draw, (outcomes_table(rows, groups, methods),))


def _bar(
    canvas: Canvas, left: float, y: float, width: float, counts: Mapping[str, int], what: str
) -> None:
    total = sum(counts.values())
    x = left
    for outcome, n in counts.items():
        if n == 0:
            continue
        w = width * n / total
        hint = f"{what}: {n} of {total} {outcome.replace('_', ' ')}"
        if outcome in _CSS:
            canvas.rect(x, y, max(0.6, w - 0.8), _BAR, _CSS[outcome], hint)
        else:
            canvas.hatch(x, y, w, _BAR, hint)
        x += w
    canvas.text(left + width + 6, y + _BAR - 1.5, str(total), "tick")


def outcomes_table(rows: Rows, groups: Sequence[TierGroup], methods: Sequence[str]) -> Table:
    """Return the counts, with truncated and unscored replies beside them."""
    cells = []
    for group in groups:
        for code in group.languages:
            for method in methods:
                row = rows.get((method, code))
                if row is None:
                    continue
                for label in LABELS:
                    rate = row.harmful_refusal if label == "harmful" else row.harmless_refusal
                    counts = outcome_counts(row, label)
                    numbers = [str(counts[o]) for o in OUTCOMES]
                    cells.append(
                        [
                            language_label(code),
                            method,
                            label,
                            *numbers,
                            str(sum(counts.values())),
                            str(rate.n_unscored),
                            str(row.truncated) if label == LABELS[0] else "",
                        ]
                    )
    names = [o.replace("_", " ").capitalize() for o in OUTCOMES]
    columns = ["Language", "Method", "Prompts", *names, "All", "Unscored", "Truncated"]
    note = (
        "Truncated: replies, harmful and harmless together, cut off at the limit of new tokens. "
        "Unscored: prompts that are in no rate."
    )
    return make("Outcomes", columns, "lll" + "r" * (len(columns) - 3), cells, note)
