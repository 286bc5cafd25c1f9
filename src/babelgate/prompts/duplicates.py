"""Exact and near duplicates among texts, found exactly: no hashing tricks, no random seeds."""

from __future__ import annotations

import html
import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ..language_id import dominant_script

NEAR = 0.7
_GRAM = 5
# A Han character or a kana is about as informative as two or three letters.
_GRAMS = {"Han": 2, "Kana": 3, "Hangul": 3}


@dataclass(frozen=True, slots=True)
class Pair:
    """Two positions in a list of texts, ``first`` < ``second``, and their similarity (0..1)."""

    first: int
    second: int
    similarity: float


def normalise(text: str) -> str:
    """Return a text as it is compared: entities resolved, NFKC, case folded, spaces collapsed."""
    plain = unicodedata.normalize("NFKC", html.unescape(text))
    return " ".join(plain.casefold().split())


def exact_groups(texts: Sequence[str]) -> list[list[int]]:
    """Return the positions of texts that are equal once normalised, in groups of two or more."""
    seen: dict[str, list[int]] = defaultdict(list)
    for i, text in enumerate(texts):
        seen[normalise(text)].append(i)
    return [group for group in seen.values() if len(group) > 1]


def shingles(text: str) -> frozenset[str]:
    """Return the character n-grams of a normalised text: 5 letters, 3 kana or Hangul, 2 Han."""
    n = _GRAMS.get(dominant_script(text)[0], _GRAM)
    return frozenset(text[i : i + n] for i in range(max(1, len(text) - n + 1)))


def near_pairs(texts: Sequence[str], threshold: float = NEAR) -> list[Pair]:
    """Return all pairs of different texts whose n-gram sets have Jaccard index >= ``threshold``.

    Equal texts (once normalised) are left out; one of each group stands for all. Exact prefix
    filtering (Bayardo, Ma and Srikant 2007): with n-grams sorted from rare to frequent, two sets
    that are similar enough share one among their first ``|x| - ceil(t|x|) + 1``.
    """
    first: dict[str, int] = {}
    for i, text in enumerate(texts):
        first.setdefault(normalise(text), i)
    sets = {i: shingles(text) for text, i in first.items()}
    frequency = Counter(gram for grams in sets.values() for gram in grams)
    index: dict[str, list[int]] = defaultdict(list)
    pairs: list[Pair] = []
    for i in sorted(sets, key=lambda i: (len(sets[i]), i)):
        grams = sets[i]
        n = len(grams)
        prefix = sorted(grams, key=lambda gram: (frequency[gram], gram))
        prefix = prefix[: n - math.ceil(threshold * n) + 1]
        smallest = threshold * n
        candidates = {j for gram in prefix for j in index[gram] if len(sets[j]) >= smallest}
        for j in candidates:
            shared = len(grams & sets[j])
            similarity = shared / (n + len(sets[j]) - shared)
            if similarity >= threshold:
                pairs.append(Pair(min(i, j), max(i, j), similarity))
        for gram in prefix:
            index[gram].append(i)
    return sorted(pairs, key=lambda pair: (pair.first, pair.second))
