"""Every number that the selection of a refusal direction depends on."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import UserError


@dataclass(frozen=True)
class SelectionSettings:
    """The filters of arXiv 2406.11717 (appendix C), and what is computed at all.

    Args:
        min_examples: refused harmful and answered harmless prompts that a direction needs, of each.
        max_layer_share: candidates at or after this share of the depth are left out; the latest
            blocks are close to the unembedding and would name the refusal's words.
        max_kl: candidates whose ablation moves the next-token distribution of harmless prompts by
            this many nats or more, on average, are left out.
        min_induce: the refusal score that adding a candidate to harmless prompts must exceed.
        full_maps: compute every score of every candidate, for pictures; otherwise a candidate's
            scores end at the first filter that removes it. The choice is the same.
        fallback: where the model never refuses, or refuses everything, contrast harmful with
            harmless prompts whatever it did with them; marked in the result.
        layers: candidate layers to look at; all by default.
        batch_tokens: tokens per forward pass; what suits the device by default.

    Raises:
        UserError: for a value out of range.
    """

    min_examples: int = 4
    max_layer_share: float = 0.8
    max_kl: float = 0.1
    min_induce: float = 0.0
    full_maps: bool = False
    fallback: bool = False
    layers: tuple[int, ...] | None = None
    batch_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.min_examples < 1:
            raise UserError(f"min_examples is {self.min_examples}; expected at least 1")
        if not 0 < self.max_layer_share <= 1:
            raise UserError(f"max_layer_share is {self.max_layer_share}; expected 0 to 1")
        if not self.max_kl > 0:
            raise UserError(f"max_kl is {self.max_kl}; expected more than 0 nats")
        if math.isnan(self.min_induce):
            raise UserError("min_induce is not a number; expected log-odds, such as 0")
        if self.batch_tokens is not None and self.batch_tokens < 1:
            raise UserError(f"batch_tokens is {self.batch_tokens}; expected at least 1")

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a dict."""
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> SelectionSettings:
        """Inverse of :meth:`to_json`."""
        layers = data.get("layers")
        return SelectionSettings(**{**data, "layers": None if layers is None else tuple(layers)})
