"""The geometry of one layer at one position: states in, rows out. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .cosines import cosine, cosines, reliability, unit
from .intervals import share_estimate
from .judging import judge
from .members import KINDS
from .parallelism import language_basis, paired_cosines
from .plan import Plan
from .pooling import Pooled
from .projections import project
from .results import Tables
from .rows import CosineMatrix, HarmRefusal, Matrix, Parallelism, SubspaceShare, Translation
from .shares import subspace_shares
from .states import LanguageStates, centre
from .universality import universality


@dataclass(frozen=True)
class Place:
    """A layer and a position, as rows name them."""

    layer: int
    position: str


@dataclass(frozen=True)
class Summary:
    """What one pass over the states leaves of them, beside the centred states themselves.

    ``directions`` by kind ``[L, d]``, ``middles [L, d]`` between the class means, ``residual [L,
    d]`` length-residualised harmfulness, ``paired [L, L, d]`` differences on shared prompts,
    ``reliability`` by kind ``[L]``. NaN where missing.
    """

    states: list[LanguageStates]
    directions: dict[str, np.ndarray]
    middles: np.ndarray
    residual: np.ndarray
    paired: np.ndarray
    reliability: dict[str, np.ndarray]

    @staticmethod
    def of(block: np.ndarray, plan: Plan) -> Summary:
        """Sum the states ``[N, d]`` float32 up, one language after the other."""
        n, d = len(plan.members), block.shape[1]
        directions = {kind: np.full((n, d), np.nan) for kind in KINDS}
        reliable = {kind: np.full(n, np.nan) for kind in KINDS}
        middles, residual = np.full((n, d), np.nan), np.full((n, d), np.nan)
        paired = np.full((n, n, d), np.nan)
        states = []
        for i, m in enumerate(plan.members):
            partner = plan.alignment.weights[i][1]
            own, sums = centre(block, m.rows, plan.weights[i])
            states.append(own)
            for kind, rows in zip(KINDS, sums):
                if kind in m.kinds:
                    directions[kind][i] = rows[0]
            after = sums[len(KINDS) :]
            if "harmfulness" in m.kinds:
                middles[i] = after[0][0] + own.mean
            if plan.lengths[i] is not None:
                residual[i] = after[1][0]
            paired[i, partner >= 0] = after[2][partner[partner >= 0]]
            for kind, rows in zip(m.kinds, after[3:]):
                reliable[kind][i] = reliability(*np.split(rows, 2))
        return Summary(states, directions, middles, residual, paired, reliable)


def layer_tables(summary: Summary, plan: Plan, layer: int, position: str) -> Tables:
    """Return all rows of one layer and position."""
    at = Place(layer, position)
    found = Tables(
        cosines=_cosine_rows(at, summary, plan),
        parallelism=_parallelism(at, summary, plan),
        shares=_shares(at, summary, plan),
        translation=_translation(at, summary, plan),
        harm_refusal=_harm_refusal(at, summary, plan),
    )
    found += judge(
        plan, summary.states, summary.directions["harmfulness"], summary.residual,
        summary.middles, layer, position,
    )  # fmt: skip
    if layer not in plan.settings.projection_layers:
        return found
    harm = Pooled.of(summary.directions["harmfulness"], plan.sources).values[0]
    refusal = summary.directions["refusal"]
    basis = language_basis(summary.middles)
    axes = {
        "harmfulness": harm,
        "refusal": Pooled.of(refusal, plan.sources).values[0],
        "language": basis[0] if len(basis) else np.full(len(harm), np.nan),
    }
    picture = project(layer, position, list(plan.members), summary.states, axes, plan.settings.seed)
    return found if picture is None else found + Tables(projections=(picture,))


def _matrix(values: np.ndarray) -> Matrix:
    return tuple(tuple(row) for row in values.tolist())


def _cosine_rows(at: Place, summary: Summary, plan: Plan) -> tuple[CosineMatrix, ...]:
    found = []
    for kind in KINDS:
        if not any(kind in m.kinds for m in plan.members):
            continue
        counts = [m.counts(kind) for m in plan.members]
        found.append(
            CosineMatrix(
                at.layer,
                at.position,
                kind,
                plan.languages,
                _matrix(cosines(summary.directions[kind])),
                tuple(summary.reliability[kind].tolist()),
                tuple(n for n, _ in counts),
                tuple(n for _, n in counts),
            )
        )
    return tuple(found)


def _parallelism(at: Place, summary: Summary, plan: Plan) -> tuple[Parallelism, ...]:
    pairs = plan.alignment.usable & ~np.eye(len(plan.members), dtype=bool)
    if not pairs.any():
        return ()
    plain, outside = paired_cosines(summary.paired, language_basis(summary.middles))
    counts = [plan.alignment.counts(side).tolist() for side in (True, False)]
    harmful, harmless = (tuple(map(tuple, side)) for side in counts)
    row = Parallelism(
        at.layer, at.position, plan.languages, _matrix(plain), _matrix(outside), harmful, harmless
    )
    return (row,)


def _shares(at: Place, summary: Summary, plan: Plan) -> tuple[SubspaceShare, ...]:
    directions, ranks = summary.directions["harmfulness"], plan.settings.ranks
    shares, counts = subspace_shares(directions, plan.sources, ranks)
    d = directions.shape[1]
    random = tuple(min(r / d, 1.0) for r in range(1, ranks + 1))
    return tuple(
        SubspaceShare(at.layer, at.position, m.language, tuple(row), random, int(n))
        for m, row, n in zip(plan.members, shares.tolist(), counts)
        if not math.isnan(row[0])
    )


def _translation(at: Place, summary: Summary, plan: Plan) -> tuple[Translation, ...]:
    found = []
    for i, m in enumerate(plan.members):
        places = plan.translations(i)
        if places is None or plan.pivot is None:
            continue
        pair = (summary.states[i], places[0]), (summary.states[plan.pivot], places[1])
        raw, centred = universality(*pair)
        found.append(
            Translation(
                at.layer,
                at.position,
                m.language,
                plan.settings.pivot,
                raw.u,
                centred.u,
                raw.matched,
                centred.matched,
                share_estimate(raw.identified, raw.n),
                share_estimate(centred.identified, centred.n),
                1 / raw.n,
                raw.n,
            )
        )
    return tuple(found)


def _harm_refusal(at: Place, summary: Summary, plan: Plan) -> tuple[HarmRefusal, ...]:
    harm, overall, among_harmful, among_harmless = (unit(summary.directions[k]) for k in KINDS)
    values = zip(
        cosine(harm, overall).tolist(),
        cosine(harm, among_harmful).tolist(),
        cosine(harm, among_harmless).tolist(),
        cosine(among_harmful, among_harmless).tolist(),
    )
    found = []
    for m, (a, b, c, d) in zip(plan.members, values):
        counts = m.counts("refusal_harmful") + m.counts("refusal_harmless")
        if not all(map(math.isnan, (a, b, c, d))):
            found.append(HarmRefusal(at.layer, at.position, m.language, a, b, c, d, *counts))
    return tuple(found)
