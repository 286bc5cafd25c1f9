"""Held-out prompts judged by projections: separability, length control, nearest centroids. Pure.

All of them need scores of the same few vectors, so that each language's states are multiplied once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..types import Estimate
from .cosines import unit
from .intervals import auroc_estimate
from .lengths import residual_scores
from .members import Members
from .plan import Plan
from .pooling import Pooled
from .results import Tables
from .rows import Centroids, LengthControl, Separability, Skip
from .separation import at_own_threshold, at_threshold, best_threshold, projection_gap
from .states import LanguageStates


@dataclass(frozen=True)
class Scores:
    """Projections of every language's prompts on the vectors that judge it.

    Per language ``pooled [n, 1 + sources]`` and ``pooled_residual`` (sources' directions, in the
    order of :class:`Pooled`), and ``own``, ``own_residual``, ``pivot`` ``[n]``. NaN where a vector
    is missing.
    """

    direction: Pooled
    residual: Pooled
    pooled: list[np.ndarray]
    pooled_residual: list[np.ndarray]
    own: list[np.ndarray]
    own_residual: list[np.ndarray]
    pivot: list[np.ndarray]

    @staticmethod
    def of(
        plan: Plan, states: Sequence[LanguageStates], harm: np.ndarray, residual: np.ndarray
    ) -> Scores:
        """Project on unit vectors: one product per language."""
        pooled, pooled_residual = (Pooled.of(rows, plan.sources) for rows in (harm, residual))
        own, own_residual = unit(harm), unit(residual)
        pivot = own[plan.pivot] if plan.pivot is not None else np.full(harm.shape[1], np.nan)
        common = [unit(pooled.values), unit(pooled_residual.values), pivot[None]]
        parts: list[list[np.ndarray]] = []
        for i, s in enumerate(states):
            vectors = np.concatenate([*common, own[i : i + 1], own_residual[i : i + 1]])
            missing = ~np.isfinite(vectors.sum(1))
            scores = s.project(np.where(missing[:, None], 0.0, vectors))
            scores[:, missing] = np.nan
            ends = np.cumsum([len(c) for c in common] + [1])
            parts.append(np.split(scores, ends, axis=1))
        of = [list(column) for column in zip(*parts)]
        return Scores(
            pooled,
            pooled_residual,
            pooled=of[0],
            pooled_residual=of[1],
            pivot=[x[:, 0] for x in of[2]],
            own=[x[:, 0] for x in of[3]],
            own_residual=[x[:, 0] for x in of[4]],
        )


def judge(
    plan: Plan,
    states: Sequence[LanguageStates],
    harm: np.ndarray,
    residual: np.ndarray,
    middles: np.ndarray,
    layer: int,
    position: str,
) -> Tables:
    """Return the rows of held-out prompts, from harmfulness directions ``[L, d]`` and the like.

    The sources' direction comes from their train prompts and their threshold from their held-out
    ones, both without the language that they judge; so no prompt and no language is fitted and
    tested on.
    """
    scores = Scores.of(plan, states, harm, residual)
    at = layer, position
    separability, lengths, centroids, skipped = [], [], [], []
    for i, m in enumerate(plan.members):
        if not len(m.tested[0]):
            continue
        source = scores.pooled[i][:, scores.direction.place(i)]
        if np.isfinite(source).all():
            separability.append(_by_source(at, plan, scores, i, source))
        elif scores.direction.sources:
            skipped.append(Skip("separability", m.language, "no other source language is left"))
        if np.isfinite(scores.own[i]).all():
            separability.append(_row(at, m, "own", scores.own[i], None))
        elif "harmfulness" in m.kinds:
            reason = f"harmful and harmless states of layer {layer} at {position} have one mean"
            skipped.append(Skip("separability", m.language, reason))
        if plan.measured[i]:
            place = scores.residual.place(i)
            pairs = {
                "source": (source, scores.pooled_residual[i][:, place]),
                "own": (scores.own[i], scores.own_residual[i]),
            }
            lengths += [
                _length(at, m, name, plain, other)
                for name, (plain, other) in pairs.items()
                if np.isfinite(plain).all() and np.isfinite(other).all()
            ]
        centroids += _centroids(at, plan, scores, harm, middles, i)
    return Tables(
        separability=tuple(separability),
        lengths=tuple(lengths),
        centroids=tuple(centroids),
        skipped=tuple(skipped),
    )


def _by_source(
    at: tuple[int, str], plan: Plan, scores: Scores, i: int, own: np.ndarray
) -> Separability:
    place = scores.direction.place(i)
    others = [s for s in scores.direction.others(i) if len(plan.members[s].tested[0])]
    if not others:
        return _row(at, plan.members[i], "source", own, None)
    held_out = [
        np.concatenate([scores.pooled[s][plan.members[s].tested[side], place] for s in others])
        for side in (0, 1)
    ]
    return _row(at, plan.members[i], "source", own, best_threshold(*held_out))


def _row(
    at: tuple[int, str], m: Members, direction: str, scores: np.ndarray, threshold: float | None
) -> Separability:
    harmful, harmless = (scores[side] for side in m.tested)
    rng = m.generator(100 + (direction == "own"))
    return Separability(
        *at,
        m.language,
        direction,
        auroc=auroc_estimate(harmful, harmless),
        balanced_source=None if threshold is None else at_threshold(harmful, harmless, threshold),
        balanced_own=at_own_threshold(harmful, harmless, m.settings.halvings, rng),
        threshold=float("nan") if threshold is None else threshold,
        gap=projection_gap(harmful, harmless),
        n_harmful=len(harmful),
        n_harmless=len(harmless),
    )


def _length(
    at: tuple[int, str], m: Members, direction: str, plain: np.ndarray, residual: np.ndarray
) -> LengthControl:
    rest = residual_scores(residual, m.fit, m.length)
    estimates = [
        auroc_estimate(*(values[side] for side in m.tested)) for values in (m.length, plain, rest)
    ]
    return LengthControl(*at, m.language, direction, *estimates)


def _centroids(
    at: tuple[int, str],
    plan: Plan,
    scores: Scores,
    harm: np.ndarray,
    middles: np.ndarray,
    i: int,
) -> list[Centroids]:
    """Return the row of one language; none if fewer than two origins have centroids.

    ``|x - c_h|^2 <= |x - c_n|^2`` is ``x . w >= m . w`` with ``w = c_h - c_n`` and ``m`` the middle
    between the centroids, so the projections at hand decide.
    """
    place, pooled_middles = scores.direction.place(i), Pooled.of(middles, plan.sources)
    pivot, n = plan.pivot, harm.shape[1]
    nothing = np.full(n, np.nan)
    origins = [
        (scores.own[i], harm[i], middles[i]),
        (
            scores.pivot[i],
            nothing if pivot is None else harm[pivot],
            nothing if pivot is None else middles[pivot],
        ),
        (scores.pooled[i][:, place], scores.direction.values[place], pooled_middles.values[place]),
    ]
    m = plan.members[i]
    rows = np.concatenate(m.tested)
    cuts = [float(unit(w) @ middle) for _, w, middle in origins]
    known = [np.isfinite(cut) for cut in cuts]
    if sum(known) < 2:
        return []
    decisions = [values[rows] >= cut for (values, _, _), cut in zip(origins, cuts)]

    def agreement(a: int, b: int) -> float:
        same = decisions[a] == decisions[b]
        return float(same.mean()) if known[a] and known[b] else float("nan")

    def judged(a: int) -> Estimate | None:
        harmful, harmless = (origins[a][0][side] for side in m.tested)
        return at_threshold(harmful, harmless, cuts[a]) if known[a] else None

    row = Centroids(
        *at,
        m.language,
        own_pivot=agreement(0, 1),
        own_source=agreement(0, 2),
        pivot_source=agreement(1, 2),
        own=judged(0),
        pivot=judged(1),
        source=judged(2),
        n=len(rows),
    )
    return [row]
