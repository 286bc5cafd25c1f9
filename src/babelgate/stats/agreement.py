"""How far judges agree, and how far stated probabilities hold: kappa, alpha, Brier, calibration."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from ..types import Estimate
from .bootstrap import Resamples, interval

METHOD = "bootstrap by group"


def cohen_kappa(
    a: ArrayLike, b: ArrayLike, groups: Sequence[str], *, n: int = 2000, seed: int = 0
) -> Estimate:
    """Return Cohen's kappa of two judges, ``[U]`` codes each, NaN where one gave no verdict.

    ``kappa = (p_o - p_e) / (1 - p_e)``, agreement over agreement expected from each judge's own
    rates (Cohen 1960, Educational and Psychological Measurement 20, 37-46). Units that one left
    open are dropped and counted. The interval resamples groups, so that replies to translations of
    one prompt stay together; resamples without any disagreement to expect (``p_e = 1``) say
    nothing and are left out. NaN where ``p_e`` is 1.

    Raises:
        ValueError: if the lengths differ.
    """
    first, second = _codes(a), _codes(b)
    if not len(first) == len(second) == len(groups):
        raise ValueError(f"{len(first)}, {len(second)} codes and {len(groups)} groups differ")
    both = ~np.isnan(first) & ~np.isnan(second)
    kept = [g for g, keep in zip(groups, both) if keep]
    domain = np.unique(np.concatenate([first[both], second[both]]))
    k = len(domain)
    pair = np.searchsorted(domain, first[both]) * k + np.searchsorted(domain, second[both])
    features = np.eye(k * k)[pair.astype(int)]
    value = kappa_of(features.sum(0)[:, None], k)[0] if kept else math.nan
    samples = lambda sums: kappa_of(sums, k)  # noqa: E731
    return _estimate(value, samples, features, kept, len(first) - len(kept), n=n, seed=seed)


def kappa_of(joint: np.ndarray, k: int) -> np.ndarray:
    """Return kappa per column of joint counts ``[k * k, R]``; NaN where chance agreement is 1."""
    table = joint.reshape(k, k, joint.shape[1])
    with np.errstate(invalid="ignore", divide="ignore"):
        share = table / table.sum((0, 1))
        observed = np.einsum("iir->r", share)
        expected = (share.sum(0) * share.sum(1)).sum(0)
        return np.where(expected < 1 - 1e-12, (observed - expected) / (1 - expected), np.nan)


def krippendorff_alpha(
    ratings: ArrayLike, groups: Sequence[str], *, n: int = 2000, seed: int = 0
) -> Estimate:
    """Return Krippendorff's nominal alpha of ``[judges, U]`` codes, NaN where there is no verdict.

    ``alpha = 1 - D_o / D_e``, observed over expected disagreement of pairs of verdicts, from the
    library `krippendorff`; units with fewer than two verdicts pair nothing and are counted as
    unscored (Krippendorff 2011, Computing Krippendorff's Alpha-Reliability). The interval resamples
    groups. NaN where fewer than two different verdicts were given.

    Raises:
        ValueError: if there are not as many groups as units.
    """
    from krippendorff import alpha

    codes = np.atleast_2d(np.asarray(ratings, dtype=np.float64))
    if codes.shape[1] != len(groups):
        raise ValueError(f"{codes.shape[1]} units and {len(groups)} groups differ")
    paired = (~np.isnan(codes)).sum(0) >= 2
    domain = np.unique(codes[:, paired][~np.isnan(codes[:, paired])])
    counts = (codes[:, paired, None] == domain).sum(0).astype(float)  # [U, K]
    kept = [g for g, keep in zip(groups, paired) if keep]
    value = math.nan
    if len(domain) > 1:
        value = float(alpha(value_counts=counts, level_of_measurement="nominal"))
    # The library takes one table at a time; resampling thousands needs sums per unit instead:
    # verdicts per code, and disagreeing ordered pairs, weighted 1 / (verdicts of the unit - 1).
    m = counts.sum(1)
    disagreeing = (m**2 - (counts**2).sum(1)) / np.maximum(m - 1, 1)
    features = np.column_stack([counts, disagreeing])
    missing = codes.shape[1] - len(kept)
    return _estimate(value, _alpha, features, kept, missing, n=n, seed=seed)


def _alpha(sums: np.ndarray) -> np.ndarray:
    """Return alpha per column of ``[K + 1, R]``: verdicts per code, then disagreeing pairs."""
    per_code, observed = sums[:-1], sums[-1]
    total = per_code.sum(0)
    expected = total**2 - (per_code**2).sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(expected > 0, 1 - (total - 1) * observed / expected, np.nan)


def _estimate(
    value: float,
    statistic: Callable[[np.ndarray], np.ndarray],
    features: np.ndarray,
    groups: list[str],
    unscored: int,
    *,
    n: int,
    seed: int,
) -> Estimate:
    """Return a statistic of summed features ``[U, F]`` with its bootstrap interval."""
    if math.isnan(value):
        return Estimate(math.nan, math.nan, math.nan, len(groups), 0, unscored, METHOD)
    resamples = Resamples.draw(groups, n=n, seed=seed)
    totals = np.zeros((resamples.weights.shape[1], features.shape[1]))
    np.add.at(totals, resamples.columns(groups), features)
    low, high = interval(statistic(resamples.sums(totals)))
    return Estimate(float(value), low, high, len(groups), len(set(groups)), unscored, METHOD)


@dataclass(frozen=True)
class AgreementRow:
    """Agreement of two or more judges in one language; ``all`` is every language together.

    ``agreement`` is the share of units on which all these judges gave a verdict and the same one.
    ``kappa`` is None for more than two judges.
    """

    language: str
    judges: tuple[str, ...]
    agreement: float
    kappa: Estimate | None
    alpha: Estimate


def agreement_table(
    ratings: Mapping[str, ArrayLike],
    languages: Sequence[str],
    groups: Sequence[str],
    *,
    n: int = 2000,
    seed: int = 0,
) -> list[AgreementRow]:
    """Return a row per language and pair of judges, and one of all judges where there are more.

    ``ratings[judge] [U]`` are codes of the same units, NaN without a verdict; ``languages`` and
    ``groups`` have one entry per unit. Several languages end with rows of all of them together.

    Raises:
        ValueError: for fewer than two judges, or lengths that differ.
    """
    if len(ratings) < 2:
        raise ValueError(f"agreement needs two judges, not {len(ratings)}")
    codes = {judge: _codes(values) for judge, values in ratings.items()}
    if {len(v) for v in codes.values()} != {len(languages)} or len(languages) != len(groups):
        raise ValueError("ratings, languages and groups must have one entry per unit")
    sets: list[tuple[str, ...]] = list(combinations(codes, 2))
    if len(codes) > 2:
        sets.append(tuple(codes))
    spoken = np.array(languages)
    names = list(dict.fromkeys(languages))
    parts = [(name, np.flatnonzero(spoken == name)) for name in names]
    if len(names) > 1:
        parts.append(("all", np.arange(len(languages))))
    return [
        _agreement_row(
            name,
            judges,
            np.array([codes[j][units] for j in judges]),
            [groups[int(u)] for u in units],
            n=n,
            seed=seed,
        )
        for name, units in parts
        for judges in sets
    ]


def _agreement_row(
    language: str,
    judges: tuple[str, ...],
    codes: np.ndarray,
    groups: list[str],
    *,
    n: int,
    seed: int,
) -> AgreementRow:
    full = codes[:, ~np.isnan(codes).any(0)]
    return AgreementRow(
        language,
        judges,
        float((full == full[0]).all(0).mean()) if full.shape[1] else math.nan,
        cohen_kappa(codes[0], codes[1], groups, n=n, seed=seed) if len(judges) == 2 else None,
        krippendorff_alpha(codes, groups, n=n, seed=seed),
    )


def brier(probabilities: ArrayLike, outcomes: ArrayLike) -> float:
    """Return the mean of ``(probability - outcome)^2`` (Brier 1950); NaN without a scored pair."""
    p, y = _scored_pairs(probabilities, outcomes)
    return float(((p - y) ** 2).mean()) if len(p) else math.nan


def calibration_error(probabilities: ArrayLike, outcomes: ArrayLike, *, bins: int = 10) -> float:
    """Return the expected calibration error over bins of equal width.

    ``ECE = sum over bins of (share of pairs in it) x |mean outcome - mean probability|``, with bins
    ``[0, 1/B), ... [(B-1)/B, 1]`` (Guo et al. 2017, On Calibration of Modern Neural Networks).
    NaN without a scored pair. It is biased upwards where bins hold few pairs.
    """
    p, y = _scored_pairs(probabilities, outcomes)
    if not len(p):
        return math.nan
    which = np.minimum((p * bins).astype(int), bins - 1)
    gap = np.bincount(which, weights=y - p, minlength=bins)
    return float(np.abs(gap).sum() / len(p))


def _scored_pairs(probabilities: ArrayLike, outcomes: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    p, y = _codes(probabilities), _codes(outcomes)
    if len(p) != len(y):
        raise ValueError(f"{len(p)} probabilities and {len(y)} outcomes differ")
    both = ~np.isnan(p) & ~np.isnan(y)
    if ((p[both] < 0) | (p[both] > 1)).any():
        raise ValueError("probabilities must be in 0..1")
    return p[both], y[both]


def _codes(values: ArrayLike) -> np.ndarray:
    return np.asarray(values, dtype=np.float64).reshape(-1)
