"""From evidence to verdicts: each from an interval, never from a point value. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from ..errors import UserError
from ..types import Estimate
from .borders import ACTION, LEAST_GATE, REPRESENTATION, THRESHOLD, TWINS, UNDERSTANDING, Border
from .evidence import Evidence
from .results import Breaks, LanguageBreaks, Step, Verdict
from .words import decimal, number, percent, points, prompts_in_words, sentence


def breaks_of(evidence: Iterable[Evidence]) -> Breaks:
    """Return the table of all languages.

    Raises:
        UserError: if a language comes twice.
    """
    rows = tuple(what_breaks(e) for e in evidence)
    twice = [code for code, n in Counter(r.language for r in rows).items() if n > 1]
    if twice:
        raise UserError(f"language {twice[0]!r} has evidence twice; give each language once")
    return Breaks(rows)


def what_breaks(evidence: Evidence) -> LanguageBreaks:
    """Judge the four steps of one language.

    A verdict stands only if the whole interval lies on one side of each border of :data:`BORDERS`;
    otherwise it is ``unknown`` and :attr:`Step.possible` says what is left open.
    """
    steps = (
        _understanding(evidence),
        _representation(evidence),
        _threshold(evidence),
        _action(evidence, "base_selectivity", "the replies"),
    )
    repair = None
    if evidence.repaired_selectivity is not None:
        repair = _action(evidence, "repaired_selectivity", "the repaired model's replies")
    name = evidence.name or evidence.language
    return LanguageBreaks(
        evidence.language, name, steps, repair, sentence(name, evidence, steps, repair)
    )


def _possible(
    from_broken: tuple[float, float], from_fine: tuple[float, float]
) -> tuple[Verdict, ...]:
    """Return the verdicts that intervals of (measure - border) allow, worst first."""
    found: list[Verdict] = []
    if from_broken[0] < 0:
        found.append("broken")
    if from_broken[1] >= 0 and from_fine[0] < 0:
        found.append("weak")
    if from_fine[1] >= 0:
        found.append("fine")
    return tuple(found)


def _judge(name: str, estimate: Estimate, border: Border, evidence: str) -> Step:
    """Judge a measure of which more is better."""
    if math.isnan(estimate.low) or math.isnan(estimate.high):
        return _unknown(name, "it has no interval", evidence, estimate)
    # Values come from sums of floats: 0.7 reached by rounding is 0.7.
    low, high = estimate.low + 1e-12, estimate.high + 1e-12
    possible = _possible(
        (low - border.broken, high - border.broken), (low - border.fine, high - border.fine)
    )
    return _step(name, possible, estimate, evidence)


def _step(name: str, possible: tuple[Verdict, ...], estimate: Estimate, evidence: str) -> Step:
    verdict: Verdict = possible[0] if len(possible) == 1 else "unknown"
    why = ""
    if verdict == "unknown":
        # The middle one of three is implied.
        ends = dict.fromkeys((possible[0], possible[-1]))
        why = f"{' or '.join(ends)}: {prompts_in_words(estimate.n)} cannot tell"
    return Step(
        name,
        verdict,
        possible,
        estimate.value,
        estimate.low,
        estimate.high,
        estimate.n,
        why,
        evidence,
    )


def _unknown(name: str, why: str, evidence: str = "", known: Estimate | None = None) -> Step:
    possible: tuple[Verdict, ...] = ("broken", "weak", "fine")
    value = math.nan if known is None else known.value
    low, high = (math.nan, math.nan) if known is None else (known.low, known.high)
    n = 0 if known is None else known.n
    return Step(name, "unknown", possible, value, low, high, n, why, evidence)


def _missing(evidence: Evidence, *names: str) -> str:
    """Return why the first absent one of these measures is absent; empty if all are there."""
    for name in names:
        estimate = getattr(evidence, name)
        if estimate is None:
            return evidence.reasons.get(name, "not measured")
        if estimate.missing:
            return evidence.reasons.get(name, "nothing was scored")
    return ""


def _understanding(evidence: Evidence) -> Step:
    found, name = evidence.identification, "understanding"
    if evidence.language == evidence.pivot:
        why = "the language that the others are compared with"
        return Step(name, "fine", ("fine",), math.nan, math.nan, math.nan, 0, why, why)
    why = _missing(evidence, "identification")
    if why or found is None:
        return _unknown(name, why)
    chance = evidence.chance or 0.0
    words = f"translations found for {percent(found.value)} of {prompts_in_words(found.n)}"
    words += f", chance {percent(chance)}"
    if evidence.u_score is not None and not evidence.u_score.missing:
        words += f", U-score {decimal(evidence.u_score.value)}"
    above = _linear(found, 1 / (1 - chance), -chance / (1 - chance))
    return _judge(name, above, UNDERSTANDING, words)


def _representation(evidence: Evidence) -> Step:
    """Judge the AUROC, and lower the verdict where twins show that topic is what is read."""
    found, name = evidence.auroc, "representation"
    why = _missing(evidence, "auroc")
    if why or found is None:
        return _unknown(name, why)
    words = f"AUROC {decimal(found.value)} on {prompts_in_words(found.n)}"
    step = _judge(name, found, REPRESENTATION, words)
    twins = evidence.twins_auroc
    if twins is None or twins.missing:
        return step
    words += f", {decimal(twins.value)} on {twins.n} twins"
    other = _judge(name, twins, TWINS, words)
    if step.verdict == "fine" and other.verdict in ("weak", "broken"):
        return _step(name, other.possible, twins, f"{words}: part of what is read is topic")
    if step.verdict == "fine" and other.verdict == "unknown":
        words += ", too few to rule out that topic is read"
    elif other.verdict == "broken":
        return _step(name, ("broken",), twins, words)
    return Step(
        name, step.verdict, step.possible, step.value, step.low, step.high, step.n, step.why, words
    )


def _threshold(evidence: Evidence) -> Step:
    loss, name = evidence.threshold_loss, "threshold"
    source, own = evidence.balanced_source, evidence.balanced_own
    if loss is None and source is not None and own is not None:
        # As if independent: the two share prompts, so the interval is wider than need be.
        loss = _contrast(own, source, 1.0)
    if loss is None:
        missing = ("balanced_source", "balanced_own")
        return _unknown(name, _missing(evidence, *missing) or "not measured")
    if loss.missing:
        return _unknown(name, evidence.reasons.get("threshold_loss", "nothing was scored"))
    change = f"{points(abs(loss.value))}"
    words = f"its own would {'gain' if loss.value >= 0 else 'lose'} {change}"
    if source is not None and own is not None and not (source.missing or own.missing):
        words = f"balanced accuracy {decimal(source.value)} at the source threshold, "
        words += f"{decimal(own.value)} at its own"
    return _judge(name, _linear(loss, -1.0, 0.0), THRESHOLD, words)


def _action(evidence: Evidence, measure: str, whose: str) -> Step:
    """Judge the replies' share of the gate's selectivity, by contrasts instead of a ratio."""
    name = "action"
    why = _missing(evidence, "gate_selectivity", measure)
    gate, replies = evidence.gate_selectivity, getattr(evidence, measure)
    if why or gate is None:
        return _unknown(name, why)
    words = f"the gate separates by {points(gate.value)}, {whose} by {number(replies.value)}"
    if any(math.isnan(x) for e in (gate, replies) for x in (e.low, e.high)):
        return _unknown(name, "it has no interval", words)
    share = replies.value / gate.value if gate.value > 0 else math.nan
    n = min(gate.n, replies.n)
    if gate.low < LEAST_GATE:
        known = Estimate(share, math.nan, math.nan, n, n, 0, "share")
        why = f"the gate may separate by less than {points(LEAST_GATE)}: nothing to convert"
        return _unknown(name, why, words, known)
    broken, fine = (_contrast(replies, gate, b) for b in (ACTION.broken, ACTION.fine))
    possible = _possible((broken.low, broken.high), (fine.low, fine.high))
    # The ends of the share that both contrasts belong to, to first order: the gate held fixed.
    half = (fine.high - fine.value) / gate.value, (fine.value - fine.low) / gate.value
    shown = Estimate(share, share - half[1], share + half[0], n, n, 0, "share")
    return _step(name, possible, shown, words)


def _linear(estimate: Estimate, factor: float, shift: float) -> Estimate:
    ends = sorted(factor * x + shift for x in (estimate.low, estimate.high))
    if math.isnan(estimate.low) or math.isnan(estimate.high):
        ends = [math.nan, math.nan]
    e = estimate
    value = factor * e.value + shift
    return Estimate(value, ends[0], ends[1], e.n, e.n_groups, e.n_unscored, e.method)


def _contrast(a: Estimate, b: Estimate, factor: float) -> Estimate:
    """Return ``a - factor b`` with the hybrid interval of independent estimates.

    ``low = d - hypot(a - a.low, factor (b.high - b))``, and its mirror image (Newcombe 1998,
    Statistics in Medicine 17, 873-890); wider than need be where both rest on the same prompts.
    """
    value = a.value - factor * b.value
    low = value - math.hypot(a.value - a.low, factor * (b.high - b.value))
    high = value + math.hypot(a.high - a.value, factor * (b.value - b.low))
    n = min(a.n, b.n)
    return Estimate(value, low, high, n, min(a.n_groups, b.n_groups), 0, "newcombe")
