"""What can be done to a row: actions on the residual stream and on the words of the reply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from ..directions import Direction
from .base import EMBEDDING, Phase, Words
from .linear import add, project_out
from .vectors import Placed, vector_key


@dataclass(frozen=True)
class Nothing:
    """Leave the row as it is."""

    name: str = "none"
    key: str = "none"
    layers: tuple[int, ...] = ()
    changes_prompt: bool = False

    def edit(
        self, layer: int, hidden: torch.Tensor, rows: torch.Tensor, phase: Phase
    ) -> torch.Tensor | None:
        """Change nothing."""
        return None

    def edit_opening(self, layer: int, hidden: torch.Tensor) -> torch.Tensor | None:
        """Change nothing."""
        return None

    def words(self, language: str | None) -> Words | None:
        """Say nothing."""
        return None


@dataclass(frozen=True)
class _Addition(Nothing):
    """The fields of an edit that adds ``alpha v`` after one block."""

    name: str = "add"
    key: str = field(init=False)
    layers: tuple[int, ...] = field(init=False)
    direction: Direction = field(kw_only=True)
    alpha: float = field(kw_only=True)
    _placed: Placed = field(init=False, repr=False, compare=False)
    _kind: ClassVar[str]

    def __post_init__(self) -> None:
        vector = self.direction.vector
        object.__setattr__(self, "layers", (self.direction.layer,))
        object.__setattr__(self, "key", vector_key(self._kind, vector, self.layers, self.alpha))
        object.__setattr__(self, "_placed", Placed(vector))


@dataclass(frozen=True)
class AddDirection(_Addition):
    """Add ``alpha v`` after one block, at the last prompt token and every generated token.

    ``v`` is the direction's unit vector, ``alpha`` in units of the residual stream; negative values
    subtract. Source: arXiv 2606.01196 (harmfulness direction), arXiv 2406.11717 (refusal
    direction).
    """

    _kind: ClassVar[str] = "add"

    def edit(
        self, layer: int, hidden: torch.Tensor, rows: torch.Tensor, phase: Phase
    ) -> torch.Tensor | None:
        """Add to the last prompt token in prefill, to every token in decode."""
        if layer not in self.layers:
            return None
        strength = torch.zeros(hidden.shape[:2], device=hidden.device)
        rows = rows.to(hidden.device, torch.float32) * self.alpha
        strength[:, -1 if phase.kind == "prefill" else slice(None)] = (
            rows if phase.kind == "prefill" else rows[:, None]
        )
        return add(hidden, self._placed.on(hidden.device), strength)


class Throughout(Nothing):
    """An edit of every real token of a row, the opening's among them, at the action's layers."""

    def edit(
        self, layer: int, hidden: torch.Tensor, rows: torch.Tensor, phase: Phase
    ) -> torch.Tensor | None:
        """Edit every real token of the rows."""
        if layer not in self.layers:
            return None
        where = rows.to(hidden.device)[:, None] & phase.mask.to(hidden.device)
        return self.applied(layer, hidden, where.float())

    def edit_opening(self, layer: int, hidden: torch.Tensor) -> torch.Tensor | None:
        """Edit every token of the opening."""
        if layer not in self.layers:
            return None
        return self.applied(layer, hidden, torch.ones(hidden.shape[:2], device=hidden.device))

    def applied(self, layer: int, hidden: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        """Return ``hidden [B, T, d]`` edited where ``where [B, T]`` float32 is 1, not where 0."""
        raise NotImplementedError


@dataclass(frozen=True)
class AddThroughout(_Addition, Throughout):
    """Add ``alpha v`` after one block, at every token of the prompt and of the reply.

    ``v`` is the direction's unit vector, ``alpha`` in units of the residual stream. Source: arXiv
    2406.11717, section 2.4; :class:`AddDirection` adds at the last prompt token and after it only.
    """

    changes_prompt: bool = True
    _kind: ClassVar[str] = "throughout"

    def applied(self, layer: int, hidden: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        """Add the direction."""
        return add(hidden, self._placed.on(hidden.device), where * self.alpha)


@dataclass(frozen=True)
class ProjectOut(Throughout):
    """Project a direction out after some blocks, at every prompt token and generated token.

    ``h -= share (h . v) v`` with the direction's unit vector ``v``. ``layers`` are the blocks whose
    outputs are changed: one block (arXiv 2606.01196), or all of them and the embedding
    (:func:`everywhere`), so that no block reads or leaves any of it (arXiv 2406.11717).
    """

    name: str = "project"
    key: str = field(init=False)
    layers: tuple[int, ...] = field(kw_only=True)
    changes_prompt: bool = True
    direction: Direction = field(kw_only=True)
    share: float = field(default=1.0, kw_only=True)
    _placed: Placed = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        vector = self.direction.vector
        object.__setattr__(self, "key", vector_key("project", vector, self.layers, self.share))
        object.__setattr__(self, "_placed", Placed(vector))

    def applied(self, layer: int, hidden: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        """Project the direction out."""
        return project_out(hidden, self._placed.on(hidden.device), where * self.share)


def everywhere(n_layers: int) -> tuple[int, ...]:
    """Return the places of an edit of every block's input and output."""
    return (EMBEDDING, *range(n_layers))


@dataclass(frozen=True)
class Say(Nothing):
    """Begin the reply with words in the prompt's language; with ``final`` reply with them alone.

    ``texts`` maps language codes to words; ``default`` is the code that other languages use.
    """

    name: str = "open"
    key: str = field(init=False)
    texts: Mapping[str, str] = field(kw_only=True)
    default: str = field(default="en", kw_only=True)
    final: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        said = sorted(self.texts.items())
        object.__setattr__(self, "key", f"say {self.final} {self.default} {said}")

    def words(self, language: str | None) -> Words | None:
        """Return the language's words, or the default language's."""
        text = self.texts.get(language or self.default, self.texts[self.default])
        return Words(text, self.final)


@dataclass(frozen=True)
class Together(Nothing):
    """Several actions on the same rows, applied in order; the first that has words says them."""

    name: str = "together"
    key: str = field(init=False)
    layers: tuple[int, ...] = field(init=False)
    changes_prompt: bool = field(init=False)
    parts: Sequence[Nothing] = field(kw_only=True)

    def __post_init__(self) -> None:
        parts = self.parts
        layers = sorted({layer for part in parts for layer in part.layers})
        object.__setattr__(self, "layers", tuple(layers))
        object.__setattr__(self, "key", " + ".join(part.key for part in parts))
        object.__setattr__(self, "changes_prompt", any(part.changes_prompt for part in parts))

    def edit(
        self, layer: int, hidden: torch.Tensor, rows: torch.Tensor, phase: Phase
    ) -> torch.Tensor | None:
        """Apply the parts one after another."""
        changed = None
        for part in self.parts:
            new = part.edit(layer, hidden if changed is None else changed, rows, phase)
            changed = changed if new is None else new
        return changed

    def edit_opening(self, layer: int, hidden: torch.Tensor) -> torch.Tensor | None:
        """Apply the parts one after another."""
        changed = None
        for part in self.parts:
            new = part.edit_opening(layer, hidden if changed is None else changed)
            changed = changed if new is None else new
        return changed

    def words(self, language: str | None) -> Words | None:
        """Return the first words that a part has."""
        return next((w for part in self.parts if (w := part.words(language))), None)
