"""Harmful prompts of one set with harmless prompts of another, nothing of it seen by the gate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import PromptError
from ..prompts.leakage import find_duplicates, leaks
from ..types import LABELS, Label, Prompt, PromptSet


@dataclass(frozen=True, slots=True)
class Dropped:
    """How many prompts of one language and label were left out, and why."""

    language: str
    label: Label
    reason: str
    n: int


@dataclass(frozen=True)
class Unseen:
    """Prompts that a gate has not seen in any language, and what was left out."""

    prompts: PromptSet
    dropped: tuple[Dropped, ...]


def seen_by(provenance: Mapping[str, Any], known: Iterable[Prompt]) -> list[Prompt]:
    """Return what a gate was made with: ``fitted_on``, ``shots``, and its sources' val prompts.

    ``known`` are the prompt sets of the calibration; layers and thresholds are chosen on the val
    prompts of the languages that ``roles`` calls sources.

    Raises:
        PromptError: if prompts that the gate names are not among ``known``.
    """
    pool = list(known)
    named = {*provenance.get("fitted_on", ()), *provenance.get("shots", ())}
    if absent := sorted(named - {p.key for p in pool}):
        raise PromptError(
            f"the gate was fitted on {len(absent)} prompts that are not in the sets given, such as "
            f"{absent[0]!r}; load every prompt set of its calibration, in its source languages too"
        )
    roles = provenance.get("roles", {})
    sources = {language for language, role in roles.items() if role == "source"}
    return [p for p in pool if p.key in named or (p.split == "val" and p.language in sources)]


def unseen_set(
    harmful: PromptSet,
    harmless: PromptSet,
    seen: Iterable[Prompt],
    *,
    languages: Iterable[str] | None = None,
) -> Unseen:
    """Return the harmful prompts of one set and the harmless test prompts of another, both unseen.

    Left out, and counted: prompts that were seen; that repeat a seen one exactly or nearly (Jaccard
    index of character n-grams >= 0.7) in their language; exact repeats within the set; translations
    of any of these; languages that lack one of the classes. ``languages`` selects after the
    checks, so that what only the English version shows goes in all languages.

    Raises:
        PromptError: if no language has both classes left.
    """
    chosen = [p for p in harmful if p.harmful]
    chosen += [p for p in harmless if not p.harmful and p.split == "test"]
    pool = PromptSet.union([PromptSet(harmful.name, ()), PromptSet(harmless.name, tuple(chosen))])
    reasons = _repeats(pool, list(seen))
    wanted = pool.languages if languages is None else tuple(dict.fromkeys(languages))
    kept = pool.select(languages=wanted, where=lambda p: p.key not in reasons)
    sides = {(p.language, p.label) for p in kept}
    complete = [x for x in wanted if all((x, label) in sides for label in LABELS)]
    counts: Counter[tuple[str, Label, str]] = Counter()
    for prompt in pool.select(languages=wanted):
        reason = reasons.get(prompt.key)
        if reason is None and prompt.language not in complete:
            other = "harmless" if prompt.harmful else "harmful"
            reason = f"its language has no {other} prompts"
        if reason is not None:
            counts[prompt.language, prompt.label, reason] += 1
    if not complete:
        raise PromptError(
            f"{pool.name}: none of the languages {', '.join(wanted)} has both harmful and harmless "
            "prompts that the gate has not seen; add prompts or choose other languages"
        )
    return Unseen(
        kept.select(languages=complete), tuple(Dropped(*cell, n) for cell, n in counts.items())
    )


def _repeats(pool: PromptSet, seen: Sequence[Prompt]) -> dict[str, str]:
    """Return why prompts of the pool must not be scored, by key."""
    seen_keys = {p.key for p in seen}
    reasons = {p.key: "was seen by the gate" for p in pool if p.key in seen_keys}
    rest = [replace(p, split="test") for p in pool if p.key not in seen_keys]
    # Seen prompts first: near duplicates are looked for with the first of texts that are equal.
    both = PromptSet(pool.name, (*(replace(p, split="train") for p in seen), *rest))
    duplicates = find_duplicates(both.select(languages={p.language for p in rest}))
    for duplicate in duplicates:
        ours = [key for key in duplicate.keys if key not in seen_keys]
        if duplicate.leaks:
            near = "" if duplicate.similarity == 1.0 else "nearly "
            for key in ours:
                reasons.setdefault(key, f"{near}repeats a seen prompt")
    for key in leaks(both, duplicates):
        in_another = any(key in d.keys[1:] and d.similarity == 1.0 for d in duplicates)
        why = (
            "repeats another prompt of the set"
            if in_another
            else "its translation was seen or is left out"
        )
        reasons.setdefault(key, why)
    return reasons
