"""The bootstrap over groups of translations: one set of resamples for every statistic of a run.

A statistic is resampled once per cell, all cells in one matrix product; averages over languages,
selectivity and differences of methods are then sums of those rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..types import Estimate
from .intervals import CONFIDENCE, Cell

#: Resamples per matrix product: small enough that a block and its weights stay in the cache.
_BLOCK = 512

#: Sums of thirds and the like miss 0 by rounding; a resample this close to 0 is a tie.
_TIE = 1e-12


@dataclass(frozen=True)
class Resampled:
    """A statistic with its value in every resample.

    ``samples [R]`` is NaN where a resample drew nothing scored; ``seen [G]`` marks the groups with
    a scored value; ``n`` values were scored and ``unscored`` were not.
    """

    value: float
    samples: np.ndarray
    seen: np.ndarray
    n: int
    unscored: int


@dataclass(frozen=True)
class Resamples:
    """Bootstrap weights of groups, shared by every statistic of one comparison.

    ``weights [R, G]`` counts how often each group is drawn; the same group means the same prompt in
    every language and method, so resampling groups keeps translations and pairs together.
    """

    index: Mapping[str, int]
    weights: np.ndarray

    @staticmethod
    def draw(groups: Sequence[str], *, n: int, seed: int) -> Resamples:
        """Draw ``n`` resamples of the distinct groups: as many as there are, with replacement."""
        distinct = sorted(set(groups))
        rng = np.random.default_rng(seed)
        size = max(1, len(distinct))
        # Counting drawn indices is several times faster than `rng.multinomial`, and small integers
        # take an eighth of the memory; a count cannot exceed the number of groups.
        weights = np.empty((n, size), np.min_scalar_type(size))
        for row in weights:
            row[:] = np.bincount(rng.integers(0, size, size), minlength=size)
        return Resamples({g: i for i, g in enumerate(distinct)}, weights)

    def columns(self, groups: Sequence[str]) -> np.ndarray:
        """Return each group's column in ``weights``."""
        return np.fromiter(map(self.index.__getitem__, groups), dtype=np.intp, count=len(groups))

    def sums(self, totals: np.ndarray) -> np.ndarray:
        """Return ``weights @ totals``: ``[G, C]`` totals per group to ``[C, R]`` resampled sums."""
        kind = np.float32 if self._exact_in_float32(totals) else np.float64
        totals = np.ascontiguousarray(totals, dtype=kind)
        found = np.empty((totals.shape[1], len(self.weights)), dtype=np.float64)
        for start in range(0, len(self.weights), _BLOCK):
            block = self.weights[start : start + _BLOCK].astype(kind)
            found[:, start : start + _BLOCK] = (block @ totals).T
        return found

    def _exact_in_float32(self, totals: np.ndarray) -> bool:
        """Whether the sums are whole numbers that float32 holds exactly: 0 and 1, and counts."""
        if not totals.size or not np.array_equal(totals, np.rint(totals)):
            return False
        return np.abs(totals).max() * max(self.weights.sum(1).max(initial=0), 1) < 2**24

    def of(self, cells: Sequence[Cell]) -> list[Resampled]:
        """Return every cell's mean with its resampled means, all cells in one matrix product."""
        size = self.weights.shape[1]
        both = np.zeros((size, 2 * len(cells)))
        totals, counts = both[:, : len(cells)], both[:, len(cells) :]
        scored = [~np.isnan(cell.values) for cell in cells]
        # Cells of one language and class share their groups, method after method.
        known: dict[tuple[str, ...], np.ndarray] = {}
        for i, (cell, keep) in enumerate(zip(cells, scored)):
            if cell.groups not in known:
                known[cell.groups] = self.columns(cell.groups)
            columns = known[cell.groups][keep]
            counts[:, i] = np.bincount(columns, minlength=size)
            totals[:, i] = np.bincount(columns, weights=cell.values[keep], minlength=size)
        total, drawn = np.split(self.sums(both), 2)
        with np.errstate(invalid="ignore", divide="ignore"):
            samples = np.where(drawn > 0, total / drawn, np.nan)
        return [
            Resampled(cell.rate, samples[i], counts[:, i] > 0, int(keep.sum()), int((~keep).sum()))
            for i, (cell, keep) in enumerate(zip(cells, scored))
        ]

    def means(self, cell: Cell) -> np.ndarray:
        """Return the cell's mean in every resample, ``[R]``; NaN where nothing scored was drawn."""
        return self.of([cell])[0].samples


def combine(terms: Sequence[tuple[float, Resampled]]) -> Resampled:
    """Return ``sum of weight x statistic``, resample by resample.

    A term without any scored value makes the sum NaN. ``seen`` is the union over the terms, ``n``
    and ``unscored`` are sums.

    Raises:
        ValueError: without any term.
    """
    if not terms:
        raise ValueError("a sum of statistics needs at least one term")
    parts = [part for _, part in terms]
    samples = np.zeros_like(parts[0].samples)
    for weight, part in terms:
        samples += weight * part.samples
    return Resampled(
        float(sum(weight * part.value for weight, part in terms)),
        samples,
        np.logical_or.reduce([part.seen for part in parts]),
        sum(part.n for part in parts),
        sum(part.unscored for part in parts),
    )


def interval(samples: np.ndarray) -> tuple[float, float]:
    """Return the percentile interval of bootstrap samples, NaN-free samples only."""
    usable = samples[np.isfinite(samples)]
    if not len(usable):
        return math.nan, math.nan
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(usable, [tail, 1 - tail])
    return float(low), float(high)


def estimate(part: Resampled) -> Estimate:
    """Return a statistic with its percentile interval; NaN where nothing was scored."""
    if math.isnan(part.value):
        return _nothing(part.unscored)
    low, high = interval(part.samples)
    groups = int(part.seen.sum())
    return Estimate(part.value, low, high, part.n, groups, part.unscored, "bootstrap by group")


def _nothing(unscored: int) -> Estimate:
    return Estimate(math.nan, math.nan, math.nan, 0, 0, unscored, "bootstrap by group")


def macro_of(sides: Sequence[tuple[float, Sequence[Resampled]]]) -> Estimate:
    """Return what :func:`macro` does, from cells that were resampled already."""
    unscored = sum(part.unscored for _, parts in sides for part in parts)
    columns = list(zip(*(parts for _, parts in sides), strict=True))
    usable = [parts for parts in columns if all(part.n for part in parts)]
    if not usable:
        return _nothing(unscored)
    signs = [sign / len(usable) for sign, _ in sides]
    found = estimate(combine([term for parts in usable for term in zip(signs, parts)]))
    return Estimate(
        found.value, found.low, found.high, found.n, found.n_groups, unscored, found.method
    )


def macro(sides: Sequence[tuple[float, Sequence[Cell]]], resamples: Resamples) -> Estimate:
    """Return ``sum of sign x (unweighted mean of the cells' rates)`` with a bootstrap interval.

    One side with sign 1 is a macro average; harmful cells with 1 and harmless ones with -1 are
    macro selectivity. The sides list their cells in the same order of languages; a language without
    any scored value on one side is left out of all, and NaN is returned if none is left. Groups are
    resampled, so translations of one prompt stay together. Where all outcomes are equal, so are all
    resamples: the interval has no width, and the cells' Wilson intervals are the ones to read.
    """
    return macro_of([(sign, resamples.of(cells)) for sign, cells in sides])


@dataclass(frozen=True)
class PairedDifference:
    """``b - a`` on the same prompts with a bootstrap interval and two-sided p value."""

    delta: float
    low: float
    high: float
    p: float
    n: int


def change(a: Cell, b: Cell) -> Cell:
    """Return ``b - a`` prompt by prompt; NaN where either is unscored.

    Raises:
        ValueError: if the two do not list the same groups in the same order.
    """
    if a.groups != b.groups:
        raise ValueError("the cells do not list the same groups in the same order; align them")
    return Cell(b.values - a.values, a.groups)


def paired_estimate(part: Resampled) -> PairedDifference:
    """Return a difference with its interval and p value.

    The p value is twice the smaller tail of the bootstrap distribution at 0, at least 1/R.
    """
    usable = part.samples[np.isfinite(part.samples)]
    if math.isnan(part.value) or not len(usable):
        return PairedDifference(math.nan, math.nan, math.nan, math.nan, part.n)
    low, high = interval(usable)
    tail = min((usable <= _TIE).mean(), (usable >= -_TIE).mean())
    p = float(min(1.0, max(2 * tail, 1 / len(usable))))
    return PairedDifference(part.value, low, high, p, part.n)


def paired_difference(
    pairs: Sequence[tuple[float, Cell, Cell]], resamples: Resamples
) -> PairedDifference:
    """Return ``sum of sign x (mean b - mean a)`` over cells seen by both methods.

    Each item is (sign or weight, a, b) with ``a`` and ``b`` in the same prompt order; a prompt that
    one of them left unscored is left out of both. Selectivity is the harmful cell with +1 and the
    harmless one with -1. The p value is twice the smaller tail of the bootstrap distribution at 0,
    at least 1/R.

    Raises:
        ValueError: if a pair of cells does not list the same groups in the same order.
    """
    parts = resamples.of([change(a, b) for _, a, b in pairs])
    return paired_estimate(combine([(sign, part) for (sign, _, _), part in zip(pairs, parts)]))
