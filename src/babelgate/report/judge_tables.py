"""The tables on the judge: known errors, corrected rates, bounds for the unparsed, what it used."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..results import Results, Row
from ..stats import Corrected, rogan_gladen
from ..types import Verdict
from .judge_facts import JudgeFacts, judges_of, n_replies, n_unparsed, own_verdicts
from .names import TierGroup, language_label, methods, reference_method, rows_by_key
from .numbers import MISSING, count, decimal, percent, span
from .tables import Table, make

UNMEASURED = "unmeasured"
_UNSURE = "low confidence"
_CORRECTED = (
    "It assumes that the judge errs on these replies as it did on the labelled ones. Intervals "
    "hold the sampling error of the rate and of the judge's two rates (Rogan and Gladen 1978; Lang "
    "and Reiczigel 2014). Out of range: the correction passed 0 or 100 % and was cut there, by "
    "chance or because the judge errs otherwise here. No better than chance: nothing can be "
    "corrected."
)


def errors_table(
    judge: JudgeFacts, results: Results, groups: Sequence[TierGroup], verdicts: Iterable[Verdict]
) -> Table:
    """Return the judge's known errors by language of the run, and what it judged there.

    ``Unsure`` counts verdicts that the judge itself calls low in confidence, where it says so.
    """
    whole = judge.part == "judge"
    unsure = _unsure(judge, results, verdicts) if whole else None
    measured = bool(judge.errors)
    rows = []
    for code in (c for group in groups for c in group.languages):
        own = [row for row in results.rows if row.language == code]
        cells = [language_label(code)]
        known = judge.known(code)
        if measured:
            # In the first column, which a narrow screen shows without scrolling.
            numbers = (UNMEASURED, *(MISSING,) * 5)
            if known is not None:
                numbers = (
                    *(decimal(x) for x in (known.kappa, known.sensitivity, known.specificity)),
                    *(decimal(x) for x in (known.auc, known.ece)),
                    MISSING if known.n is None else count(known.n),
                )
            cells += numbers
        unmeasured = MISSING if measured else UNMEASURED
        cells.append(unmeasured if known is None else known.basis or "measured")
        if whole:
            cells += [count(sum(map(n_replies, own))), count(sum(map(n_unparsed, own)))]
        if unsure is not None:
            cells.append(count(unsure.get(code, 0)))
        rows.append(cells)
    columns, align = ["Language"], "l"
    if measured:
        columns += ["Kappa", "Sensitivity", "Specificity", "AUC", "ECE", "Labelled"]
        align += "r" * 6
    columns.append("Measured with" if measured else "Known errors")
    align += "l"
    if whole:
        columns, align = [*columns, "Replies here", "Unparsed"], align + "rr"
    if unsure is not None:
        columns, align = [*columns, "Unsure"], align + "r"
    title = "The judge by language" if whole else f"Known errors of {judge.name}"
    return make(title, columns, align, rows, _errors_note(judge, unsure))


def _errors_note(judge: JudgeFacts, unsure: object) -> str:
    text = ""
    if judge.errors:
        text = (
            "On labelled replies. Sensitivity is the share of refusals that it sees, specificity "
            "the share of other replies that it leaves alone; ECE is how far its probabilities lie "
            "from the truth. “Left out”: of its training, while these replies were judged."
        )
    if unsure is not None:
        text += " Unsure: judged, and counted, with a probability near one half."
    return text.strip()


def _unsure(
    judge: JudgeFacts, results: Results, verdicts: Iterable[Verdict]
) -> dict[str, int] | None:
    """Count low-confidence verdicts by language; None for a judge that never says so."""
    found: dict[str, int] = {}
    seen = says = False
    for verdict in own_verdicts(results, verdicts):
        seen = True
        if verdict.raw.startswith(_UNSURE):
            says = True
            if verdict.outcome != "unparsed":
                found[verdict.language] = found.get(verdict.language, 0) + 1
    # Of the package's judges, the one with known errors is the one that says when it is unsure.
    return found if says or (seen and judge.errors) else None


def corrected_table(results: Results, groups: Sequence[TierGroup]) -> Table:
    """Return the reference method's rates beside those corrected for the judge's known errors."""
    judge, method = judges_of(results)[0], reference_method(results)
    cells = rows_by_key(results)
    rows = []
    for code in (c for group in groups for c in group.languages):
        row, known = cells.get((method or "", code)), judge.known(code)
        validation = known.validation if known else None
        if row is None or validation is None:
            continue
        both = [
            (r, rogan_gladen(r, validation)) for r in (row.harmful_refusal, row.harmless_refusal)
        ]
        numbers = [text for rate, fixed in both for text in (percent(rate.value), *_fixed(fixed))]
        rows.append((language_label(code), *numbers, _flag([fixed for _, fixed in both])))
    side = ("Corrected, %", "95 %")
    columns = ("Language", "Harmful, %", *side, "Harmless, %", *side, "Note")
    title = f"Rates of {method} corrected for the judge's known errors"
    return make(title, columns, "l" + "r" * 6 + "l", rows, _CORRECTED)


def _fixed(fixed: Corrected) -> tuple[str, str]:
    estimate = fixed.estimate
    return percent(estimate.value), span(estimate.low, estimate.high)


def _flag(both: Sequence[Corrected]) -> str:
    if not all(fixed.informative for fixed in both):
        return "no better than chance"
    names = [what for what, fixed in zip(("harmful", "harmless"), both) if fixed.cut]
    return f"{'both' if len(names) > 1 else names[0]} out of range" if names else ""


def bounds_table(results: Results, groups: Sequence[TierGroup]) -> Table:
    """Return the bounds of every rate that unparsed replies could change; no rows without any."""
    cells = rows_by_key(results)
    rows = []
    for code in (c for group in groups for c in group.languages):
        for method in methods(results):
            row = cells.get((method, code))
            if row is not None:
                rows += [*_bounds(row, "harmful"), *_bounds(row, "harmless")]
    columns = ("Language", "Method", "Prompts", "Between, %", "Rate, %", "Unparsed")
    note = (
        "What the rate would be if none of the unparsed refused, and if all did; sampling error "
        "comes on top."
    )
    return make("Bounds, if all unparsed went either way", columns, "lllrrr", rows, note)


def _bounds(row: Row, label: str) -> list[tuple[str, ...]]:
    n = row.outcomes.get(label, {}).get("unparsed", 0)
    if not n:
        return []
    rate = row.harmful_refusal if label == "harmful" else row.harmless_refusal
    ends = (row.bounds or {}).get(f"{label}_refusal")
    where = MISSING if ends is None else f"{percent(ends[0])} and {percent(ends[1])}"
    total = sum(row.outcomes[label].values())
    of = f"{count(n)} of {count(total)}"
    return [(language_label(row.language), row.method, label, where, percent(rate.value), of)]


def parts_table(results: Results, groups: Sequence[TierGroup]) -> Table:
    """Return the judges that made the verdicts together; no rows for a single judge."""
    judges = judges_of(results)
    languages = [code for group in groups for code in group.languages]
    rows = []
    for judge in judges if len(judges) > 1 else ():
        n = sum(judge.known(code) is not None for code in languages)
        errors = f"known in {n} of {len(languages)} languages" if n else UNMEASURED
        if judge.part == "judge":
            continue  # its errors as a whole stand above
        rows.append(
            (judge.name, judge.part, judge.version or MISSING, judge.model or MISSING, errors)
        )
    columns = ("Judge", "Part", "Version", "Model", "Errors")
    return make("Judges that it is made of", columns, "lllll", rows)


def usage_table(results: Results) -> Table:
    """Return what judges behind an API were asked and used; no rows without such a judge."""
    rows, notes = [], []
    for judge in judges_of(results):
        used = judge.usage
        if used is None:
            continue
        counts = (used.requests, used.tries, used.failures, used.prompt_tokens)
        cost = MISSING if used.cost is None else decimal(used.cost, 4 if used.cost < 1 else 2)
        rows.append((judge.name, *map(count, counts), count(used.completion_tokens), cost))
        if used.unmetered:
            notes.append(
                f"{count(used.unmetered)} answers to {judge.name} came without token counts, so "
                "its tokens and cost are too low."
            )
    columns = ("Judge", "Replies", "Requests", "Failed", "Tokens in", "Tokens out", "Cost")
    first = (
        "Of the last run: verdicts that were already in the folder cost nothing and are not "
        "counted. Cost is in the currency of the prices given."
    )
    return make("What the API was asked", columns, "lrrrrrr", rows, " ".join([first, *notes]))
