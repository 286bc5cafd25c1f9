"""Smaller prompt sets: a seeded sample that keeps translations together, and a count of cells."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable

from ..errors import PromptError
from ..types import LABELS, Label, Prompt, PromptSet, Split


def take(prompts: PromptSet, per_cell: int, seed: int = 0) -> PromptSet:
    """Return at most ``per_cell`` prompts per (language, split, label), in the same order.

    Groups are ranked by a hash of the seed and the group, so that every language keeps the same
    groups where it has them; groups joined by a ``pair_id`` share a rank, so that a harmful prompt
    keeps its harmless twin. Adding prompts to the set does not reshuffle the others.

    Raises:
        PromptError: if ``per_cell`` is less than 1.
    """
    if per_cell < 1:
        raise PromptError(f"per_cell is {per_cell}; take at least 1 prompt per cell")
    bundles = _bundles(prompts)

    def rank(prompt: Prompt) -> tuple[str, str, str]:
        bundle = bundles[prompt.group_id]
        return hashlib.sha256(f"{seed}:{bundle}".encode()).hexdigest(), prompt.group_id, prompt.id

    cells: dict[tuple[str, Split, Label], list[Prompt]] = defaultdict(list)
    for prompt in prompts:
        cells[prompt.language, prompt.split, prompt.label].append(prompt)
    kept = {p.key for cell in cells.values() for p in sorted(cell, key=rank)[:per_cell]}
    return prompts.select(where=lambda p: p.key in kept)


def require(
    prompts: PromptSet,
    languages: Iterable[str],
    split: Split,
    labels: Iterable[Label] = LABELS,
    at_least: int = 1,
) -> None:
    """Check that each language has enough prompts of each label in a split.

    Raises:
        PromptError: listing every cell that has fewer than ``at_least``.
    """
    counts = prompts.counts()
    labels = tuple(labels)
    short = [
        f"{language} {split} {label}: have {counts.get((language, split, label), 0)}, "
        f"need {at_least}"
        for language in languages
        for label in labels
        if counts.get((language, split, label), 0) < at_least
    ]
    if short:
        raise PromptError(
            f"prompt set {prompts.name!r} has too few prompts ({'; '.join(short)}); "
            "add prompts, choose other languages or ask for fewer"
        )


def _bundles(prompts: PromptSet) -> dict[str, str]:
    """Return for each group the smallest group id that twins connect it with."""
    parent = {p.group_id: p.group_id for p in prompts}

    def root(group: str) -> str:
        while parent[group] != group:
            parent[group] = parent[parent[group]]
            group = parent[group]
        return group

    first: dict[str, str] = {}
    for prompt in prompts:
        if prompt.pair_id is not None:
            a, b = root(first.setdefault(prompt.pair_id, prompt.group_id)), root(prompt.group_id)
            parent[max(a, b)] = min(a, b)
    return {group: root(group) for group in parent}
