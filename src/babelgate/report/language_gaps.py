"""Each language against English on translations of the same prompts: as a table and in words."""

from __future__ import annotations

from collections.abc import Sequence

from ..results import LanguageComparison, Results
from .names import TierGroup, language_label, language_name
from .numbers import MISSING, is_missing, listed, p_value, percent, points
from .result_tables import NOISE, UNCORRECTED, metric_label, reading_of, short_reading
from .tables import Table, make

_MOST = 6
_PROMPTS = {"harmful_refusal": "harmful prompts", "harmless_refusal": "harmless prompts"}
_NOTE = (
    "Paired: only prompts whose translations were scored in both languages. The interval and its p "
    "value come from a bootstrap over prompts, Holm's correction is over all languages and methods "
    "of one metric, and McNemar's exact test looks at the pairs that differ."
)


def language_table(
    results: Results,
    groups: Sequence[TierGroup],
    *,
    method: str | None = None,
    metric: str | None = None,
) -> Table:
    """Return the comparisons of languages, of one method and one metric or of all."""
    places = {code: i for i, code in enumerate(c for group in groups for c in group.languages)}
    chosen = [
        c
        for c in results.language_comparisons
        if method in (None, c.method) and metric in (None, c.metric)
    ]
    rows = []
    for c in sorted(chosen, key=lambda c: places.get(c.b, len(places))):
        named = [*([] if method else [c.method]), *([] if metric else [metric_label(c.metric)])]
        rows.append([language_label(c.b), *named, *_numbers(c)])
    first = ["Language", *([] if method else ["Method"]), *([] if metric else ["Metric"])]
    columns = [*first, "Difference, points", "95 %", "McNemar p", "p", "Holm p"]
    columns += ["Pairs", "Unmatched", "Reading"]
    title = f"Each language against {_reference(results)}"
    title += f": {metric_label(metric) if metric else 'every metric'}"
    title += f", {method}" if method else ", every method"
    return make(title, columns, "l" * len(first) + "r" * 7 + "l", rows, _NOTE)


def _numbers(c: LanguageComparison) -> tuple[str, ...]:
    return (
        points(c.delta),
        MISSING if is_missing(c.low) else f"{points(c.low)} to {points(c.high)}",
        p_value(c.p_mcnemar),
        p_value(c.p),
        p_value(c.p_holm),
        str(c.n),
        str(c.n_unmatched),
        short_reading(c),
    )


def language_words(results: Results, method: str) -> tuple[str, ...]:
    """Return what the comparisons of one method show, a sentence for each kind of prompt."""
    found = []
    for metric, prompts in _PROMPTS.items():
        own = [c for c in results.language_comparisons if (c.method, c.metric) == (method, metric)]
        if own:
            found.append(_sentence(own, prompts, _reference(results)))
    return tuple(found)


def paired_gap(results: Results, method: str, language: str) -> str:
    """Return the paired harmful gap of one language for the summary; empty where there is none."""
    for c in results.language_comparisons:
        if (c.method, c.b, c.metric) != (method, language, "harmful_refusal"):
            continue
        reading = reading_of(c)
        if reading == "not measured":
            return ""
        text = f"{points(c.delta, 0)} points ({points(c.low, 0)} to {points(c.high, 0)}"
        if c.p_holm is not None:
            text += f", Holm p {_equals(c.p_holm)}"
        tail = "" if reading in ("higher", "lower") else f": {reading}"
        return (
            f"On the {c.n} prompts scored in both, {language_name(c.b)} differs from "
            f"{language_name(c.a)} by {text}){tail}."
        )
    return ""


def _equals(p: float) -> str:
    written = p_value(p)
    return written if written.startswith("<") else f"= {written}"


def _reference(results: Results) -> str:
    return language_name(next((c.a for c in results.language_comparisons), "en"))


def _sentence(own: Sequence[LanguageComparison], prompts: str, reference: str) -> str:
    by_reading: dict[str, list[LanguageComparison]] = {}
    for c in own:
        by_reading.setdefault(reading_of(c), []).append(c)
    parts = []
    for reading, word in (("lower", "less"), ("higher", "more")):
        some = sorted(by_reading.get(reading, ()), key=lambda c: -abs(c.delta or 0.0))
        if some:
            parts.append(f"refused {word} often in {_named(some)}")
    for reading, words in (
        (NOISE, "no difference distinguishable from noise in {}"),
        (UNCORRECTED, "a difference that does not hold after Holm's correction in {}"),
        ("not measured", "not measured in {}"),
    ):
        some = by_reading.get(reading, ())
        if some:
            names = [language_name(c.b) for c in some]
            parts.append(words.format(_few(names)))
    where = f"Against {reference}, on translations of the same {prompts}"
    return f"{where}: {'; '.join(parts)}."


def _named(some: Sequence[LanguageComparison]) -> str:
    sizes = [percent(abs(c.delta or 0.0), 0) for c in some]
    sizes[0] = f"by {sizes[0]} points"  # said once, then understood
    return _few([f"{language_name(c.b)} ({size})" for c, size in zip(some, sizes)])


def _few(names: list[str]) -> str:
    if len(names) > _MOST + 1:
        names = [*names[:_MOST], f"{len(names) - _MOST} more"]
    return listed(names)
