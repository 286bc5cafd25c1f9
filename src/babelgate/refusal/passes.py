"""Forward passes over (candidate, prompt) rows that repeat no work they can share.

What is shared: tokenising, the template's opening (once per candidate, not per prompt), and, where
a candidate is added at block l, everything below it. Logits are those of the last token only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from ..capture import default_batch_tokens
from ..models.chat import ChatModel
from ..models.hooks import until_stopped
from ..models.memory import free_memory, is_out_of_memory
from ..models.prefix import SharedPrefix, keeps_every_key, shared_prefix
from .edits import ablated, outputs_of_blocks, starting_at

#: (candidate, prompt), both as indices.
Pair = tuple[int, int]


class Passes:
    """The prompts of one cell, tokenised once, and passes over any rows of them."""

    def __init__(
        self, model: ChatModel, texts: Sequence[str], batch_tokens: int | None = None
    ) -> None:
        self.model = model
        self.tokens = model.encode(texts)
        self.batch_tokens = batch_tokens or default_batch_tokens(model)
        opening = model.template.opening
        shares = all(
            row[: len(opening)] == opening and len(row) > len(opening) for row in self.tokens.ids
        )
        self.prefix = shared_prefix(model, len(model.blocks) - 1) if shares and texts else None
        self.skip = 0 if self.prefix is None else len(self.prefix)
        self.lengths = [n - self.skip for n in self.tokens.lengths]
        # Padding between opening and text would stretch the distances that a sliding window counts.
        self.pads = keeps_every_key(model)
        self.n_outputs = outputs_of_blocks(model.model, model.blocks, self.tokens.ids[0][:2])

    def __len__(self) -> int:
        return len(self.tokens)

    def order(self) -> list[int]:
        """Return the prompts from longest to shortest: too large a batch fails at once."""
        return sorted(range(len(self)), key=lambda i: (-self.lengths[i], i))

    def batch_at(self, order: Sequence[int], at: int, candidates: int) -> list[int]:
        """Return the prompts from ``at`` on that one pass takes together for so many candidates."""
        width = self.lengths[order[at]]
        room = max(1, self.batch_tokens // (width * candidates))
        batch = list(order[at : at + room])
        return batch if self.pads else [i for i in batch if self.lengths[i] == width]

    @torch.inference_mode()
    def logits(
        self, pairs: Sequence[Pair], edit: Edit, openings: SharedPrefix | None
    ) -> torch.Tensor:
        """Return next-token logits of rows under an edit, ``[R, V]`` float32.

        ``openings`` has one row per candidate of the edit (:meth:`edited_openings`), or one for
        all. A batch that does not fit the memory is halved.
        """
        try:
            return self._logits(pairs, edit, openings)
        except (RuntimeError, MemoryError) as error:
            if len(pairs) == 1 or not is_out_of_memory(error):
                raise
        free_memory()
        half = len(pairs) // 2
        parts = [self.logits(part, edit, openings) for part in (pairs[:half], pairs[half:])]
        return torch.cat(parts)

    def _logits(
        self, pairs: Sequence[Pair], edit: Edit, openings: SharedPrefix | None
    ) -> torch.Tensor:
        candidates = [c for c, _ in pairs]
        prompts = [p for _, p in pairs]
        prefix = None if openings is None else _rows(openings, candidates)
        with edit.on_rows(self, candidates, prompts):
            return self.run(prompts, prefix)[:, -1].float()

    def run(self, prompts: Sequence[int], prefix: SharedPrefix | None) -> torch.Tensor:
        """Return the last token's logits ``[R, 1, V]`` of rows after an opening."""
        ids, mask = self.tokens.padded(prompts, skip=self.skip)
        positions = (mask.cumsum(-1) - 1).clamp(min=0) + self.skip
        if self.skip:
            mask = torch.cat([mask.new_ones(len(prompts), self.skip), mask], dim=1)
        device = self.model.device
        return self.model.model(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            position_ids=positions.to(device),
            past_key_values=None if prefix is None else prefix.reading_cache(),
            use_cache=prefix is not None,
            logits_to_keep=1,
        ).logits

    @torch.inference_mode()
    def edited_openings(self, edit: Edit) -> SharedPrefix | None:
        """Return the opening's keys and values under each candidate, one row per candidate."""
        from transformers.cache_utils import DynamicCache

        if self.prefix is None:
            return None
        n, device = len(edit), self.model.device
        ids = torch.tensor([self.prefix.ids], device=device).expand(n, -1)
        cache = DynamicCache()
        last = len(self.model.blocks) - 1
        with edit.on_opening(self, stop_after=last), until_stopped():
            self.model.model(input_ids=ids, past_key_values=cache, use_cache=True)
        # Blocks that are skipped have no use for keys, but the cache must have its length.
        plain = self.prefix.keys_values[: edit.first_block]
        layers: list[Any] = cache.layers[edit.first_block :]
        made = [(x.keys, x.values) for x in layers]
        return SharedPrefix(self.prefix.ids, (*plain, *made))

    def padded_states(self, states: Sequence[torch.Tensor], prompts: Sequence[int]) -> torch.Tensor:
        """Return ``[R, T, d]`` of rows' states ``[T_i, d]``, padded as the passes pad."""
        width = max(self.lengths[i] for i in prompts)
        padded = states[0].new_zeros(len(prompts), width, states[0].shape[-1])
        for row, i in enumerate(prompts):
            padded[row, width - self.lengths[i] :] = states[i]
        return padded


class Edit(Protocol):
    """What is done to the rows of each candidate."""

    @property
    def first_block(self) -> int:
        """The first block that must run: those below do what they do without the edit."""
        ...

    def __len__(self) -> int:
        """Return the number of candidates."""
        ...

    def on_rows(
        self, passes: Passes, candidates: Sequence[int], prompts: Sequence[int]
    ) -> AbstractContextManager[None]:
        """Return a context in which a pass over these rows is edited."""
        ...

    def on_opening(self, passes: Passes, *, stop_after: int) -> AbstractContextManager[None]:
        """Return a context in which a pass over the opening, a row per candidate, is edited."""
        ...


@dataclass(frozen=True)
class Untouched:
    """No edit: one candidate, the model itself."""

    first_block: int = 0

    def __len__(self) -> int:
        return 1

    def on_rows(
        self, passes: Passes, candidates: Sequence[int], prompts: Sequence[int]
    ) -> AbstractContextManager[None]:
        """Change nothing."""
        return starting_at(passes.model.blocks, 0, None)

    def on_opening(self, passes: Passes, *, stop_after: int) -> AbstractContextManager[None]:
        """Change nothing."""
        return starting_at(passes.model.blocks, 0, None, stop_after=stop_after)


@dataclass(frozen=True)
class Ablation:
    """Each candidate's unit direction (``[C, d]``) projected out everywhere."""

    directions: torch.Tensor
    first_block: int = 0

    def __len__(self) -> int:
        return len(self.directions)

    def on_rows(
        self, passes: Passes, candidates: Sequence[int], prompts: Sequence[int]
    ) -> AbstractContextManager[None]:
        """Project out of every token of the rows."""
        return ablated(passes.model.blocks, self.directions[list(candidates)])

    def on_opening(self, passes: Passes, *, stop_after: int) -> AbstractContextManager[None]:
        """Project out of every token of the opening."""
        return ablated(passes.model.blocks, self.directions, stop_after=stop_after)


@dataclass(frozen=True)
class Addition:
    """Each candidate's vector (``[C, d]``) added to the input of one block, at every token.

    ``inputs`` holds what that block reads without the edit.
    """

    vectors: torch.Tensor
    inputs: BlockInputs
    first_block: int

    def __len__(self) -> int:
        return len(self.vectors)

    def on_rows(
        self, passes: Passes, candidates: Sequence[int], prompts: Sequence[int]
    ) -> AbstractContextManager[None]:
        """Start at the block with the sum."""
        states = passes.padded_states(self.inputs.at(self.first_block), prompts)
        moved = self._sum(states, self.vectors[list(candidates)])
        n_outputs = passes.n_outputs
        return starting_at(passes.model.blocks, self.first_block, moved, n_outputs=n_outputs)

    def on_opening(self, passes: Passes, *, stop_after: int) -> AbstractContextManager[None]:
        """Start at the block with the sum."""
        moved = self._sum(self.inputs.opening(self.first_block), self.vectors)
        return starting_at(
            passes.model.blocks, self.first_block, moved,
            stop_after=stop_after, n_outputs=passes.n_outputs,
        )  # fmt: skip

    @staticmethod
    def _sum(states: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        moved = states.float() + vectors[:, None, :].to(states.device, torch.float32)
        return moved.to(states.dtype)


class BlockInputs:
    """What block l reads of every prompt, for ascending l: each block runs once.

    Only one block's states are in memory at a time, ``tokens x d``; the opening's of all blocks.
    """

    def __init__(self, passes: Passes) -> None:
        self.passes = passes
        self.layer = 0
        self._states: list[torch.Tensor] = []
        self._opening: list[torch.Tensor] = []

    def at(self, layer: int) -> list[torch.Tensor]:
        """Return ``[T_i, d]`` per prompt at the input of a block of at least 1, opening left out.

        Raises:
            ValueError: for a block below the last one asked for.
        """
        if layer < max(1, self.layer):
            raise ValueError(f"block {layer} is below {max(1, self.layer)}: blocks go upwards")
        if layer > self.layer:
            self._advance(layer)
        return self._states

    @torch.inference_mode()
    def _advance(self, layer: int) -> None:
        passes, order, at = self.passes, self.passes.order(), 0
        made: dict[int, torch.Tensor] = {}
        while at < len(order):
            batch = passes.batch_at(order, at, 1)

            def keep(hidden: torch.Tensor, batch: list[int] = batch) -> None:
                for row, i in enumerate(batch):
                    made[i] = hidden[row, hidden.shape[1] - passes.lengths[i] :].clone()

            before = passes.padded_states(self._states, batch) if self._states else None
            with (
                starting_at(
                    passes.model.blocks, self.layer, before, (layer - 1, keep),
                    stop_after=layer - 1, n_outputs=passes.n_outputs,
                ),
                until_stopped(),
            ):  # fmt: skip
                passes.run(batch, passes.prefix)
            at += len(batch)
        self._states = [made[i] for i in range(len(passes))]
        self.layer = layer

    @torch.inference_mode()
    def opening(self, layer: int) -> torch.Tensor:
        """Return ``[1, P, d]`` of the opening at the input of a block of at least 1."""
        if not self._opening:
            self._opening = self._read_opening()
        return self._opening[layer - 1]

    def _read_opening(self) -> list[torch.Tensor]:
        from ..models.hooks import block_hooks

        model, prefix = self.passes.model, self.passes.prefix
        assert prefix is not None
        found: list[torch.Tensor] = []

        def keep(hidden: torch.Tensor) -> None:
            found.append(hidden.clone())

        hooks: dict[int, Callable[[torch.Tensor], torch.Tensor | None]]
        hooks = {layer: keep for layer in range(len(model.blocks))}
        last = len(model.blocks) - 1
        with block_hooks(model.blocks, hooks, stop_after=last), until_stopped():
            model.model(input_ids=torch.tensor([prefix.ids], device=model.device), use_cache=False)
        return found


def _rows(openings: SharedPrefix, candidates: Sequence[int]) -> SharedPrefix:
    """Return the openings of rows: row i that of its candidate, or the one there is."""
    index = list(candidates)

    def pick(x: torch.Tensor) -> torch.Tensor:
        return x if len(x) == 1 else x[torch.tensor(index, device=x.device)]

    return SharedPrefix(openings.ids, tuple((pick(k), pick(v)) for k, v in openings.keys_values))
