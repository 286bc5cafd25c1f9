"""A decision and what follows from it: one action for rows that fire, one for those that do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from ..language_id import identify
from .actions import Nothing
from .base import Action, Batch, Decider, Decision, OpeningEdit, Phase, Reading, Words


def identified_language(text: str) -> str | None:
    """Return the identified language of a prompt, or None when identification is unsure."""
    return identify(text).code


@dataclass(frozen=True)
class ConditionalIntervention:
    """Do ``fired`` to the rows on which a decider fires and ``silent`` to the others.

    Where an action changes the prompt before the last block that the decider reads, the decision
    takes a pass of its own up to that block; otherwise it is taken on the way through the prefill
    that generation runs anyway. ``language_of`` is asked for rows whose language is not given.
    """

    decider: Decider
    fired: Action = field(default_factory=Nothing)
    silent: Action = field(default_factory=Nothing)
    name: str = "gate"
    language_of: Callable[[str], str | None] = identified_language

    @property
    def reads(self) -> tuple[int, ...]:
        """Blocks that the decider reads."""
        return self.decider.layers

    @property
    def edits(self) -> tuple[int, ...]:
        """Blocks that either action changes."""
        return tuple(sorted({*self.fired.layers, *self.silent.layers}))

    @property
    def reads_first(self) -> bool:
        """Whether an action begins before the last block that is read."""
        return bool(self.reads) and bool(self.edits) and self.edits[0] < self.reads[-1]

    @property
    def shares_opening(self) -> bool:
        """Whether the decider does without the opening's states."""
        return not self.decider.whole_prompt

    @property
    def opening_edits(self) -> tuple[OpeningEdit, ...]:
        """The two actions."""
        return (self.fired, self.silent)

    def start(self, batch: Batch) -> ConditionalSteering:
        """Return fresh state for a batch of rows."""
        languages = tuple(
            self.language_of(text) if language is None else language
            for text, language in zip(batch.texts, batch.languages)
        )
        reading = self.decider.start(Batch(batch.texts, languages))
        return ConditionalSteering((self.fired, self.silent), languages, self.reads, reading)


@dataclass(frozen=True)
class Ungated:
    """Do one action to every row."""

    action: Action
    name: str = "ungated"

    reads: tuple[int, ...] = field(default=(), init=False)
    reads_first: bool = field(default=False, init=False)
    shares_opening: bool = field(default=True, init=False)

    @property
    def edits(self) -> tuple[int, ...]:
        """Blocks that the action changes."""
        return self.action.layers

    @property
    def opening_edits(self) -> tuple[OpeningEdit, ...]:
        """The action."""
        return (self.action,)

    def start(self, batch: Batch) -> ConditionalSteering:
        """Return fresh state for a batch of rows."""
        return ConditionalSteering((self.action,), batch.languages, (), None)


class ConditionalSteering:
    """The decisions on the rows of one batch, and which rows each action is done to."""

    def __init__(
        self,
        actions: Sequence[Action],
        languages: Sequence[str | None],
        reads: tuple[int, ...],
        reading: Reading | None,
    ) -> None:
        self._actions = actions
        self._languages = languages
        self._reads = reads
        self._reading = reading
        self._decisions: list[Decision] | None = None
        # Which action each row gets; rows that are left, on the device where they are needed.
        self._side = torch.zeros(len(languages), dtype=torch.long)
        self._used: set[int] = {0}
        if not reads and reading is not None:
            self._decide(torch.device("cpu"))

    def at_block(self, layer: int, hidden: torch.Tensor, phase: Phase) -> torch.Tensor | None:
        """Read until it is decided; then act."""
        if self._reading is not None and self._decisions is None and layer in self._reads:
            self._reading.read(layer, hidden, phase)
            if layer == self._reads[-1]:
                self._decide(hidden.device)
        if phase.kind == "decide":
            return None
        changed = None
        for number in sorted(self._used):
            action = self._actions[number]
            if layer in action.layers:
                rows = self._side.to(hidden.device) == number
                new = action.edit(layer, hidden if changed is None else changed, rows, phase)
                changed = changed if new is None else new
        return changed

    def openings(self) -> torch.Tensor:
        """Return which action's opening each row has; 0 where the action leaves it."""
        changing = torch.tensor([a.changes_prompt for a in self._actions], device=self._side.device)
        return torch.where(changing[self._side], self._side + 1, 0)

    def words(self) -> list[Words | None]:
        """Return the words of each row's action in its language."""
        return [
            self._actions[side].words(language)
            for side, language in zip(self._side.tolist(), self._languages)
        ]

    def keep_rows(self, rows: torch.Tensor) -> None:
        """Go on with these rows only."""
        self._side = self._side[rows.to(self._side.device)]

    def decisions(self) -> list[Decision | None]:
        """Return the decision of every row of the original batch."""
        return [None] * len(self._languages) if self._decisions is None else [*self._decisions]

    def _decide(self, device: torch.device) -> None:
        assert self._reading is not None
        self._decisions = self._reading.decide()
        sides = [0 if decision.fired else 1 for decision in self._decisions]
        self._side, self._used = torch.tensor(sides, device=device), set(sides)
