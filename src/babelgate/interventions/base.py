"""What an intervention is: who decides, what is done to a row, and the state of a batch.

A *decider* reads the prompt's states in prefill and says which rows fire; an *action* is what is
done to a row; an *intervention* joins them (:mod:`.conditional`), or is one of its own kind
(:mod:`.adasteer`). Generation knows interventions only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch

#: The place before block 0: "the output of block -1" is what the embedding hands to block 0.
EMBEDDING = -1


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
    :attr:`Intervention.opening_edits`). ``decide`` is a pass over the same prompt that only reads
    and stops after the last block read, for interventions that need it
    (:attr:`Intervention.reads_first`). In ``decode`` every column is a generated token.
    """

    kind: Literal["decide", "prefill", "decode"]
    mask: torch.Tensor


@dataclass(frozen=True)
class Decision:
    """What a decider made of one row, and with which language's threshold."""

    score: float
    threshold: float
    fired: bool
    language: str | None


@dataclass(frozen=True)
class Words:
    """Words that a reply begins with; with ``final`` they are all of it and nothing is generated"""

    text: str
    final: bool


class OpeningEdit(Protocol):
    """A change to the template's opening, which is the same in every prompt and computed once."""

    @property
    def layers(self) -> tuple[int, ...]:
        """Blocks whose outputs are changed; :data:`EMBEDDING` is the input of block 0."""
        ...

    def edit_opening(self, layer: int, hidden: torch.Tensor) -> torch.Tensor | None:
        """Return what the opening ``[1, P, d]`` becomes at a block, or None to leave it."""
        ...


class Action(OpeningEdit, Protocol):
    """What is done to the rows of one side of a decision. Holds no state of a batch."""

    @property
    def name(self) -> str:
        """Short name for tables."""
        ...

    @property
    def key(self) -> str:
        """Fingerprint of everything that replies under this action depend on."""
        ...

    @property
    def changes_prompt(self) -> bool:
        """Whether prompt tokens before the last are changed, and so the opening too."""
        ...

    def edit(
        self, layer: int, hidden: torch.Tensor, rows: torch.Tensor, phase: Phase
    ) -> torch.Tensor | None:
        """Return ``h_layer [B, T, d]`` with the marked rows (``[B]`` bool) changed, or None.

        Never in place; called in ``prefill`` and ``decode``.
        """
        ...

    def words(self, language: str | None) -> Words | None:
        """Return the words that a reply in a language begins with, or None."""
        ...


class Reading(Protocol):
    """A decider's state of one batch."""

    def read(self, layer: int, hidden: torch.Tensor, phase: Phase) -> None:
        """Take what is needed of ``h_layer [B, T, d]``: once per block, in ascending order."""
        ...

    def decide(self) -> list[Decision]:
        """Return one decision per row, after the last of the decider's blocks."""
        ...


class Decider(Protocol):
    """Says which rows of a batch fire."""

    @property
    def layers(self) -> tuple[int, ...]:
        """Blocks that are read, ascending; none where the text alone decides."""
        ...

    @property
    def whole_prompt(self) -> bool:
        """Whether the states of all prompt tokens are needed, the template's opening included."""
        ...

    def start(self, batch: Batch) -> Reading:
        """Return fresh state for a batch, whose languages are given or identified already."""
        ...


class Steering(Protocol):
    """State of one batch under an intervention."""

    def at_block(self, layer: int, hidden: torch.Tensor, phase: Phase) -> torch.Tensor | None:
        """Return the replacement of ``h_layer [B, T, d]``, or None to leave it. Never in place."""
        ...

    def openings(self) -> torch.Tensor:
        """Return ``[B]`` integers: which opening each row has, once that is decided.

        0 is the untouched one, i the one changed by ``opening_edits[i - 1]``.
        """
        ...

    def words(self) -> Sequence[Words | None]:
        """Return what each row's reply begins with. Asked once, after prefill."""
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
    def reads(self) -> tuple[int, ...]:
        """Blocks whose outputs it reads in prefill, ascending; it has decided after the last."""
        ...

    @property
    def edits(self) -> tuple[int, ...]:
        """Blocks whose outputs it changes; :data:`EMBEDDING` is the input of block 0."""
        ...

    @property
    def reads_first(self) -> bool:
        """Whether reading needs a pass of its own: the prompt is changed before it is decided."""
        ...

    @property
    def shares_opening(self) -> bool:
        """Whether it does without the states of the template's opening, row by row."""
        ...

    @property
    def opening_edits(self) -> tuple[OpeningEdit, ...]:
        """Changes to the opening; rows are told apart by :meth:`Steering.openings`."""
        ...

    def start(self, batch: Batch) -> Steering:
        """Return fresh state for a batch of rows."""
        ...
