"""AdaSteer in generation: coefficients of its own for every row (arXiv 2504.09466)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from ..errors import BabelgateError
from ..rivals.adasteer import AdaSteer
from .base import Batch, OpeningEdit, Phase, Words
from .vectors import Placed

#: The tokens that are steered.
Where = Literal["prompt", "generated", "both"]


@dataclass(frozen=True)
class AdaSteerIntervention:
    """Add ``a RD_l + b HD_l`` after every block, with ``a`` and ``b`` of the row's own prompt.

    Both coefficients are read from the last prompt token, in the unsteered model. ``where`` says
    which tokens are steered: ``prompt`` is what the authors' code does (their condition on the
    number of tokens leaves every decoding step alone), at the price of a second pass over the
    prompt up to the later of the two blocks that are read; ``generated`` steers the decoding steps
    only and needs no such pass; ``both`` is both.
    """

    adasteer: AdaSteer
    where: Where = "prompt"
    name: str = "adasteer"
    opening_edits: tuple[OpeningEdit, ...] = field(default=(), init=False)
    _refusal: Placed = field(init=False, repr=False, compare=False)
    _harmfulness: Placed = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_refusal", Placed(self.adasteer.vectors.refusal))
        object.__setattr__(self, "_harmfulness", Placed(self.adasteer.vectors.harmfulness))

    @property
    def reads(self) -> tuple[int, ...]:
        """The blocks at which the two coefficients are read."""
        return tuple(sorted({self.adasteer.a.layer, self.adasteer.b.layer}))

    @property
    def edits(self) -> tuple[int, ...]:
        """All blocks."""
        return tuple(range(self.adasteer.vectors.n_layers))

    @property
    def reads_first(self) -> bool:
        """Whether the prompt itself is steered, from block 0 on."""
        return self.where != "generated"

    @property
    def shares_opening(self) -> bool:
        """Whether the opening stays as it is; steered, it differs in every row."""
        return self.where == "generated"

    def start(self, batch: Batch) -> AdaSteerSteering:
        """Return fresh state for a batch of rows."""
        return AdaSteerSteering(self, len(batch.texts))

    def change(
        self, layer: int, a: torch.Tensor, b: torch.Tensor, device: torch.device
    ) -> torch.Tensor:
        """Return ``a RD_l + b HD_l``: ``[B], [B] -> [B, d]``, float32."""
        refusal = self._refusal.on(device)[layer]
        harmfulness = self._harmfulness.on(device)[layer]
        return a.to(device)[:, None] * refusal + b.to(device)[:, None] * harmfulness


class AdaSteerSteering:
    """The coefficients of the rows of one batch."""

    def __init__(self, intervention: AdaSteerIntervention, rows: int) -> None:
        self._intervention = intervention
        self._rows = rows
        self._read: set[int] = set()
        self.a = torch.zeros(rows)
        self.b = torch.zeros(rows)

    def at_block(self, layer: int, hidden: torch.Tensor, phase: Phase) -> torch.Tensor | None:
        """Read both coefficients once; then steer the tokens that are to be."""
        intervention = self._intervention
        if phase.kind != "decode" and layer in intervention.reads and layer not in self._read:
            self._read_coefficients(layer, hidden[:, -1])
        steered = {"decide": (), "prefill": ("prompt", "both"), "decode": ("generated", "both")}
        if intervention.where not in steered[phase.kind]:
            return None
        change = intervention.change(layer, self.a, self.b, hidden.device)
        real = phase.mask.to(hidden.device)[..., None]
        return torch.where(real, (hidden.float() + change[:, None]).to(hidden.dtype), hidden)

    def openings(self) -> torch.Tensor:
        """Return 0 for every row: no opening is changed by itself."""
        return torch.zeros(len(self.a), dtype=torch.long, device=self.a.device)

    def words(self) -> Sequence[Words | None]:
        """Return None for every row."""
        return [None] * self._rows

    def keep_rows(self, rows: torch.Tensor) -> None:
        """Go on with these rows only."""
        self.a, self.b = self.a[rows.to(self.a.device)], self.b[rows.to(self.b.device)]

    def decisions(self) -> list[None]:
        """Return None for every row: nothing is decided, everything is steered by degrees."""
        return [None] * self._rows

    def _read_coefficients(self, layer: int, last: torch.Tensor) -> None:
        adasteer = self._intervention.adasteer
        self._read.add(layer)
        if layer == adasteer.a.layer:
            self.a = adasteer.read_a(last)
        if layer == adasteer.b.layer:
            self.b = adasteer.read_b(last)
        # Asked once a batch: looking makes the device wait.
        done = layer == self._intervention.reads[-1]
        if done and not all(bool(torch.isfinite(x).all()) for x in (self.a, self.b)):
            raise BabelgateError(
                "AdaSteer's coefficients are NaN or infinite for a prompt: the model's activations "
                f"at blocks {list(self._intervention.reads)} are not finite; try `--dtype float32`"
            )
