"""The gate in generation: read in the prefill that generation runs anyway, then applied."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..directions import Direction
from ..errors import BabelgateError
from ..gate import Gate
from .actions import AddDirection, Nothing, ProjectOut
from .base import Batch, Decision, Phase
from .conditional import ConditionalIntervention, identified_language


@dataclass(frozen=True)
class GateDecider:
    """Fires where a gate's score reaches the threshold of the prompt's language."""

    gate: Gate
    whole_prompt: bool = False

    @property
    def layers(self) -> tuple[int, ...]:
        """Blocks that the gate reads."""
        return self.gate.layers

    def start(self, batch: Batch) -> GateReading:
        """Return fresh state for a batch of rows."""
        return GateReading(self.gate, batch.languages)


class GateReading:
    """The scores of the rows of one batch, summed up block by block."""

    def __init__(self, gate: Gate, languages: tuple[str | None, ...]) -> None:
        self._gate = gate
        self._languages = languages
        self._vectors, constant = gate.readout
        self._score = torch.full((len(languages),), constant)

    def read(self, layer: int, hidden: torch.Tensor, phase: Phase) -> None:
        """Add the block's part of the score, from the last prompt token."""
        vector = self._vectors[layer].to(hidden.device)
        self._score = self._score.to(hidden.device) + hidden[:, -1].float() @ vector

    def decide(self) -> list[Decision]:
        """Turn scores into decisions: the only point that waits for the device, once a batch."""
        if not torch.isfinite(self._score).all():
            raise BabelgateError(
                "the gate's score is NaN or infinite for a prompt: the model's activations at "
                f"block {self._gate.layers[-1]} are not finite; try `--dtype float32`"
            )
        thresholds = [self._gate.threshold(language) for language in self._languages]
        return [
            Decision(score, threshold, score >= threshold, language)
            for score, threshold, language in zip(self._score.tolist(), thresholds, self._languages)
        ]


def gated(
    gate: Gate,
    name: str = "gate",
    *,
    alpha: float | None = None,
    ablate: bool = True,
    language_of: Callable[[str], str | None] = identified_language,
) -> ConditionalIntervention:
    """Return the paper's intervention: add the harmfulness direction or project it out.

    With ``v`` the gate's unit direction and ``alpha`` its strength, after block L only:
    fired rows get ``h += alpha v`` at the last prompt token and every generated token, other rows
    ``h -= (h . v) v`` at every prompt token and every generated token. Source: arXiv 2606.01196.

    ``alpha`` overrides the gate's strength, ``ablate=False`` turns the second side off (both for
    controls: strength 0 without ablation is the unchanged model).
    """
    direction = harmfulness_direction(gate)
    strength = gate.alpha if alpha is None else alpha
    return ConditionalIntervention(
        GateDecider(gate),
        AddDirection("add-harmfulness", direction=direction, alpha=strength),
        ProjectOut("project-harmfulness", layers=(direction.layer,), direction=direction)
        if ablate
        else Nothing(),
        name,
        language_of,
    )


def harmfulness_direction(gate: Gate) -> Direction:
    """Return the gate's steering direction with where it comes from."""
    source = ", ".join(
        x for x, role in gate.provenance.get("roles", {}).items() if role != "target"
    )
    return Direction(gate.direction, gate.steer_layer, gate.position, "harmful - harmless", source)
