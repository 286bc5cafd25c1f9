"""States of any prompts at any block and position: captured when first asked for, then kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..artifacts import fingerprint
from ..capture import Activations, capture
from ..console import progress
from ..errors import PromptError
from ..models.chat import ChatModel
from ..plan import States
from ..types import Position, Prompt


@dataclass
class StateReader:
    """Reads states of prompts, from the stores of a calibration where they hold them.

    What is missing is captured at every block in one pass, into a store of its own under
    ``folder``; asking for the same prompts again reads it.
    """

    model: ChatModel
    folder: Path
    known: States
    batch_tokens: int | None = None
    _stores: dict[tuple[str, str], Activations] = field(init=False, default_factory=dict)

    def __call__(self, prompts: Sequence[Prompt], layer: int, position: Position) -> torch.Tensor:
        """Return ``[N, d]`` float32 in the order of the prompts.

        Raises:
            PromptError: for a prompt without usable states (too long, or not finite).
        """
        keys = [p.key for p in prompts]
        if position == "t_post" and (found := self._from_calibration(keys, layer)) is not None:
            return found
        own = self._store(prompts, position)
        values = own.select(keys).layer(layer, position)
        if excluded := [k for k in keys if k in own.excluded]:
            raise PromptError(
                f"prompt {excluded[0]} cannot be compared on: {own.excluded[excluded[0]]}"
            )
        return values

    def _from_calibration(self, keys: Sequence[str], layer: int) -> torch.Tensor | None:
        wanted = set(keys)
        stores = [s for s in self.known.stores if wanted & set(s.keys)]
        held = {k for s in stores for k in s.keys} - set(self.known.excluded)
        if not wanted <= held or not all(layer in s.store.layers for s in stores):
            return None
        return self.known.layer(layer, keys)

    def _store(self, prompts: Sequence[Prompt], position: Position) -> Activations:
        name = fingerprint(sorted((p.key, p.text) for p in prompts))
        for (kind, _), store in self._stores.items():
            if kind == position and {p.key for p in prompts} <= set(store.keys):
                return store
        with progress() as bar:
            task = bar.add_task(f"reading activations ({position})", total=len(prompts))
            store = capture(
                self.model,
                prompts,
                self.folder / f"{position}-{name}",
                positions=(position,),
                batch_tokens=self.batch_tokens,
                on_batch=lambda n: bar.advance(task, n),
            )
        self._stores[position, name] = store
        return store
