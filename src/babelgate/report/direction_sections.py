"""The sections on refusal directions: selection, transfer, native against transferred."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from ..languages import tier
from ..transfer.results import EFFECTS, MAIN, MEAN, Cell, Effect, Evidence, Transfer
from .figures_maps import Maps, ScoreMap
from .geometry_sections import Skipped
from .matrices import Matrix, Ramp, groups_of
from .names import language_label, language_name
from .numbers import MISSING, decimal, p_value, plural, points
from .sections import Section
from .selections import SelectionView
from .tables import Table, make

_EFFECTS: dict[Effect, str] = {
    "ablate_harmful": "Harmful prompts, direction projected out",
    "add_harmless": "Harmless prompts, direction added",
    "ablate_harmless": "Harmless prompts, direction projected out",
    "add_harmful": "Harmful prompts, direction added",
}
_STATUS = {
    "selected": "selected",
    "none_passes": "no candidate passes",
    "no_tokens": "no refusal tokens",
    "never_refuses": "never refuses",
    "refuses_everything": "refuses everything",
    "too_few_examples": "too few examples",
}


def selection_maps(selections: Sequence[SelectionView]) -> Iterable[Maps]:
    """Yield each language's score maps, with the chosen candidate and what was filtered out."""
    for found in selections:
        if not found.positions:
            continue
        yield Maps(
            f"selection-{found.language}",
            language_name(found.language),
            tuple(
                f"{text.strip() or repr(text)[1:-1]} ({position})"
                for text, position in zip(found.token_texts, found.positions)
            ),
            tuple(range(len(found.bypass[0]))),
            (
                ScoreMap("bypass", found.bypass, "low", "log-odds of refusal"),
                ScoreMap("induce", found.induce, "high", "log-odds of refusal", found.min_induce),
                ScoreMap("KL", found.kl, "low", "nats", found.max_kl),
            ),
            found.kept,
            found.chosen_place,
            f"{_sentence(found.words)} Layers count the block that reads the state.",
        )


def selection_table(selections: Sequence[SelectionView]) -> Table:
    """Return what was selected in each language, from how many prompts, by which tokens."""
    rows = []
    for found in selections:
        chosen, tokens = found.chosen or {}, found.tokens
        judged = tokens["n_refused"] + tokens["n_other"]
        place = f"{chosen['position']}, block {chosen['layer'] - 1}" if chosen else MISSING
        rows.append(
            [
                language_label(found.language),
                _STATUS.get(found.status, found.status),
                found.contrast.replace("-", " and "),
                place,
                decimal(chosen.get("bypass")),
                decimal(chosen.get("induce")),
                decimal(chosen.get("kl"), 3),
                f"{tokens['n_refused']} of {judged}",
                " ".join(repr(t) for t in tokens["texts"][:6]) or MISSING,
                "borrowed" if tokens["borrowed"] else "own",
            ]
        )
    columns = ["Language", "Status", "Contrast", "Chosen", "Bypass", "Induce", "KL",
               "Replies refused", "Refusal tokens", "Tokens"]  # fmt: skip
    return make(
        "Refusal directions by language",
        columns,
        "llllrrrrll",
        rows,
        "Bypass and induce are mean log-odds of a refusal’s first token on validation prompts.",
    )


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:].rstrip('.')}."


def transfer_matrices(transfer: Transfer) -> Iterable[Matrix]:
    """Yield a matrix per effect and kind of evidence: replies before first tokens."""
    kinds: tuple[Evidence, ...] = ("replies", "first_token")
    for evidence in kinds:
        effects: tuple[Effect, ...] = (*MAIN, *(e for e in EFFECTS if e not in MAIN))
        for effect in effects:
            cells = [c for c in transfer.cells if c.effect == effect and c.evidence == evidence]
            if any(not math.isnan(c.estimate.value) for c in cells):
                yield _matrix(transfer, cells, effect, evidence)


def _matrix(
    transfer: Transfer, cells: Sequence[Cell], effect: Effect, evidence: Evidence
) -> Matrix:
    # The mean of other languages' directions has a row only where there is such a direction.
    empty = all(math.isnan(c.estimate.value) for c in cells if c.source == MEAN)
    cells = [c for c in cells if c.source != MEAN or not empty]
    rows = list(dict.fromkeys(c.source for c in cells))
    columns = list(dict.fromkeys(c.target for c in cells))
    found = {(c.source, c.target): c for c in cells}
    row_groups = groups_of(tuple(rows), {x: MEAN if x == MEAN else tier(x) for x in rows})
    column_groups = groups_of(tuple(columns), {x: tier(x) for x in columns})
    rows = [x for g in row_groups for x in g.languages]
    columns = [x for g in column_groups for x in g.languages]
    values = [[_value(found.get((a, b))) for b in columns] for a in rows]
    known = [abs(v) for row in values for v in row if not math.isnan(v)]
    most = max(known, default=1.0) or 1.0
    reasons = {c.reason for c in cells if c.reason}
    replies = evidence == "replies"
    what = (
        "Change of the refusal rate, in points"
        if replies
        else "Change of the log-odds of a refusal’s first token, in nats"
    )
    return Matrix(
        f"transfer-{effect}-{evidence}".replace("_", "-"),
        f"{_EFFECTS[effect]} ({evidence.replace('_', ' ')})",
        "direction of",
        "prompts in",
        row_groups,
        column_groups,
        values,
        Ramp(-1.0, 1.0) if replies else Ramp(-most, most),
        "points" if replies else "decimal",
        f"{what}, against the untouched model on the same prompts.",
        [[_counts(found.get((a, b))) for b in columns] for a in rows],
        "exceeds every control, with an interval that leaves 0 out",
        "; ".join(sorted(reasons)),
    )


def _value(cell: Cell | None) -> float:
    return math.nan if cell is None else cell.estimate.value


def _counts(cell: Cell | None) -> bool:
    # Where controls change no reply at all, one reply exceeds them: that alone says nothing.
    if cell is None or cell.exceeds is not True:
        return False
    return cell.estimate.low > 0 or cell.estimate.high < 0


def native_section(transfer: Transfer) -> Section | None:
    """Return each language's own direction against transferred ones, in words and as a table."""
    known = [a for a in transfer.native if not math.isnan(a.difference.value)]
    if not known:
        return None
    rows = [
        [
            language_label(a.target),
            f"{a.rival}: {language_name(a.source) if a.rival != MEAN else 'all others'}",
            _EFFECTS[a.effect],
            "replies" if a.evidence == "replies" else "first token",
            _change(a.native, a.evidence),
            _change(a.other, a.evidence),
            f"{_change(a.difference.value, a.evidence)} "
            f"({_change(a.difference.low, a.evidence)} to "
            f"{_change(a.difference.high, a.evidence)})",
            p_value(a.p_holm),
        ]
        for a in known
    ]
    table = make(
        "Native against transferred directions",
        ["Language", "Against", "Effect", "Evidence", "Native", "Other", "Native better by",
         "Holm p"],
        "llllrrrr",
        rows,
        "Replies in points of the refusal rate, first tokens in nats of log-odds.",
    )  # fmt: skip
    first = [a for a in known if a.rival == "reference" and a.target != a.source]
    return Section(
        "native",
        "Native",
        "Native or transferred",
        "Where a language’s own direction does more than the reference’s, the reference’s does not "
        "stand for it.",
        tables=(table,),
        words=tuple(dict.fromkeys(a.words for a in first)),
        limits=tuple(("Transfer", f"{n[:1].upper()}{n[1:]}.") for n in transfer.notes),
    )


def _change(value: float, evidence: Evidence) -> str:
    return points(value, 0) if evidence == "replies" else decimal(value)


def not_selected(selections: Sequence[SelectionView]) -> Iterable[Skipped]:
    """Yield the languages without a direction, and why."""
    for found in selections:
        if not found.found:
            yield Skipped(f"refusal direction of {language_label(found.language)}", found.words)


def selected_words(selections: Sequence[SelectionView]) -> str:
    """Say in how many languages a direction was found, and how many contrast harm instead."""
    made = [s for s in selections if s.found]
    marked = [s.language for s in made if s.contrast == "harmful-harmless"]
    text = f"A direction was selected in {len(made)} of {plural(len(selections), 'language')}"
    if marked:
        text += (
            f"; in {', '.join(map(language_name, marked))} from harmful against harmless prompts, "
            "since the model refuses too few or too many there"
        )
    return text + "."
