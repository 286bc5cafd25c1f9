"""Which prompts of a language stand on which side of a comparison, and as weights of rows. Pure."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .rows import Skip
from .table import PromptTable, Settings

#: Kinds of direction, with the words for both sides.
KINDS = {
    "harmfulness": ("harmful", "harmless"),
    "refusal": ("refused", "answered"),
    "refusal_harmful": ("refused harmful", "answered harmful"),
    "refusal_harmless": ("refused harmless", "answered harmless"),
}


def difference(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Return the weights whose product with states is a difference of means, ``[..., n]``."""
    return positive / positive.sum(-1, keepdims=True) - negative / negative.sum(-1, keepdims=True)


@dataclass(frozen=True)
class Members:
    """One language's prompts: ``rows [n]`` of the table, and bool masks over them."""

    language: str
    rows: np.ndarray
    harmful: np.ndarray
    fit: np.ndarray
    held_out: np.ndarray
    refused: np.ndarray
    length: np.ndarray
    settings: Settings

    @staticmethod
    def of(table: PromptTable, language: str, present: np.ndarray, settings: Settings) -> Members:
        """Return the members of one language among the prompts that have states."""
        rows = np.flatnonzero((table.language == language) & present)
        nothing = np.full(len(rows), np.nan)
        tokens = nothing if table.tokens is None else table.tokens[rows]
        return Members(
            language,
            rows,
            table.harmful[rows],
            np.isin(table.split[rows], settings.fit),
            np.isin(table.split[rows], settings.held_out),
            nothing if table.refused is None else table.refused[rows],
            np.log(np.where(tokens > 0, tokens, np.nan)),
            settings,
        )

    def sides(self, kind: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the masks ``[n]`` of the positive and the negative side of one kind."""
        if kind == "harmfulness":
            return self.fit & self.harmful, self.fit & ~self.harmful
        among = {"refusal": True, "refusal_harmful": self.harmful}.get(kind, ~self.harmful)
        return (self.refused == 1) & among, (self.refused == 0) & among

    def counts(self, kind: str) -> tuple[int, int]:
        """Return how many prompts stand on both sides."""
        positive, negative = self.sides(kind)
        return int(positive.sum()), int(negative.sum())

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """The kinds with enough prompts on both sides."""
        return tuple(k for k in KINDS if min(self.counts(k)) >= self.settings.least)

    @cached_property
    def tested(self) -> tuple[np.ndarray, np.ndarray]:
        """Places of held-out harmful and harmless prompts; empty where a class has too few."""
        sides = [np.flatnonzero(self.held_out & side) for side in (self.harmful, ~self.harmful)]
        if min(map(len, sides)) < self.settings.least:
            return np.empty(0, dtype=int), np.empty(0, dtype=int)
        return sides[0], sides[1]

    def generator(self, *what: int) -> np.random.Generator:
        """Return a generator that depends on the seed, the language and nothing else."""
        return np.random.default_rng(
            [self.settings.seed, zlib.crc32(self.language.encode()), *what]
        )

    def weights(self, kind: str) -> np.ndarray:
        """Return the weights ``[1, n]`` of a direction."""
        return difference(*(side[None].astype(np.float64) for side in self.sides(kind)))

    def halves(self, kind: str) -> np.ndarray:
        """Return the weights ``[2 S, n]`` of directions from random halves, first halves first."""
        rng = self.generator(list(KINDS).index(kind))
        masks = np.zeros((2, 2 * self.settings.halvings, len(self.rows)))
        for mask, side in zip(masks, self.sides(kind)):
            halves = random_halves(np.flatnonzero(side), self.settings.halvings, rng)
            np.put_along_axis(mask, halves.reshape(len(mask), -1), 1.0, axis=1)
        return difference(*masks)

    def skips(self) -> list[Skip]:
        """Return what this language has too few prompts for."""
        fit, held_out, least = self.settings.fit, self.settings.held_out, self.settings.least
        found = []
        judged = np.isfinite(self.refused).any()
        for kind, words in KINDS.items():
            if kind in self.kinds or (kind != "harmfulness" and not judged):
                continue
            n, m = self.counts(kind)
            where = f" of the split {' or '.join(fit)}" if kind == "harmfulness" else ""
            found.append(
                Skip(
                    kind,
                    self.language,
                    f"{n} {words[0]} and {m} {words[1]} prompts{where}; "
                    f"at least {least} of each are needed",
                )
            )
        if not len(self.tested[0]):
            n, m = ((self.held_out & side).sum() for side in (self.harmful, ~self.harmful))
            found.append(
                Skip(
                    "separability",
                    self.language,
                    f"{n} harmful and {m} harmless prompts of the split {' or '.join(held_out)}; "
                    f"at least {least} of each are needed",
                )
            )
        return found


def random_halves(places: np.ndarray, times: int, rng: np.random.Generator) -> np.ndarray:
    """Return random halves of some places, ``[2, S, n // 2]``; an odd one out is in neither."""
    half = len(places) // 2
    order = rng.permuted(np.tile(places, (times, 1)), axis=1)
    return np.stack([order[:, :half], order[:, half : 2 * half]])
