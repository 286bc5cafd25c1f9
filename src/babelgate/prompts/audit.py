"""An audit of a prompt set: counts, token costs, duplicates, leakage, damage, wrong languages."""

from __future__ import annotations

import html
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .. import console
from ..errors import PromptError
from ..language_id import dominant_script, identify
from ..languages import tier
from ..types import LABELS, SPLITS, Prompt, PromptSet
from .duplicates import normalise
from .leakage import Duplicate, by_language, find_duplicates, leaks, shared_groups

CountTokens = Callable[[list[str]], list[int]]

SCHEMA = 1
_ENTITY = re.compile(r"&(?:[a-zA-Z][a-zA-Z0-9]{1,30}|#\d{1,7}|#[xX][0-9a-fA-F]{1,6});")
# Scripts written without spaces between words: fertility is counted per character there.
_UNSPACED = frozenset({"Han", "Kana", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan"})


@dataclass(frozen=True, slots=True)
class Cell:
    """Number of prompts of one language, split and label."""

    language: str
    split: str
    label: str
    n: int


@dataclass(frozen=True, slots=True)
class TokenCost:
    """What a language's prompts cost under a tokenizer.

    ``mean`` tokens per prompt; ``fertility`` tokens per ``unit`` (``word``, or ``character`` where
    words are not separated); ``versus_english`` the tokens of the ``n_aligned`` prompts whose
    English version is in the set, over the tokens of those versions (None without any).
    """

    mean: float
    fertility: float
    unit: str
    versus_english: float | None
    n_aligned: int


@dataclass(frozen=True, slots=True)
class LanguageAudit:
    """What was found among one language's prompts; counts of prompts unless said otherwise.

    ``exact`` and ``near`` count duplicate groups and pairs, ``exact_test`` the harmful or harmless
    test prompts that only repeat another; ``leaks`` those test prompts that an evaluation should
    leave out. ``escaped`` have HTML entities, ``wordless`` no letters, ``untranslated`` the text of
    their English version. ``mismatched`` are surely in another language, most often
    ``mistaken_for``; ``unsure`` could not be identified.
    """

    language: str
    tier: str
    n: int
    tokens: TokenCost | None
    exact: int
    exact_test: int
    near: int
    near_leaking: int
    leaks: int
    escaped: int
    wordless: int
    untranslated: int
    mismatched: int
    mistaken_for: str | None
    unsure: int


@dataclass(frozen=True)
class Audit:
    """Everything an audit found. ``leaks`` and the duplicates name prompts by ``language/id``."""

    name: str
    fingerprint: str
    n: int
    n_groups: int
    cells: tuple[Cell, ...]
    tiers: tuple[tuple[str, int], ...]
    sources: tuple[tuple[str, int], ...]
    languages: tuple[LanguageAudit, ...]
    duplicates: tuple[Duplicate, ...]
    shared_groups: tuple[str, ...]
    leaks: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values, with ``schema`` first."""
        plain = asdict(self)
        return {"schema": SCHEMA, **plain, "tiers": dict(self.tiers), "sources": dict(self.sources)}


def audit(prompts: PromptSet, *, count_tokens: CountTokens | None = None) -> Audit:
    """Return what a prompt set holds and what is wrong with it.

    ``count_tokens`` returns the number of tokens of each text; without it no token costs are given.
    Takes about 0.4 ms per prompt, most of it language identification.

    Raises:
        PromptError: if ``count_tokens`` returns another number of counts than it got texts.
    """
    duplicates = find_duplicates(prompts)
    leaking = leaks(prompts, duplicates)
    english = {p.group_id: p for p in prompts if p.language == "en"}
    tokens = _count(prompts, count_tokens) if count_tokens else None
    counts = prompts.counts()
    grouped = by_language(duplicates)
    rows: list[LanguageAudit] = []
    for language in prompts.languages:
        pool = prompts.select(languages=[language]).prompts
        found = grouped.get(language, [])
        exact = [d for d in found if d.similarity == 1.0]
        near = [d for d in found if d.similarity < 1.0]
        guesses = [identify(p.text) for p in pool]
        base = language.partition("-")[0]
        wrong = Counter(g.code for g in guesses if g.code not in (None, base))
        rows.append(
            LanguageAudit(
                language=language,
                tier=tier(language),
                n=len(pool),
                tokens=_cost(pool, english, tokens) if tokens else None,
                exact=len(exact),
                exact_test=sum(_repeats_in_test(d, pool) for d in exact),
                near=len(near),
                near_leaking=sum(d.leaks for d in near),
                leaks=sum(p.key in leaking for p in pool),
                escaped=sum(is_escaped(p.text) for p in pool),
                wordless=sum(not any(map(str.isalpha, p.text)) for p in pool),
                untranslated=sum(_untranslated(p, english) for p in pool),
                mismatched=sum(wrong.values()),
                mistaken_for=wrong.most_common(1)[0][0] if wrong else None,
                unsure=sum(g.code is None for g in guesses),
            )
        )
    return Audit(
        name=prompts.name,
        fingerprint=prompts.fingerprint(),
        n=len(prompts),
        n_groups=len({p.group_id for p in prompts}),
        cells=tuple(
            Cell(language, split, label, counts[language, split, label])
            for language in prompts.languages
            for split in SPLITS
            for label in LABELS
            if (language, split, label) in counts
        ),
        tiers=_counted(tier(p.language) for p in prompts),
        sources=_counted(p.source for p in prompts),
        languages=tuple(rows),
        duplicates=duplicates,
        shared_groups=shared_groups(prompts),
        leaks=tuple(p.key for p in prompts if p.key in leaking),
    )


def is_escaped(text: str) -> bool:
    """Whether a text has HTML entities such as ``&quot;`` or ``&#39;`` left in it."""
    return any(html.unescape(entity) != entity for entity in _ENTITY.findall(text))


def print_audit(result: Audit) -> None:
    """Print an audit as tables for a person."""
    counts = {(c.language, c.split, c.label): c.n for c in result.cells}
    console.table(
        f"{result.name}: {result.n} prompts in {result.n_groups} groups "
        f"(harmful + harmless; fingerprint {result.fingerprint})",
        ["language", "tier", *SPLITS],
        [
            [row.language, row.tier, *(_both(counts, row.language, split) for split in SPLITS)]
            for row in result.languages
        ],
    )
    if any(row.tokens for row in result.languages):
        console.table(
            "Tokens",
            ["language", "per prompt", "per unit", "unit", "x English", "aligned"],
            [[row.language, *_token_cells(row.tokens)] for row in result.languages if row.tokens],
        )
    console.table(
        "Problems (numbers of prompts; near duplicates in pairs)",
        ["language", "to leave out", "repeats in test", "near", "of them leaking", "escaped",
         "untranslated", "other language", "unsure"],
        [
            [row.language, row.leaks, row.exact_test, row.near, row.near_leaking, row.escaped,
             row.untranslated, _wrong(row), row.unsure]
            for row in result.languages
        ],
    )  # fmt: skip
    conflicts = [d for d in result.duplicates if d.labels_differ]
    for duplicate in conflicts[:10]:
        console.note(f"same text, both labels: {', '.join(duplicate.keys)}")
    if result.shared_groups:
        console.note(
            f"{len(result.shared_groups)} groups are in test and also in train or val, "
            f"such as {result.shared_groups[0]!r}"
        )


def _both(counts: dict[tuple[str, str, str], int], language: str, split: str) -> str:
    harmful, harmless = (counts.get((language, split, label), 0) for label in LABELS)
    return f"{harmful} + {harmless}" if harmful or harmless else "0"


def _token_cells(cost: TokenCost) -> list[str]:
    ratio = "-" if cost.versus_english is None else f"{cost.versus_english:.2f}"
    return [f"{cost.mean:.1f}", f"{cost.fertility:.2f}", cost.unit, ratio, str(cost.n_aligned)]


def _wrong(row: LanguageAudit) -> str:
    return f"{row.mismatched} ({row.mistaken_for})" if row.mismatched else "0"


def _counted(values: Any) -> tuple[tuple[str, int], ...]:
    return tuple(Counter(values).most_common())


def _repeats_in_test(duplicate: Duplicate, pool: Sequence[Prompt]) -> int:
    test = {p.key for p in pool if p.split == "test"}
    return max(0, sum(key in test for key in duplicate.keys) - 1)


def _untranslated(prompt: Prompt, english: dict[str, Prompt]) -> bool:
    original = english.get(prompt.group_id)
    if original is None or original is prompt or len(original.text.split()) < 3:
        return False
    return normalise(prompt.text) == normalise(original.text)


def _count(prompts: PromptSet, count_tokens: CountTokens) -> dict[str, int]:
    counts = count_tokens([p.text for p in prompts])
    if len(counts) != len(prompts):
        raise PromptError(
            f"count_tokens returned {len(counts)} counts for {len(prompts)} texts; "
            "it should return one number per text"
        )
    return {p.key: int(n) for p, n in zip(prompts, counts)}


def _cost(pool: Sequence[Prompt], english: dict[str, Prompt], tokens: dict[str, int]) -> TokenCost:
    joined = " ".join(p.text for p in pool)
    unit = "character" if dominant_script(joined)[0] in _UNSPACED else "word"
    if unit == "word":
        units = len(joined.split())
    else:
        # Letters only: vowel signs belong to the letter before them.
        units = sum(unicodedata.category(c).startswith("L") for c in joined)
    total = sum(tokens[p.key] for p in pool)
    aligned = [p for p in pool if p.group_id in english]
    reference = sum(tokens[english[p.group_id].key] for p in aligned)
    return TokenCost(
        mean=total / len(pool),
        fertility=total / max(1, units),
        unit=unit,
        versus_english=sum(tokens[p.key] for p in aligned) / reference if reference else None,
        n_aligned=len(aligned),
    )
