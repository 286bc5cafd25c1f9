"""Greedy generation in batches, with an intervention told which phase it is in.

A loop of our own and not transformers' ``generate``: an intervention must be told prefill from
decode, per row, and finished rows leave the batch, which ``generate`` keeps computing.
tests/test_generate.py holds it equal to ``generate``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .errors import UserError
from .interventions.base import Batch, Decision, Intervention, Phase, Steering
from .models.chat import ChatModel
from .models.hooks import BlockHook, block_hooks
from .models.template import Tokens

# Decoding reads all weights at every step, so more rows cost little until they fill the cores.
CPU_ROWS = 64
ACCELERATOR_ROWS = 256
# On an accelerator, looking whether rows are finished makes the device wait.
_CHECK_EVERY = 8
# Rows are dropped from the cache when this share of them is finished: copying it costs too.
_DROP_SHARE = 0.125


@dataclass(frozen=True)
class Reply:
    """One generated reply; ``index`` is the row of the input."""

    index: int
    text: str
    tokens: tuple[int, ...]
    stopped: bool
    decision: Decision | None


def default_rows(model: ChatModel) -> int:
    """Return the number of rows per generation batch that suits the model's device."""
    return CPU_ROWS if model.device.type == "cpu" else ACCELERATOR_ROWS


def generate(
    model: ChatModel,
    texts: Sequence[str],
    *,
    max_new_tokens: int | Sequence[int],
    intervention: Intervention | None = None,
    languages: Sequence[str | None] | None = None,
    system: str | None = None,
    rows: int | None = None,
) -> Iterator[list[Reply]]:
    """Yield finished batches of greedy replies.

    Rows of like length share a batch. ``max_new_tokens`` may differ by row. ``languages`` are
    passed to the intervention; None means that it must identify them. A batch that does not fit the
    memory is halved.

    Raises:
        UserError: if a prompt and its reply do not fit the model's context.
    """
    limits = [max_new_tokens] * len(texts) if isinstance(max_new_tokens, int) else max_new_tokens
    given = [None] * len(texts) if languages is None else list(languages)
    tokens = model.encode(texts, system)
    context = model.context_length
    for i, length in enumerate(tokens.lengths):
        if context is not None and length + limits[i] > context:
            raise UserError(
                f"prompt {i} has {length} tokens and may get {limits[i]} more; the model's "
                f"context is {context}. Shorten it or leave it out"
            )
    size = rows or default_rows(model)
    order = sorted(range(len(texts)), key=lambda i: (-limits[i], -tokens.lengths[i], i))
    pending = [order[i : i + size] for i in range(0, len(order), size)]
    while pending:
        batch = pending.pop(0)
        try:
            steering = None
            if intervention is not None:
                words = tuple(texts[i] for i in batch)
                steering = intervention.start(Batch(words, tuple(given[i] for i in batch)))
            yield _Decoder(model, intervention, steering).run(tokens, batch, limits)
        except (torch.cuda.OutOfMemoryError, MemoryError):
            if len(batch) == 1:
                raise
            half = len(batch) // 2
            pending[:0] = [batch[:half], batch[half:]]
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


class _Decoder:
    """One batch from prefill to its last token."""

    def __init__(
        self, model: ChatModel, intervention: Intervention | None, steering: Steering | None
    ) -> None:
        self.model = model
        self.steering = steering
        self.phase: Phase | None = None
        layers = intervention.layers if intervention is not None else ()
        self.hooks: dict[int, BlockHook] = {layer: self._hook(layer) for layer in layers}

    def _hook(self, layer: int) -> BlockHook:
        def on_block(hidden: torch.Tensor) -> torch.Tensor | None:
            assert self.steering is not None
            assert self.phase is not None
            return self.steering.at_block(layer, hidden, self.phase)

        return on_block

    @torch.inference_mode()
    def run(self, tokens: Tokens, batch: list[int], limits: Sequence[int]) -> list[Reply]:
        ids, mask = (x.to(self.model.device) for x in tokens.padded(batch))
        limit = torch.tensor([limits[i] for i in batch], device=ids.device)
        stop = torch.tensor(sorted(self.model.stop_ids), device=ids.device)
        alive = torch.arange(len(batch), device=ids.device)
        produced: list[tuple[torch.Tensor, torch.Tensor]] = []
        finished = torch.zeros(len(batch), dtype=torch.bool, device=ids.device)
        cache: Any = None
        step, longest = 0, int(max(limits[i] for i in batch))
        every = 1 if ids.device.type == "cpu" else _CHECK_EVERY
        with block_hooks(self.model.blocks, self.hooks):
            position_ids = (mask.cumsum(-1) - 1).clamp(min=0)
            self.phase = Phase("prefill", mask.bool())
            while step < longest:
                out = self.model.model(
                    input_ids=ids,
                    attention_mask=mask,
                    position_ids=position_ids,
                    past_key_values=cache,
                    use_cache=True,
                    logits_to_keep=1,
                )
                cache = out.past_key_values
                chosen = out.logits[:, -1].argmax(-1)
                produced.append((alive, chosen))
                step += 1
                finished = finished | torch.isin(chosen, stop) | (limit[alive] <= step)
                if step == longest:
                    break
                if step % every == 0 and (share := float(finished.float().mean())) >= _DROP_SHARE:
                    if share == 1.0:
                        break
                    keep = (~finished).nonzero()[:, 0]
                    if _select(cache, keep):
                        alive, chosen, mask = alive[keep], chosen[keep], mask[keep]
                        position_ids, finished = position_ids[keep], finished[keep]
                        if self.steering is not None:
                            self.steering.keep_rows(keep)
                ids = chosen[:, None]
                mask = torch.cat([mask, mask.new_ones(len(ids), 1)], dim=1)
                position_ids = position_ids[:, -1:] + 1
                self.phase = Phase("decode", torch.ones_like(ids, dtype=torch.bool))
        return self._replies(batch, produced, limits)

    def _replies(
        self,
        batch: list[int],
        produced: list[tuple[torch.Tensor, torch.Tensor]],
        limits: Sequence[int],
    ) -> list[Reply]:
        rows: list[list[int]] = [[] for _ in batch]
        for alive, chosen in produced:
            for row, token in zip(alive.tolist(), chosen.tolist()):
                rows[row].append(token)
        decisions = self.steering.decisions() if self.steering is not None else [None] * len(batch)
        stop_ids = self.model.stop_ids
        replies = []
        for row, (index, made) in enumerate(zip(batch, rows)):
            end = next((i for i, token in enumerate(made) if token in stop_ids), None)
            stopped = end is not None and end < limits[index]
            kept = tuple(made[:end] if stopped else made[: limits[index]])
            text = self.model.tokenizer.decode(kept, skip_special_tokens=True)
            replies.append(Reply(index, text, kept, stopped, decisions[row]))
        return replies


def _select(cache: Any, rows: torch.Tensor) -> bool:
    """Drop all other rows from a cache, if every layer of it can."""
    layers = getattr(cache, "layers", None)
    if layers is None or not all(hasattr(layer, "batch_select_indices") for layer in layers):
        return False
    for layer in layers:
        layer.batch_select_indices(rows.to(layer.keys.device))
    return True
