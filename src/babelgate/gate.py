"""The recalibrated gate: a score read from the last prompt token, thresholds per language.

Source: arXiv 2606.01196; what differs from the paper is in docs/gate.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

from .errors import GateError
from .types import ModelIdentity, Position


@dataclass(frozen=True)
class Gate:
    """A low-rank logistic probe on one or several blocks, with thresholds and a steering vector.

    ``score = sum over layers of h_l . w_l + c`` where ``w_l = B_l (weight_l / scale_l)`` folds the
    subspace, the standardisation and the logistic weights into one vector per layer:
    ``s = ((B^T h - mean) / scale) . weight + bias``.

    Attributes:
        layers: blocks that are read, ascending; the last one is also where steering acts.
        bases: ``{layer: [d, r]}`` float32, orthonormal columns.
        mean, scale, weight: ``[sum of r]`` float32, in the order of ``layers``.
        thresholds: per language; ``default_threshold`` for every other.
        direction: ``[d]`` float32 unit vector, harmful minus harmless, after block ``layers[-1]``.
        alpha: steering strength in units of the residual stream.
        model: what the gate was fitted on; ``provenance`` how.

    Raises:
        GateError: if shapes disagree, a tensor is not float32 or a value is not finite.
    """

    layers: tuple[int, ...]
    position: Position
    bases: Mapping[int, torch.Tensor]
    mean: torch.Tensor
    scale: torch.Tensor
    weight: torch.Tensor
    bias: float
    thresholds: Mapping[str, float]
    default_threshold: float
    direction: torch.Tensor
    alpha: float
    model: ModelIdentity
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        d = self.model.d_model
        rank = sum(b.shape[1] for b in self.bases.values() if b.ndim == 2)
        shapes_fit = (
            len(self.layers) > 0
            and list(self.layers) == sorted(set(self.layers))
            and self.layers[0] >= 0
            and self.layers[-1] < self.model.n_layers
            and set(self.bases) == set(self.layers)
            and all(b.ndim == 2 and b.shape[0] == d for b in self.bases.values())
            and all(v.shape == (rank,) for v in (self.mean, self.scale, self.weight))
            and self.direction.shape == (d,)
        )
        if not shapes_fit:
            raise GateError(
                f"gate with layers {list(self.layers)}: the shapes of its tensors do not fit "
                f"together or the model (d = {d}, {self.model.n_layers} blocks)"
            )
        tensors = [*self.bases.values(), self.mean, self.scale, self.weight, self.direction]
        if others := {str(t.dtype) for t in tensors} - {"torch.float32"}:
            raise GateError(f"gate tensors are float32, not {', '.join(sorted(others))}")
        numbers = [self.bias, self.alpha, self.default_threshold, *self.thresholds.values()]
        if not all(bool(torch.isfinite(t).all()) for t in tensors) or not bool(
            torch.isfinite(torch.tensor(numbers, dtype=torch.float64)).all()
        ):
            raise GateError("gate holds values that are NaN or infinite")
        if bool((self.scale <= 0).any()):
            raise GateError("gate has a feature scale that is not positive")

    @cached_property
    def readout(self) -> tuple[Mapping[int, torch.Tensor], float]:
        """``({layer: w_l [d]}, c)``: the score as one dot product per layer, in float32."""
        weight = self.weight.double() / self.scale.double()
        vectors, at = {}, 0
        for layer in self.layers:
            basis = self.bases[layer].double()
            part = weight[at : at + basis.shape[1]]
            vectors[layer] = (basis @ part).float()
            at += basis.shape[1]
        return vectors, float(self.bias - (self.mean.double() * weight).sum())

    @property
    def steer_layer(self) -> int:
        """The block whose output is steered: the last one that is read."""
        return self.layers[-1]

    def score(self, states: Mapping[int, torch.Tensor]) -> torch.Tensor:
        """Return log-odds of harm ``[B]`` from ``{layer: h_l [B, d]}``, computed in float32."""
        vectors, constant = self.readout
        total = torch.full((len(next(iter(states.values()))),), constant)
        for layer in self.layers:
            total = total + (states[layer].float() @ vectors[layer]).cpu()
        return total

    def threshold(self, language: str | None) -> float:
        """Return the language's threshold, or the default where it has none."""
        if language is None:
            return self.default_threshold
        return self.thresholds.get(language, self.default_threshold)

    def raised(self, by: float) -> Gate:
        """Return the gate with every threshold raised: fewer false alarms, fewer hits."""
        if by == 0:
            return self
        return replace(
            self,
            thresholds={x: t + by for x, t in self.thresholds.items()},
            default_threshold=self.default_threshold + by,
        )

    def check_model(self, model: ModelIdentity) -> None:
        """Refuse a model on which the gate's numbers mean nothing.

        Raises:
            GateError: if weights, template, dtype or shape differ from those it was fitted on.
        """
        if wrong := self.model.mismatches(model):
            raise GateError(
                f"this gate was fitted on {self.model.name!r} and cannot be used with "
                f"{model.name!r}: " + "; ".join(wrong) + ". Calibrate a gate for this model"
            )
