"""CAST: conditional activation steering (arXiv 2409.05907), as pure functions of states.

Two defects of the published code are not repeated: it reads the first row of a batch only, and it
compares with ``>`` in the search and with ``<`` or ``>`` in use. It also reads and steers the
*input* of block l with a vector made from that block's *output*; here both are the output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from ..errors import UserError
from ..thresholds import fires
from .components import first_right_singular_vector

#: On which side of the score the threshold is when the condition is met (the authors' wording).
ThresholdIs = Literal["larger", "smaller"]
#: Thresholds that the paper tries: 0 to 0.06 by 0.0001, where its models' scores lie.
THRESHOLDS = np.arange(601) / 10_000
#: Multiple of the unit behaviour vectors.
STRENGTH = 1.5


def condition_layers(n_layers: int) -> tuple[int, ...]:
    """Return the blocks among which the condition's is searched: 1-14 of 32, in proportion."""
    return tuple(range(1, max(1, round(14 * n_layers / 32)) + 1))


def behaviour_layers(n_layers: int) -> tuple[int, ...]:
    """Return the blocks at which behaviour vectors are added: 15-24 of 32, in proportion.

    ``round(15 n / 32)`` to ``round(24 n / 32)``, both included: the paper has models of 32 blocks
    only, and the same relative depth is our reading for others.
    """
    return tuple(range(round(15 * n_layers / 32), round(24 * n_layers / 32) + 1))


def first_component(positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
    """Return the first principal component of the pairwise-centred contrast: ``[n, d] x 2 -> [d]``.

    Row i of both is a pair; each pair is centred on its own middle, so the component is the first
    right singular vector of the differences. Unit norm, float32, with the sign that gives the
    positive class the larger mean projection (the authors' code lets the majority of pairs decide,
    which is the same wherever the component separates the classes).

    Raises:
        UserError: if shapes differ, a value is not finite, or all differences are zero.
    """
    if positive.ndim != 2 or positive.shape != negative.shape or len(positive) == 0:
        raise UserError(
            f"a contrast needs pairs of states [n, d]; got {list(positive.shape)} and "
            f"{list(negative.shape)}"
        )
    halves = (positive.double() - negative.double()).cpu().numpy() / 2
    if not np.isfinite(halves).all():
        raise UserError("contrast states hold values that are NaN or infinite")
    if not halves.any():
        raise UserError("the two classes of a contrast have the same states; they have no contrast")
    component = first_right_singular_vector(halves)
    if float(halves.mean(0) @ component) < 0:
        component = -component
    return torch.from_numpy(component).float()


def contrast_vectors(positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
    """Return :func:`first_component` of every block: ``[n, L, d] x 2 -> [L, d]``.

    Condition vectors come from prompts that should and should not meet the condition, each the mean
    over its tokens; behaviour vectors from the same questions with a refusing (positive) and a
    complying suffix, each the mean over the suffix's tokens.
    """
    layers = range(positive.shape[1])
    return torch.stack([first_component(positive[:, i], negative[:, i]) for i in layers])


def masked_mean(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean of ``h [B, T, d]`` over the tokens that ``mask [B, T]`` marks: ``[B, d]``.

    Computed in float32. What stands at other positions does not matter, NaN included.
    """
    real = mask.to(hidden.device)
    total = hidden.float().masked_fill(~real[..., None], 0.0).sum(1)
    return total / real.sum(1, keepdim=True).clamp(min=1)


def condition_score(hidden: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    """Return ``cos(h, tanh(P h))`` with ``P = c c^T / (c . c)``: ``[..., d], [d] -> [...]``.

    ``h`` is the mean over prompt tokens, the tanh element-wise. 0 where the projection vanishes.
    Vectors may be ``[L, d]`` with states ``[N, L, d]``. Computed in float32.
    """
    wide, c = hidden.float(), vector.float()
    along = (wide * c).sum(-1, keepdim=True) / (c * c).sum(-1, keepdim=True)
    projected = torch.tanh(along * c)
    size = wide.norm(dim=-1) * projected.norm(dim=-1)
    return (wide * projected).sum(-1) / torch.where(size > 0, size, torch.ones_like(size))


@dataclass(frozen=True)
class ConditionPoint:
    """Where and how the condition is checked: met when the threshold is larger (or smaller).

    Attributes:
        layer: the block whose output is read.
        threshold: compared with :func:`condition_score`; a score equal to it meets the condition.
        threshold_is: ``larger`` means that scores below it meet the condition.
        f1: on the examples of the search.
    """

    layer: int
    threshold: float
    threshold_is: ThresholdIs
    f1: float

    @property
    def sign(self) -> float:
        """+1 where high scores meet the condition, -1 where low ones do."""
        return 1.0 if self.threshold_is == "smaller" else -1.0

    def met(self, scores: np.ndarray) -> np.ndarray:
        """Return ``[N]`` bool: ``sign score >= sign threshold``."""
        return fires(self.sign * np.asarray(scores), self.sign * self.threshold)


def find_condition(
    positive: np.ndarray,
    negative: np.ndarray,
    layers: tuple[int, ...],
    thresholds: np.ndarray = THRESHOLDS,
) -> ConditionPoint:
    """Return the block, threshold and side with the highest F1, the first of equals.

    ``F1 = 2 TP / (TP + FP + n)`` with n positives. Searched in the authors' order: block,
    threshold, then ``larger`` before ``smaller``.

    Args:
        positive: scores ``[n, L]`` of prompts that should meet the condition; negative ``[m, L]``.
        layers: blocks to search, indices into L.
        thresholds: ascending, ``[T]`` for all blocks or ``[L, T]`` for each.

    Raises:
        UserError: if a class has no prompt, no block is given, or a score is not finite.
    """
    yes, no = np.asarray(positive, np.float64), np.asarray(negative, np.float64)
    if yes.ndim != 2 or no.ndim != 2 or not len(yes) or not len(no) or not layers:
        raise UserError("a condition needs scores [n, layers] of both classes and a block to read")
    if not (np.isfinite(yes).all() and np.isfinite(no).all()):
        raise UserError("condition scores hold values that are NaN or infinite")
    tried = np.broadcast_to(thresholds, (yes.shape[1], np.shape(thresholds)[-1]))
    f1 = np.empty((len(layers), tried.shape[1], 2))
    for row, layer in enumerate(layers):
        for side, (hit, false) in enumerate(
            zip(_counts(yes[:, layer], tried[layer]), _counts(no[:, layer], tried[layer]))
        ):
            f1[row, :, side] = 2 * hit / (hit + false + len(yes))
    row, column, side = np.unravel_index(int(np.argmax(f1)), f1.shape)
    sides: tuple[ThresholdIs, ThresholdIs] = ("larger", "smaller")
    best = float(f1[row, column, side])
    return ConditionPoint(layers[row], float(tried[layers[row], column]), sides[side], best)


def observed_thresholds(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Return the middles between neighbouring scores, ``[n, L], [m, L] -> [L, n + m - 1]``.

    Every split of the examples by one threshold is among them, so the search over these finds the
    highest F1 that any threshold has. The paper's range is that of its own models: where a model's
    scores lie outside of it, every threshold in it fires on all prompts or on none.
    """
    ordered = np.sort(np.concatenate([positive, negative]).astype(np.float64), axis=0).T
    return (ordered[:, 1:] + ordered[:, :-1]) / 2


def _counts(scores: np.ndarray, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how many scores meet the condition where the threshold is larger, and smaller."""
    ordered = np.sort(scores)
    at_most = np.searchsorted(ordered, thresholds, side="right")
    at_least = len(ordered) - np.searchsorted(ordered, thresholds, side="left")
    return at_most, at_least
