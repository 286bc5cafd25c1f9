"""What an intervention is: which blocks it touches, and a steering object with the rows' state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch


@dataclass(frozen=True)
class Batch:
    """The rows that a generation batch starts with; a language of None is to be identified."""

    texts: tuple[str, ...]
    languages: tuple[str | None, ...]


@dataclass(frozen=True)
class Phase:
    """Where in generation a block is being run: told, never guessed from a tensor's shape.

    ``mask [B, T]`` (bool) marks the real tokens among those in this forward pass. In ``prefill``
    the last column is the last prompt token (``t_post``): rows are left-padded and a prompt is
    always prefilled whole, except for the template's opening where that is shared (see
    :meth:`Intervention.edit_opening`). In ``decode`` every column is a generated token.
    """

    kind: Literal["prefill", "decode"]
    mask: torch.Tensor


@dataclass(frozen=True)
class Decision:
    """What a gated intervention decided for one row, and with which language's threshold."""

    score: float
    threshold: float
    fired: bool
    language: str | None


class Steering(Protocol):
    """State of one batch under an intervention."""

    def at_block(self, layer: int, hidden: torch.Tensor, phase: Phase) -> torch.Tensor | None:
        """Return the replacement of ``h_layer [B, T, d]``, or None to leave it. Never in place."""
        ...

    def edited_openings(self) -> torch.Tensor:
        """Return ``[B]`` bool: rows whose opening is the edited one. Asked once, in prefill, after
        the last of the intervention's blocks.
        """
        ...

    def keep_rows(self, rows: torch.Tensor) -> None:
        """Go on with these rows only (indices ``[B']`` into the current rows)."""
        ...

    def decisions(self) -> Sequence[Decision | None]:
        """Return one decision per row of the original batch; None for ungated interventions."""
        ...


class Intervention(Protocol):
    """A change to generation that can be applied to any batch."""

    @property
    def name(self) -> str:
        """Short name for tables and files."""
        ...

    @property
    def layers(self) -> tuple[int, ...]:
        """Blocks whose outputs it reads or changes."""
        ...

    def edit_opening(self, layer: int, hidden: torch.Tensor) -> torch.Tensor | None:
        """Return what the template's opening ``[1, P, d]`` becomes at a block, or None to leave it.

        The opening is the same in every prompt and is computed once; rows whose opening the
        intervention changes (see :meth:`Steering.edited_openings`) share this edited one.
        """
        ...

    def start(self, batch: Batch) -> Steering:
        """Return fresh state for a batch of rows."""
        ...
