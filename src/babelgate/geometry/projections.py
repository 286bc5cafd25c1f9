"""Prompts in two dimensions, ready for a picture: principal components and named axes. Pure."""

from __future__ import annotations

import numpy as np

from ..discriminant import principal_subspace
from .cosines import cosine, unit
from .members import Members
from .rows import Projection
from .states import LanguageStates

#: More components than are wanted make the randomised ones that are wanted more exact.
_COMPONENTS = 8


def project(
    layer: int,
    position: str,
    members: list[Members],
    states: list[LanguageStates],
    axes: dict[str, np.ndarray],
    seed: int,
) -> Projection | None:
    """Return all prompts' coordinates; None without at least three train prompts.

    ``axes`` holds vectors ``[d]`` by name (``harmfulness``, ``refusal``, ``language``), NaN for one
    that does not exist. Principal components and the origin are those of the pooled train states.
    """
    train = np.concatenate(
        [s.centred[m.fit] + s.mean.astype(np.float32) for m, s in zip(members, states)]
    )
    if len(train) < 3:
        return None
    origin = train.mean(0, dtype=np.float64)
    basis = principal_subspace(train, _COMPONENTS, seed)[:, :2].astype(np.float64)
    total = sum(float(np.square(c - origin).sum()) for c in np.array_split(train, 32))
    # A state space of one dimension has no second component.
    basis = np.pad(basis, ((0, 0), (0, 2 - basis.shape[1])))
    named = {"first": basis[:, 0], "second": basis[:, 1]}
    named |= {name: unit(vector) for name, vector in axes.items()}
    stacked = np.stack(list(named.values()))
    columns = np.concatenate([s.project(np.nan_to_num(stacked)) for s in states]) - (
        np.nan_to_num(stacked) @ origin
    )
    inside = (train - origin.astype(np.float32)) @ basis.astype(np.float32)
    explained = np.square(inside, dtype=np.float64).sum(0) / total if total else [np.nan] * 2
    known = np.isfinite(stacked.sum(1))
    coordinates = {
        name: tuple(columns[:, i].tolist()) if known[i] else () for i, name in enumerate(named)
    }
    refused = np.concatenate([m.refused for m in members])
    return Projection(
        layer=layer,
        position=position,
        rows=tuple(int(r) for m in members for r in m.rows),
        languages=tuple(m.language for m in members for _ in m.rows),
        harmful=tuple(bool(x) for m in members for x in m.harmful),
        refused=tuple(None if np.isnan(x) else bool(x) for x in refused),
        **coordinates,
        explained=tuple(float(x) for x in explained),
        harm_refusal_cosine=float(cosine(named["harmfulness"], named["refusal"])),
        harm_language_cosine=float(cosine(named["harmfulness"], named["language"])),
    )
