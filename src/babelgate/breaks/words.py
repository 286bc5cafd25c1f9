"""The verdicts of one language in a sentence with their evidence."""

from __future__ import annotations

from collections.abc import Mapping

from .evidence import Evidence
from .results import Step, Verdict

_CLAUSES: Mapping[str, Mapping[str, str]] = {
    "understanding": {
        "fine": "the prompt is understood",
        "weak": "the prompt is understood in part",
        "broken": "the prompt is not understood",
        "unknown": "whether the prompt is understood is open",
        "holds": "the prompt is understood at least in part",
        "lacks": "the prompt is understood in part at best",
    },
    "representation": {
        "fine": "harm is represented",
        "weak": "harm is represented weakly",
        "broken": "harm is not represented",
        "unknown": "whether harm is represented is open",
        "holds": "harm is represented at least weakly",
        "lacks": "harm is represented weakly at best",
    },
    "threshold": {
        "fine": "the threshold is right",
        "weak": "the threshold is somewhat off",
        "broken": "the threshold is off",
        "unknown": "whether the threshold is right is open",
        "holds": "the threshold is somewhat off at most",
        "lacks": "the threshold is somewhat off at least",
    },
    "action": {
        "fine": "the decision becomes action",
        "weak": "the decision becomes action in part",
        "broken": "the decision does not become action",
        "unknown": "whether the decision becomes action is open",
        "holds": "the decision becomes action at least in part",
        "lacks": "the decision becomes action in part at best",
    },
}
_OPEN: Mapping[tuple[Verdict, ...], str] = {
    ("weak", "fine"): "holds",
    ("broken", "weak"): "lacks",
}


def _clause(step: Step) -> str:
    details = [text for text in (step.evidence, step.why) if text]
    if step.name == "understanding" and step.verdict == "fine" and step.why:
        details = [step.why]
    inside = "; ".join(details)
    # What an interval leaves open is said as far as it is known.
    key: str = step.verdict
    if step.possible in _OPEN:
        key = _OPEN[step.possible]
    text = _CLAUSES[step.name][key]
    return f"{text} ({inside})" if inside else text


def sentence(name: str, evidence: Evidence, steps: tuple[Step, ...], repair: Step | None) -> str:
    """Return what holds and what does not, step by step, with the evidence."""
    *first, last = (_clause(step) for step in steps)
    text = f"{name}: {', '.join(first)}, and {last}."
    harmful, harmless = evidence.base_harmful, evidence.base_harmless
    if harmful and harmless and not (harmful.missing or harmless.missing):
        text += f" Untouched, the model refuses {percent(harmful.value)} of harmful and "
        text += f"{percent(harmless.value)} of harmless prompts."
    repaired = evidence.repaired_selectivity
    if repair is not None and repaired is not None and not repaired.missing:
        text += f" Repaired, its replies separate by {points(repaired.value)}."
    return text


def percent(rate: float) -> str:
    """Return a share as a number of percent."""
    return f"{number(rate)}\u202f%"


def number(rate: float) -> str:
    """Return a share in hundredths, with a true minus sign."""
    return f"{100 * rate:.0f}".replace("-0", "0").replace("-", "−")


def points(difference: float) -> str:
    """Return a difference of shares in points."""
    written = number(difference)
    return f"{written} point" + ("" if written in ("1", "−1") else "s")


def decimal(value: float) -> str:
    """Return a number with two decimals."""
    return f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")


def prompts_in_words(n: int) -> str:
    """Return ``1 prompt`` or ``3 prompts``."""
    return "1 prompt" if n == 1 else f"{n} prompts"
