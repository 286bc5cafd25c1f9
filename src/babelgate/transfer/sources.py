"""A language's direction with what it is compared against. Pure: tensors in, values out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..directions import Direction, mean_difference
from ..errors import UserError
from ..types import Position
from .results import MEAN

#: Harmful and harmless states of one language at one block, ``[N, d]`` and ``[M, d]``.
Classes = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Source:
    """A language's direction, how far it is added, and controls from the same states.

    ``length`` is in units of the residual stream, usually that of the mean difference; None where
    it is not known: the direction is then only projected out. ``shuffled`` are directions of
    permuted labels, ``identity`` that of the language itself.

    Raises:
        UserError: for a length that is negative or no number, or controls of another size.
    """

    direction: Direction
    length: float | None = None
    shuffled: tuple[Direction, ...] = ()
    identity: Direction | None = None

    def __post_init__(self) -> None:
        if self.length is not None and not 0 <= self.length < math.inf:
            raise UserError(f"a direction is added with length {self.length}; give 0 or more")
        size = self.direction.vector.shape
        others = [*self.shuffled, *([self.identity] if self.identity else [])]
        if any(x.vector.shape != size for x in others):
            raise UserError(f"a control has another size than its direction, which has {size[0]}")


def random_direction(size: int, layer: int, seed: int) -> Direction:
    """Return a unit vector ``[size]`` drawn evenly from the sphere."""
    drawn = torch.from_numpy(np.random.default_rng(seed).standard_normal(size))
    vector = (drawn / drawn.norm()).float()
    return Direction(vector, layer, "t_post", "random", f"seed {seed}")


def shuffled_direction(first: torch.Tensor, second: torch.Tensor, seed: int) -> torch.Tensor:
    """Return ``unit(mean(a) - mean(b))`` for a random split of the pool into classes as large.

    ``[N, d], [M, d] -> [d]``. It keeps the spread and the means of the states and loses which of
    them were refused: a direction that prompts of this language differ along by chance.

    Raises:
        UserError: if a class is empty or the means coincide.
    """
    pool = torch.cat([first, second])
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(pool)))
    return mean_difference(pool[order[: len(first)]], pool[order[len(first) :]])


def identity_direction(own: Classes, others: Sequence[Classes]) -> torch.Tensor:
    """Return ``unit(m(own) - mean over others of m)``, m the mean of the two class means, ``[d]``.

    Both classes weigh the same in every language, so that no harm is left in it.

    Raises:
        UserError: without other languages, if one lacks a class, or if the means coincide.
    """
    if not others:
        raise UserError("a language-identity direction needs the states of other languages")
    rest = torch.stack([_balanced_mean(classes) for classes in others])
    return mean_difference(_balanced_mean(own)[None], rest)


def _balanced_mean(classes: Classes) -> torch.Tensor:
    if not all(len(states) for states in classes):
        raise UserError(
            f"a language-identity direction needs both classes of every language; one has "
            f"{len(classes[0])} harmful and {len(classes[1])} harmless states"
        )
    return torch.stack([states.double().mean(0) for states in classes]).mean(0)


def source_from_states(
    refused: torch.Tensor,
    answered: torch.Tensor,
    *,
    language: str,
    layer: int,
    position: Position = "t_post",
    method: str = "refused - answered",
    own: Classes | None = None,
    others: Sequence[Classes] = (),
    shuffles: int = 3,
    seed: int = 0,
) -> Source:
    """Return the mean difference of states at a block with its length and its controls.

    ``refused [N, d]`` and ``answered [M, d]`` (or harmful and harmless); ``own`` and ``others`` are
    the classes at the same block that the identity direction is made of, left out without them.
    ``length = norm(mean(refused) - mean(answered))``. Source: arXiv 2406.11717.

    Raises:
        UserError: if a class is empty or the means coincide.
    """
    vector = mean_difference(refused, answered)
    gap = refused.double().mean(0) - answered.double().mean(0)

    def named(found: torch.Tensor, what: str) -> Direction:
        return Direction(found, layer, position, what, language)

    identity = identity_direction(own, others) if own is not None and others else None
    return Source(
        named(vector, method),
        float(gap.norm()),
        tuple(
            named(shuffled_direction(refused, answered, seed + i), "shuffled labels")
            for i in range(shuffles)
        ),
        None if identity is None else named(identity, "language identity"),
    )


def mean_source(sources: Mapping[str, Source]) -> Source:
    """Return the mean of unit directions, with the mean of their lengths.

    Directions of different blocks are not averaged: those of the commonest block count (the lowest
    of several as common). The length is None if one of theirs is.

    Raises:
        UserError: if fewer than two share a block, or if they cancel out.
    """
    layers = Counter(source.direction.layer for source in sources.values())
    layer = min(layers, key=lambda x: (-layers[x], x), default=-1)
    used = {k: s for k, s in sources.items() if s.direction.layer == layer}
    if len(used) < 2:
        raise UserError("a mean direction needs at least two directions of the same block")
    total = torch.stack([s.direction.vector.double() for s in used.values()]).mean(0)
    if float(total.norm()) < 1e-6:
        raise UserError(f"the directions of {', '.join(used)} cancel out; they have no mean")
    lengths = [s.length for s in used.values() if s.length is not None]
    first = next(iter(used.values())).direction
    vector = (total / total.norm()).float()
    direction = replace(first, vector=vector, method=MEAN, source=",".join(used))
    return Source(direction, sum(lengths) / len(used) if len(lengths) == len(used) else None)
