"""Duplicates in a prompt set, and the test prompts that must not be scored because of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from ..types import Prompt, PromptSet
from .duplicates import NEAR, exact_groups, near_pairs


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Prompts of one language that say the same: keys in the set's order.

    ``similarity`` is 1 for texts that are equal once normalised, else the Jaccard index of their
    character n-grams. ``leaks``: some of them are test prompts and some are not.
    ``labels_differ``: one of them is harmful and another harmless.
    """

    language: str
    keys: tuple[str, ...]
    similarity: float
    leaks: bool
    labels_differ: bool


def find_duplicates(prompts: PromptSet, threshold: float = NEAR) -> tuple[Duplicate, ...]:
    """Return exact and near duplicates within each language, exact ones first.

    A harmful prompt and its harmless twin (same ``pair_id``) differ in a word or two on purpose and
    are no near duplicates.
    """
    exact: list[Duplicate] = []
    near: list[Duplicate] = []
    for language in prompts.languages:
        pool = prompts.select(languages=[language]).prompts
        texts = [p.text for p in pool]
        exact += [_duplicate([pool[i] for i in group], 1.0) for group in exact_groups(texts)]
        for pair in near_pairs(texts, threshold):
            a, b = pool[pair.first], pool[pair.second]
            if a.pair_id is None or a.pair_id != b.pair_id or a.label == b.label:
                near.append(_duplicate([a, b], pair.similarity))
    return (*exact, *near)


def shared_groups(prompts: PromptSet) -> tuple[str, ...]:
    """Return the groups with prompts both in test and in train or val, over all languages."""
    test = {p.group_id for p in prompts if p.split == "test"}
    rest = {p.group_id for p in prompts if p.split != "test"}
    return tuple(sorted(test & rest))


def leaks(prompts: PromptSet, duplicates: Iterable[Duplicate] | None = None) -> set[str]:
    """Return the keys of test prompts to leave out of an evaluation.

    They repeat a train or val prompt, exactly or nearly, in some language; or are a translation of
    one; or repeat an earlier test prompt exactly. A prompt found in one language goes in all of
    them: translations of train and test sets differ in wording, so that the English text may show
    what the others hide, and all languages keep the same test prompts.
    """
    if duplicates is None:
        duplicates = find_duplicates(prompts)
    by_key = {p.key: p for p in prompts}
    order: dict[str, int] = {}
    for prompt in prompts:
        order.setdefault(prompt.group_id, len(order))
    groups = set(shared_groups(prompts))
    keys: set[str] = set()
    for duplicate in duplicates:
        members = [by_key[key] for key in duplicate.keys]
        test = [p for p in members if p.split == "test"]
        if duplicate.leaks:
            groups.update(p.group_id for p in test)
        elif duplicate.similarity == 1.0 and len(test) > 1:
            # The same group stays in every language: the one that comes first in the whole set.
            first = min(test, key=lambda p: order[p.group_id])
            groups.update(p.group_id for p in test if p.group_id != first.group_id)
            keys.update(p.key for p in test if p.group_id == first.group_id and p is not first)
    return keys | {p.key for p in prompts if p.split == "test" and p.group_id in groups}


def _duplicate(members: list[Prompt], similarity: float) -> Duplicate:
    splits = {p.split for p in members}
    return Duplicate(
        language=members[0].language,
        keys=tuple(p.key for p in members),
        similarity=round(similarity, 4),
        leaks="test" in splits and len(splits) > 1,
        labels_differ=len({p.label for p in members}) > 1,
    )


def by_language(duplicates: Iterable[Duplicate]) -> dict[str, list[Duplicate]]:
    """Return the duplicates of each language."""
    found: dict[str, list[Duplicate]] = defaultdict(list)
    for duplicate in duplicates:
        found[duplicate.language].append(duplicate)
    return dict(found)
