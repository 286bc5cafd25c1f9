"""The report's opening paragraph: what the numbers say, in words, and no more than they say."""

from __future__ import annotations

from collections.abc import Sequence

from ..results import Comparison, Diagnosis, Results, Row
from .harm_or_form import readings
from .judge_words import judge_warning
from .language_gaps import paired_gap
from .names import group_label, language_name, methods, reference_method
from .numbers import count, in_words, listed, p_value, percent, plural, points
from .result_tables import reading_of

_MOST_METHODS = 3
_UNIT = {
    "harmful_refusal": "refusal of harmful prompts",
    "harmless_refusal": "refusal of harmless prompts",
    "selectivity": "selectivity",
}


def summarise(results: Results, diagnosis: Diagnosis | None) -> list[str]:
    """Return the sentences of the summary, grouped into short paragraphs."""
    reference = reference_method(results)
    if reference is None:
        return ["results.json holds no rows: nothing was measured."]
    rows = [r for r in results.rows if r.method == reference]
    paragraphs = [_gap(results, rows, reference)]
    paragraphs += _changes(results, reference)
    gate = _reads(diagnosis)
    if gate:
        paragraphs.append(gate)
    doubts = [text for text in (judge_warning(results), _missing(results)) if text]
    if doubts:
        paragraphs.append(" ".join(doubts))
    return paragraphs


def _gap(results: Results, rows: Sequence[Row], reference: str) -> str:
    scored = [r for r in rows if not r.harmful_refusal.missing]
    if not scored:
        return f"No reply of “{reference}” to a harmful prompt could be scored."
    english = next((r for r in scored if r.language == "en"), None)
    top = english or max(scored, key=lambda r: r.harmful_refusal.value)
    low = min(scored, key=lambda r: r.harmful_refusal.value)
    place = language_name(top.language)
    # A reference other than 'base' (a run without the untouched model) is named.
    who = "The model" if reference == "base" else f"With “{reference}” the model"
    first = in_words(top.harmful_refusal).replace("(", "(95\u202f% interval ")
    text = f"{who} refuses {first} of harmful prompts in {place}"
    gap = top.harmful_refusal.value - low.harmful_refusal.value
    if len(scored) == 1:
        text += "."
    elif low is top or gap <= 0:
        text += ", the lowest rate of the languages measured."
    else:
        text += f" and {in_words(low.harmful_refusal)} in {language_name(low.language)}, the lowest"
        text += f" of {plural(len(scored), 'language')}: a gap of {_points_words(gap)}."
        paired = paired_gap(results, reference, low.language) if top is english else ""
        if paired:
            text += f" {paired}"
        elif low.harmful_refusal.high >= top.harmful_refusal.low:
            text += " The two intervals overlap, so the order may be noise."
    return " ".join([text, *_tiers(results, reference), *_harmless(rows)])


def _points_words(gap: float) -> str:
    written = percent(gap, 0)
    return f"{written} point" + ("" if written == "1" else "s")


def _tiers(results: Results, reference: str) -> list[str]:
    macro = {m.group: m.harmful_refusal for m in results.macro if m.method == reference}
    high, low = macro.get("high"), macro.get("low")
    if high is None or low is None or high.missing or low.missing:
        return []
    return [
        f"On average it refuses {in_words(high)} in high-resource and {in_words(low)} in "
        "low-resource languages."
    ]


def _harmless(rows: Sequence[Row]) -> list[str]:
    scored = [r for r in rows if not r.harmless_refusal.missing]
    if not scored:
        return ["Refusal of harmless prompts was not measured."]
    most = max(scored, key=lambda r: r.harmless_refusal.value)
    text = f"Of harmless prompts it refuses {in_words(most.harmless_refusal)} in "
    text += language_name(most.language)
    english = next((r for r in scored if r.language == "en"), None)
    if len(scored) > 1:
        text += ", the most"
        if english is not None and english is not most:
            text += f", and {in_words(english.harmless_refusal)} in English"
    return [text + "."]


def _changes(results: Results, reference: str) -> list[str]:
    others = [m for m in methods(results) if m != reference]
    sentences = [_change(results, reference, m) for m in others[:_MOST_METHODS]]
    if len(others) > _MOST_METHODS:
        sentences.append(f"{plural(len(others) - _MOST_METHODS, 'more method')} compared below.")
    return sentences


def _change(results: Results, reference: str, method: str) -> str:
    found = [c for c in results.comparisons if (c.a, c.b) == (reference, method)]
    group = "all" if any(c.group == "all" for c in found) else found[0].group if found else ""
    by_metric = {c.metric: c for c in found if c.group == group}
    parts = [_effect(by_metric[m], words) for m, words in _UNIT.items() if m in by_metric]
    if not parts:
        return f"No paired comparison of “{method}” with “{reference}” was made."
    over = "all languages together" if group == "all" else group_label(group)
    return f"With “{method}”, over {over}: {'; '.join(parts)}."


def _effect(comparison: Comparison, words: str) -> str:
    reading = reading_of(comparison)
    if reading == "not measured":
        return f"{words} not measured"
    inside = f"{points(comparison.low)} to {points(comparison.high)}"
    if comparison.p_holm is not None:
        written = p_value(comparison.p_holm)
        inside += f", Holm p {written}" if written.startswith("<") else f", Holm p = {written}"
    numbers = f"{points(comparison.delta)} points ({inside})"
    if reading in ("higher", "lower"):
        return f"{words} is {reading} by {numbers.lstrip('+−')}"
    return f"{reading} in {words}: {numbers}"


def _reads(diagnosis: Diagnosis | None) -> str:
    if diagnosis is None or not diagnosis.contrasts:
        return ""
    found = readings(diagnosis.contrasts).values()
    by_kind = {
        kind: [language_name(r.language) for r in found if r.kind == kind]
        for kind in ("harm", "form", "unsure", "unknown")
    }
    words = {
        "harm": "The gate tells harm from its harmless twins in {}",
        "form": "nothing shows that it reads harm rather than form in {}",
        "unsure": "the twins leave it undecided in {}",
        "unknown": "twins were not tested in {}",
    }
    parts = [words[k].format(_some(names)) for k, names in by_kind.items() if names]
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _some(names: list[str]) -> str:
    return listed(names) if len(names) <= 6 else plural(len(names), "language")


def _missing(results: Results) -> str:
    unscored = sum(
        r.harmful_refusal.n_unscored + r.harmless_refusal.n_unscored for r in results.rows
    )
    empty = [
        f"{language_name(r.language)} ({r.method})"
        for r in results.rows
        if r.harmful_refusal.missing or r.harmless_refusal.missing
    ]
    parts = []
    if unscored:
        verb = "was" if unscored == 1 else "were"
        parts.append(f"{_replies(unscored)} {verb} not scored and count in no rate.")
    if empty:
        parts.append(f"Rates are missing, not zero, for {_some(empty)}.")
    return " ".join(parts)


def _replies(n: int) -> str:
    return "1 reply" if n == 1 else f"{count(n)} replies"
