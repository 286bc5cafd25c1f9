"""Names and order: languages by tier, then by refusal; methods with the untouched model first."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import LanguageError
from ..languages import language
from ..results import Diagnosis, Results, Row

BASE = "base"
TIERS = ("high", "mid", "low")


@functools.cache
def language_name(code: str) -> str:
    """Return the English name of a language, or the code itself where it is not known."""
    try:
        return language(code).name
    except LanguageError:
        return code


def language_label(code: str) -> str:
    """Return ``Yoruba (yo)``, or the code alone where the name is not known."""
    name = language_name(code)
    return code if name == code else f"{name} ({code})"


def tier_label(tier: str) -> str:
    """Return the heading of a tier."""
    return {
        "high": "High-resource",
        "mid": "Mid-resource",
        "low": "Low-resource",
        "unlisted": "Not in a tier",
    }.get(tier, tier.capitalize() or "Unknown tier")


def group_label(group: str) -> str:
    """Return what a number is taken over: all languages, a tier, one language, or a role."""
    if group == "all":
        return "All languages"
    if group in TIERS:
        return tier_label(group)
    label = language_label(group)
    return group.capitalize() if label == group else label


@dataclass(frozen=True)
class TierGroup:
    """The languages of one tier, in the order in which every figure and table shows them."""

    tier: str
    languages: tuple[str, ...]


def methods(results: Results) -> tuple[str, ...]:
    """Return the methods in order of appearance, the untouched model first."""
    found = dict.fromkeys(row.method for row in results.rows)
    return tuple(sorted(found, key=lambda m: m != BASE))


def rows_by_key(results: Results) -> dict[tuple[str, str], Row]:
    """Return the rows by (method, language)."""
    return {(row.method, row.language): row for row in results.rows}


def reference_method(results: Results) -> str | None:
    """Return the method that others are compared with: ``base``, or else the first one."""
    found = methods(results)
    return found[0] if found else None


def order(results: Results, diagnosis: Diagnosis | None = None) -> tuple[TierGroup, ...]:
    """Group languages by tier (high to low), most refusing first, missing last."""
    tiers: dict[str, str] = {row.language: row.tier for row in results.rows}
    if diagnosis is not None:
        for item in (*diagnosis.separability, *diagnosis.gate_scores, *diagnosis.contrasts):
            tiers.setdefault(item.language, item.tier)
        for threshold in diagnosis.thresholds:
            tiers.setdefault(threshold.language, "unknown")
    reference = reference_method(results)
    rate = {r.language: r.harmful_refusal for r in results.rows if r.method == reference}

    def refusing(language: str) -> tuple[bool, float, str]:
        estimate = rate.get(language)
        missing = estimate is None or estimate.missing
        return missing, 0.0 if estimate is None or missing else -estimate.value, language

    found = [*TIERS, *sorted(set(tiers.values()) - set(TIERS))]
    groups = (
        TierGroup(t, tuple(sorted((c for c in tiers if tiers[c] == t), key=refusing)))
        for t in found
    )
    return tuple(g for g in groups if g.languages)


def only(groups: Iterable[TierGroup], languages: Iterable[str]) -> tuple[TierGroup, ...]:
    """Return the groups with only the given languages, without groups that are left empty."""
    wanted = set(languages)
    kept = (TierGroup(g.tier, tuple(c for c in g.languages if c in wanted)) for g in groups)
    return tuple(g for g in kept if g.languages)
