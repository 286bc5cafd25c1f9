"""What shots buy, for all languages, layers, ranks, seeds, k and rules in one computation. Pure.

A source language is scored by a probe that left it out and judged by the statistics of the other
sources; a target by the probe fitted on all sources.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .directions import mean_difference, source_subspace
from .errors import UserError
from .fit_data import Data, Fold, threshold_prompts
from .probe_stack import ProbeStack, fit_probes
from .threshold_batches import CombinedThresholds, accuracies, best_cuts, shrunken_thresholds
from .thresholds import RULES, Rule, SourceStatistics

SHOTS = (0, 1, 2, 4, 8, 16, 32, 64)
RANKS = (1, 2, 3, 5, 8, 10)


@dataclass(frozen=True)
class Readout:
    """What a probe reads: blocks, the L2 strength, and the ranks of each block's subspace."""

    layers: tuple[int, ...]
    l2: float = 1e-2
    ranks: tuple[int, ...] = RANKS


@dataclass(frozen=True)
class Draws:
    """Which train prompts of one language are shots and which unlabelled, as places in its pools.

    ``harmful [S, n]`` and ``harmless [S, m]`` hold one order per seed, of which k shots are the
    first k; ``pool`` the places (harmful, harmless) that no seed draws.
    """

    harmful: np.ndarray
    harmless: np.ndarray
    pool: tuple[np.ndarray, np.ndarray]

    @staticmethod
    def of(sizes: tuple[int, int], pool: tuple[int, int], seeds: int, seed: Sequence[int]) -> Draws:
        """Set the unlabelled pool aside, at most half of a class, and draw the shots' orders."""
        rng = np.random.default_rng(list(seed))
        orders, aside = [], []
        for size, wanted in zip(sizes, pool):
            shuffled = rng.permutation(size)
            n = min(wanted, size // 2)
            aside.append(np.sort(shuffled[:n]))
            orders.append(rng.permuted(np.tile(shuffled[n:], (seeds, 1)), axis=1))
        return Draws(orders[0], orders[1], (aside[0], aside[1]))

    @property
    def most(self) -> int:
        """The largest k there is."""
        return min(self.harmful.shape[1], self.harmless.shape[1])


@dataclass(frozen=True)
class Study:
    """Balanced accuracy on val prompts, ``values [cell, language, rule, k, seed]``.

    A cell is a pair (layers, rank). NaN where a language's prompts cannot supply k shots. k = 0
    holds one value for all seeds.
    """

    cells: tuple[tuple[Readout, int], ...]
    languages: tuple[str, ...]
    sources: tuple[str, ...]
    rules: tuple[Rule, ...]
    shots: tuple[int, ...]
    values: np.ndarray
    counts: dict[str, tuple[int, int]]

    def __post_init__(self) -> None:
        axes = (self.cells, self.languages, self.rules, self.shots)
        if self.values.shape[:4] != tuple(map(len, axes)):
            raise ValueError(f"study values of shape {self.values.shape} do not fit their axes")


def run_study(
    data: Data,
    readouts: Sequence[Readout],
    languages: Sequence[str],
    *,
    shots: Sequence[int] = SHOTS,
    rules: Sequence[Rule] = RULES,
    seeds: int = 100,
    pool: tuple[int, int] = (16, 16),
    seed: int = 0,
) -> Study:
    """Return the balanced accuracy of every rule, k and seed for every cell and language.

    ``pool`` is the number of (harmful, harmless) train prompts per language that are used without
    labels; shots are drawn from the others.

    Raises:
        UserError: with fewer than three source languages, or for a language without val prompts.
    """
    if len(data.sources) < 3:
        raise UserError(
            "a threshold study leaves source languages out and needs at least three of them, not "
            f"{len(data.sources)}"
        )
    plans = {x: _LanguagePlan.of(data, x, pool, seeds, [seed, i]) for i, x in enumerate(languages)}
    folds = _Folds.of(data)
    largest = max(max(r.ranks) for r in readouts)
    coordinates = {
        layer: folds.coordinates(data, layer, largest)
        for layer in sorted({x for r in readouts for x in r.layers})
    }
    values = []
    for readout in readouts:
        scores = folds.scores(data, [coordinates[x] for x in readout.layers], readout)
        values.append(_cells_of(data, folds, scores, plans, tuple(shots), tuple(rules), seeds))
    return Study(
        cells=tuple((r, rank) for r in readouts for rank in r.ranks),
        languages=tuple(languages),
        sources=data.sources,
        rules=tuple(rules),
        shots=tuple(shots),
        values=np.concatenate(values),
        counts={x: (len(p.val[0]), len(p.val[1])) for x, p in plans.items()},
    )


@dataclass(frozen=True)
class _LanguagePlan:
    """Rows of one language's prompts, (harmful, harmless), and its draws."""

    train: tuple[np.ndarray, np.ndarray]
    val: tuple[np.ndarray, np.ndarray]
    draws: Draws

    @staticmethod
    def of(
        data: Data, language: str, pool: tuple[int, int], seeds: int, seed: Sequence[int]
    ) -> _LanguagePlan:
        train, val = (
            data.sides(threshold_prompts(data.pool(language, split))) for split in ("train", "val")
        )
        if not all(map(len, val)):
            raise UserError(f"a threshold study needs val prompts of both classes in {language}")
        draws = Draws.of((len(train[0]), len(train[1])), pool, seeds, seed)
        return _LanguagePlan(train, val, draws)

    @property
    def unlabelled(self) -> np.ndarray:
        return np.concatenate([rows[at] for rows, at in zip(self.train, self.draws.pool)])


@dataclass(frozen=True)
class _Folds:
    """One fit per source left out, and last the one on all sources."""

    left_out: tuple[str | None, ...]
    rows: np.ndarray
    weights: np.ndarray

    @staticmethod
    def of(data: Data) -> _Folds:
        names = (*data.sources, None)
        # The fitter's own folds, so that a prompt weighs the same in a study and in a gate.
        rest = {name: [s for s in data.sources if s != name] for name in names}
        folds = [Fold.of(data, rest[name], "directions") for name in names]
        rows = folds[-1].rows
        place = {row: i for i, row in enumerate(rows.tolist())}
        weights = np.zeros((len(names), len(rows)))
        for i, fold in enumerate(folds):
            weights[i, [place[row] for row in fold.rows.tolist()]] = fold.weights
        return _Folds(names, rows, weights)

    def coordinates(self, data: Data, layer: int, rank: int) -> np.ndarray:
        """Return every prompt's coordinates in every fold's subspace, ``[folds, N, rank]``."""
        states = data.states(layer)
        found = {
            key: mean_difference(states[a], states[b]) for key, (a, b) in data.train_groups.items()
        }
        bases = []
        for name in self.left_out:
            own = torch.stack([v for (language, _), v in found.items() if language != name])
            basis = source_subspace(own, rank)
            missing = rank - basis.shape[1]
            bases.append(torch.nn.functional.pad(basis, (0, missing)))
        product = (states @ torch.cat(bases, dim=1)).double().numpy()
        return product.reshape(len(states), len(bases), rank).transpose(1, 0, 2)

    def scores(self, data: Data, coordinates: Sequence[np.ndarray], readout: Readout) -> np.ndarray:
        """Return scores of all prompts by the probe of every fold and rank, ``[folds, R, N]``."""
        # Dimensions by rank: 0 where a rank does not reach, which a probe cannot tell from absent.
        width = coordinates[0].shape[2]
        reach = np.arange(width) < np.array(readout.ranks)[:, None]
        every = np.concatenate(coordinates, axis=2)[:, None]
        features = every * np.tile(reach, (1, len(coordinates)))[:, None, :]
        n_folds, n_ranks, _, n_features = features.shape
        flat = features.reshape(n_folds * n_ranks, -1, n_features)
        probes = fit_probes(
            flat[:, self.rows],
            data.harmful[self.rows],
            np.repeat(self.weights, n_ranks, axis=0),
            np.full(len(flat), readout.l2),
        )
        return _apply(flat, probes).reshape(n_folds, n_ranks, -1)


def _apply(features: np.ndarray, probes: ProbeStack) -> np.ndarray:
    return (features @ probes.weight[:, :, None])[:, :, 0] + probes.bias[:, None]


def _cells_of(
    data: Data,
    folds: _Folds,
    scores: np.ndarray,
    plans: dict[str, _LanguagePlan],
    shots: tuple[int, ...],
    rules: tuple[Rule, ...],
    seeds: int,
) -> np.ndarray:
    """Return ``[R, languages, rules, k, seeds]`` for one readout."""
    n_ranks = scores.shape[1]
    values = np.full((n_ranks, len(plans), len(rules), len(shots), seeds), math.nan)
    statistics: dict[str | None, list[SourceStatistics]] = {}
    held_out = {
        s: [_by_rank(scores[i], data, s, split) for split in ("val", "train")]
        for i, s in enumerate(data.sources)
    }
    for place, (language, plan) in enumerate(plans.items()):
        name = language if language in data.sources else None
        fold = folds.left_out.index(name)
        if name not in statistics:
            others = [splits for s, splits in held_out.items() if s != name]
            statistics[name] = _statistics(data, folds, fold, scores[fold], others)
        for rank in range(n_ranks):
            own, source = scores[fold, rank], statistics[name][rank]
            thresholds = _thresholds(own, plan, source, shots, rules, seeds)
            values[rank, place] = accuracies(thresholds, own[plan.val[0]], own[plan.val[1]])
    return values


#: Scores ``[R, n]`` of one language's (harmful, harmless) prompts.
_Pair = tuple[np.ndarray, np.ndarray]


def _by_rank(scores: np.ndarray, data: Data, language: str, split: str) -> _Pair:
    harmful, harmless = data.sides(threshold_prompts(data.pool(language, split)))
    return scores[:, harmful], scores[:, harmless]


def _both_classes(pairs: Iterable[_Pair]) -> list[_Pair]:
    return [(h, n) for h, n in pairs if h.shape[1] and n.shape[1]]


def _statistics(
    data: Data,
    folds: _Folds,
    fold: int,
    scores: np.ndarray,
    others: Sequence[Sequence[_Pair]],
) -> list[SourceStatistics]:
    """Return one :class:`SourceStatistics` per rank, from other sources' left-out scores.

    ``others`` holds each one's val scores, and the train scores that shots are compared with.
    """
    pairs, drawn = (_both_classes(splits[i] for splits in others) for i in (0, 1))
    if not pairs:
        raise UserError("thresholds need source scores of both classes; there are none")
    drawn = drawn or pairs
    cut, _ = best_cuts(*(np.concatenate(side, axis=1) for side in zip(*pairs)))
    train = folds.rows[folds.weights[fold] > 0]
    harmful = data.harmful[train]
    _, paper = best_cuts(scores[:, train[harmful]], scores[:, train[~harmful]])
    means = np.array([[side.mean(1) for side in pair] for pair in drawn])
    variances = np.array(
        [[side.var(1, ddof=1) if side.shape[1] > 1 else 0 * side[:, 0] for side in pair]
         for pair in drawn]
    )  # fmt: skip
    counts = np.array([[side.shape[1] for side in pair] for pair in drawn])
    return [
        SourceStatistics.from_moments(
            means[:, :, r], variances[:, :, r], counts,
            threshold=float(cut[r]), paper_threshold=float(paper[r]),
        )
        for r in range(len(cut))
    ]  # fmt: skip


def _thresholds(
    own: np.ndarray,
    plan: _LanguagePlan,
    source: SourceStatistics,
    shots: tuple[int, ...],
    rules: tuple[Rule, ...],
    seeds: int,
) -> np.ndarray:
    """Return the thresholds ``[rules, k, seeds]`` of one language and cell."""
    draws, found = plan.draws, np.full((len(rules), len(shots), seeds), math.nan)
    drawn = own[plan.train[0][draws.harmful]], own[plan.train[1][draws.harmless]]
    pool = own[plan.unlabelled] if {"unlabelled", "combined"} & set(rules) else own[:0]
    combined = CombinedThresholds(pool, source)
    for i, k in enumerate(shots):
        if k > draws.most:
            continue
        # Without shots every seed is the same.
        harmful, harmless = (side[: seeds if k else 1, :k] for side in drawn)
        middles = (harmful.mean(1) + harmless.mean(1)) / 2 if k else np.array([source.threshold])
        for j, rule in enumerate(rules):
            if rule == "source":
                found[j, i] = source.threshold
            elif rule == "paper":
                found[j, i] = best_cuts(harmful, harmless)[1] if k else source.paper_threshold
            elif rule == "midpoint":
                found[j, i] = middles
            elif rule == "shrunken":
                found[j, i] = shrunken_thresholds(middles, k, source)
            elif rule == "unlabelled":
                found[j, i] = combined(harmful[:1, :0], harmless[:1, :0])
            else:
                found[j, i] = combined(harmful, harmless)
    return found
