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
    ``folder``; a prompt is captured once, whatever sets of prompts it is asked for in.
    """

    model: ChatModel
    folder: Path
    known: States
    batch_tokens: int | None = None
    _held: dict[tuple[Position, str, str], Activations] = field(init=False, default_factory=dict)

    def __call__(self, prompts: Sequence[Prompt], layer: int, position: Position) -> torch.Tensor:
        """Return ``[N, d]`` float32 in the order of the prompts.

        Raises:
            PromptError: for a prompt without usable states (too long, or not finite).
        """
        keys = [p.key for p in prompts]
        if position == "t_post" and (found := self._from_calibration(keys, layer)) is not None:
            return found
        self._hold(prompts, position)
        stores = [self._held[position, p.key, p.text] for p in prompts]
        values = torch.empty(len(prompts), self.model.identity.d_model)
        for store in {id(store): store for store in stores}.values():
            rows = [i for i, one in enumerate(stores) if one is store]
            asked = store.select(keys[i] for i in rows)
            for key, reason in asked.excluded.items():
                raise PromptError(f"prompt {key} cannot be compared on: {reason}")
            values[rows] = asked.layer(layer, position)
        return values

    def _from_calibration(self, keys: Sequence[str], layer: int) -> torch.Tensor | None:
        wanted = set(keys)
        stores = [s for s in self.known.stores if wanted & set(s.keys)]
        held = {k for s in stores for k in s.keys} - set(self.known.excluded)
        if not wanted <= held or not all(layer in s.store.layers for s in stores):
            return None
        return self.known.layer(layer, keys)

    def _hold(self, prompts: Sequence[Prompt], position: Position) -> None:
        """Capture the prompts that no store of this reader holds."""
        missing = {
            (p.key, p.text): p for p in prompts if (position, p.key, p.text) not in self._held
        }
        if not missing:
            return
        name = fingerprint(sorted(missing))
        with progress() as bar:
            task = bar.add_task(f"reading activations ({position})", total=len(missing))
            store = capture(
                self.model,
                list(missing.values()),
                self.folder / f"{position}-{name}",
                positions=(position,),
                batch_tokens=self.batch_tokens,
                on_batch=lambda n: bar.advance(task, n),
            )
        self._held |= dict.fromkeys(((position, *one) for one in missing), store)
