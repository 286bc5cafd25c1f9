"""AdaSteer: two steering vectors with coefficients that depend on the prompt (arXiv 2504.09466).

What the authors' code and files say, and their names do not: in the refusal direction's files
``class_a`` holds harmful prompts that the model answers and ``class_b`` harmful prompts that it
refuses, so the released ``mean_diff`` is *answered minus refused* and a negative coefficient steers
towards refusing. The released harmfulness direction ``proj`` is the difference harmful minus
harmless projected *onto* the refusal direction, layer by layer, so that both vectors are parallel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ..errors import UserError
from ..metrics import auroc


@dataclass(frozen=True)
class Anchors:
    """Two class means per layer, ``[L, d]`` float32: positions run from 0 (start) to 100 (end)."""

    start: torch.Tensor
    end: torch.Tensor


@dataclass(frozen=True)
class AdaSteerVectors:
    """The vectors of every block and the class means that coefficients are read against.

    Attributes:
        refusal: ``[L, d]`` float32, the refusal direction RD, not normalised.
        harmfulness: ``[L, d]`` float32, the harmfulness direction HD, projected onto RD.
        refusal_anchors: harmful prompts answered (start) and refused (end).
        harmfulness_anchors: harmful prompts answered (start) and harmless prompts (end).
        provenance: where they come from.

    Raises:
        UserError: if shapes differ, a tensor is not float32 or a value is not finite.
    """

    refusal: torch.Tensor
    harmfulness: torch.Tensor
    refusal_anchors: Anchors
    harmfulness_anchors: Anchors
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = self.refusal.shape
        for name, tensor in self.tensors().items():
            if tensor.ndim != 2 or tensor.shape != shape:
                raise UserError(
                    f"AdaSteer's {name} has shape {list(tensor.shape)}; it should be [layers, d] "
                    f"like the refusal direction's {list(shape)}"
                )
            if tensor.dtype != torch.float32:
                raise UserError(f"AdaSteer's {name} is {tensor.dtype}; it should be float32")
            if not bool(torch.isfinite(tensor).all()):
                raise UserError(f"AdaSteer's {name} holds values that are NaN or infinite")

    @property
    def n_layers(self) -> int:
        """Number of blocks that the vectors are for."""
        return self.refusal.shape[0]

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return all tensors by name."""
        return {
            "refusal": self.refusal,
            "harmfulness": self.harmfulness,
            "refusal_start": self.refusal_anchors.start,
            "refusal_end": self.refusal_anchors.end,
            "harmfulness_start": self.harmfulness_anchors.start,
            "harmfulness_end": self.harmfulness_anchors.end,
        }


@dataclass(frozen=True)
class Coefficient:
    """``clamp(mult (s + offset) + bias, low, high)`` of the position s at a block; None: no bound.

    Raises:
        UserError: if the lower bound is above the upper one.
    """

    layer: int
    mult: float
    offset: float
    bias: float
    low: float | None
    high: float | None

    def __post_init__(self) -> None:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise UserError(f"a coefficient's bounds {self.low} and {self.high} are the wrong way")

    def of(self, position: torch.Tensor) -> torch.Tensor:
        """Return the coefficients ``[N]`` of positions ``[N]``."""
        value = self.mult * (position + self.offset) + self.bias
        return value if self.low is None and self.high is None else value.clamp(self.low, self.high)


@dataclass(frozen=True)
class AdaSteer:
    """Vectors with the two coefficients: ``h_l += a RD_l + b HD_l`` at every block."""

    vectors: AdaSteerVectors
    a: Coefficient
    b: Coefficient

    def __post_init__(self) -> None:
        for c in (self.a, self.b):
            if not 0 <= c.layer < self.vectors.n_layers:
                raise UserError(
                    f"an AdaSteer coefficient is read at block {c.layer}, but the vectors are for "
                    f"{self.vectors.n_layers} blocks"
                )

    def read_a(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return ``a [N]`` from the last prompt token's ``h [N, d]`` at block ``a.layer``."""
        anchors, layer = self.vectors.refusal_anchors, self.a.layer
        start, end = (mean[layer].to(hidden.device) for mean in (anchors.start, anchors.end))
        return coefficient(hidden, start, end, self.a)

    def read_b(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return ``b [N]`` from the last prompt token's ``h [N, d]`` at block ``b.layer``."""
        anchors, layer = self.vectors.harmfulness_anchors, self.b.layer
        start, end = (mean[layer].to(hidden.device) for mean in (anchors.start, anchors.end))
        return coefficient(hidden, start, end, self.b)


#: (a, b) of the authors' code, by model. Its layer numbers are ours: outputs of blocks, 0-based.
PUBLISHED: Mapping[str, tuple[Coefficient, Coefficient]] = {
    "Llama-3.1-8B-Instruct": (
        Coefficient(8, 0.02, 60, 0, -0.22, -0.08),
        Coefficient(13, -0.05, 5, -0.5, -0.75, None),
    ),
    "Qwen2.5-7B-Instruct": (
        Coefficient(5, 0.1, -140, 0, -0.2, 0),
        Coefficient(13, -0.06, -50, 0, -0.6, 0.4),
    ),
    "gemma-2-9b-it": (
        Coefficient(12, 0.004, -35, 0, -0.02, 0.06),
        Coefficient(19, 0.01, -50, 0, -0.06, 0.02),
    ),
}


def position(hidden: torch.Tensor, start: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    """Return how far states lie from one class mean (0) to the other (100), along their difference.

    ``s = 100 (h - m_start) . u / |m_end - m_start|`` with ``u`` the unit vector from start to end;
    ``[..., d] -> [...]``, computed in float32. Class means and states may be ``[L, d]`` and
    ``[N, L, d]``.
    """
    step = end.float() - start.float()
    return 100 * ((hidden.float() - start.float()) * step).sum(-1) / (step * step).sum(-1)


def coefficient(
    hidden: torch.Tensor, mean_harmful: torch.Tensor, mean_harmless: torch.Tensor, c: Coefficient
) -> torch.Tensor:
    """Return ``clamp(mult (s + offset) + bias, low, high)`` of states: ``[N, d] -> [N]``.

    ``s`` is the :func:`position` between the class means ``[d]``: 0 at ``mean_harmful``, 100 at
    ``mean_harmless`` (for ``a`` these are the harmful prompts answered and refused). Source: arXiv
    2504.09466.
    """
    return c.of(position(hidden, mean_harmful, mean_harmless))


@dataclass(frozen=True)
class LabelledStates:
    """States ``[n, L, d]`` at the last prompt token: harmful refused, harmful answered, harmless.

    Raises:
        UserError: if a class has no example or shapes differ.
    """

    refused: torch.Tensor
    answered: torch.Tensor
    harmless: torch.Tensor

    def __post_init__(self) -> None:
        for name in ("refused", "answered", "harmless"):
            states = getattr(self, name)
            if states.ndim != 3 or states.shape[1:] != self.refused.shape[1:]:
                raise UserError(
                    f"AdaSteer's {name} states have shape {list(states.shape)}; they should be "
                    f"[n, layers, d] like the refused ones' {list(self.refused.shape)}"
                )
            if len(states) == 0:
                raise UserError(
                    f"AdaSteer needs harmful prompts that are refused, harmful prompts that are "
                    f"answered, and harmless prompts; there is none of the {name} kind"
                )


def fit_vectors(train: LabelledStates) -> AdaSteerVectors:
    """Return vectors and anchors from labelled states.

    ``RD = mean(refused) - mean(answered)`` of harmful prompts; ``HD = (w . RD / RD . RD) RD`` per
    block with ``w = mean(answered) - mean(harmless)``, projected as in the released files. A
    positive coefficient of RD steers towards refusing (the released vectors have the other sign).
    """
    refused, answered, harmless = (
        x.double().mean(0) for x in (train.refused, train.answered, train.harmless)
    )
    refusal = refused - answered
    difference = answered - harmless
    share = (difference * refusal).sum(-1) / (refusal * refusal).sum(-1)
    return AdaSteerVectors(
        refusal.float(),
        (share[:, None] * refusal).float(),
        Anchors(answered.float(), refused.float()),
        Anchors(answered.float(), harmless.float()),
        {"method": "adapted", "examples": _counts(train)},
    )


def fit_adasteer(
    train: LabelledStates,
    validation: LabelledStates | None = None,
    *,
    strength: float = 0.2,
    layers: Sequence[int] | None = None,
) -> AdaSteer:
    """Return AdaSteer adapted to a model and data: vectors and coefficients refitted.

    The paper sets layers and numbers by hand per model; this rule is ours. Vectors and anchors come
    from ``train``. ``a`` is read at the block whose position separates answered from refused
    harmful prompts of ``validation`` best (AUROC; the earliest of equals), ``b`` at the one that
    separates answered harmful from harmless ones. Both are straight lines between two medians of
    validation positions, clamped at the ends:

    - ``a``: ``strength`` at the answered harmful prompts, 0 at the refused ones;
    - ``b``: 0 at the answered harmful prompts, and at the harmless ones the value B with which
      ``B HD`` comes closest to ``-strength RD`` over all blocks (least squares), so that what ``a``
      does to a harmless prompt is undone.

    Args:
        train: one state per prompt; ``validation`` likewise, of other prompts. Without it the
            training states stand in, and the choice of layers is optimistic.
        strength: of the refusal vector, in multiples of its own length.
        layers: blocks to choose from; all by default.

    Raises:
        UserError: for a class without examples or a block that does not exist.
    """
    vectors = fit_vectors(train)
    seen = train if validation is None else validation
    if seen.refused.shape[1:] != train.refused.shape[1:]:
        raise UserError("AdaSteer's validation states are of another model than its training ones")
    chosen = range(vectors.n_layers) if layers is None else layers
    if not chosen or not all(0 <= layer < vectors.n_layers for layer in chosen):
        raise UserError(f"AdaSteer can read blocks 0 to {vectors.n_layers - 1}, not {list(chosen)}")
    ra, ha = vectors.refusal_anchors, vectors.harmfulness_anchors
    layer, low, high = _best_layer(
        _positions(seen.answered, ra), _positions(seen.refused, ra), chosen
    )
    a = Coefficient(layer, -strength / (high - low), -high, 0.0, 0.0, strength)
    layer, low, high = _best_layer(
        _positions(seen.answered, ha), _positions(seen.harmless, ha), chosen
    )
    undo = _undoing(vectors, strength)
    b = Coefficient(layer, undo / (high - low), -low, 0.0, min(0.0, undo), max(0.0, undo))
    return AdaSteer(vectors, a, b)


def _positions(states: torch.Tensor, anchors: Anchors) -> np.ndarray:
    return position(states, anchors.start, anchors.end).double().cpu().numpy()


def _best_layer(
    start: np.ndarray, end: np.ndarray, layers: Sequence[int]
) -> tuple[int, float, float]:
    """Return the block that separates best and both medians there; ``[n, L], [m, L]``."""
    # A direction that is zero at some block has no positions there: NaN, never the best.
    scores = [auroc(end[:, layer], start[:, layer]) for layer in layers]
    layer = layers[int(np.nanargmax(scores))]
    low, high = float(np.median(start[:, layer])), float(np.median(end[:, layer]))
    # Medians that are the wrong way round separate nothing; the anchors are then the honest ends.
    return (layer, low, high) if high > low else (layer, 0.0, 100.0)


def _undoing(vectors: AdaSteerVectors, strength: float) -> float:
    """Return the B that minimises ``sum_l |strength RD_l + B HD_l|^2``; 0 where HD is zero."""
    refusal, harmfulness = vectors.refusal.double(), vectors.harmfulness.double()
    size = float((harmfulness * harmfulness).sum())
    return 0.0 if size == 0 else -strength * float((refusal * harmfulness).sum()) / size


def _counts(states: LabelledStates) -> dict[str, int]:
    return {name: len(getattr(states, name)) for name in ("refused", "answered", "harmless")}
