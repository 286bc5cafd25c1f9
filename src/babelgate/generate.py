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
from .models.memory import free_memory, is_out_of_memory
from .models.prefix import SharedPrefix, keeps_every_key, shared_prefix
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
    share_opening: bool = True,
) -> Iterator[list[Reply]]:
    """Yield finished batches of greedy replies.

    Rows of like length share a batch, and all rows the template's opening, which is computed once.
    ``max_new_tokens`` may differ by row. ``languages`` are passed to the intervention; None means
    that it must identify them. A batch that does not fit the memory is halved.

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
    openings = _Openings.of(model, tokens, intervention) if share_opening and texts else None
    while pending:
        batch = pending.pop(0)
        try:
            steering = None
            if intervention is not None:
                words = tuple(texts[i] for i in batch)
                steering = intervention.start(Batch(words, tuple(given[i] for i in batch)))
            replies = _Decoder(model, intervention, steering, openings).run(tokens, batch, limits)
        except (RuntimeError, MemoryError) as error:
            if len(batch) == 1 or not is_out_of_memory(error):
                raise
            half = len(batch) // 2
            pending[:0] = [batch[:half], batch[half:]]
        else:
            yield replies
            continue
        free_memory()


@dataclass(frozen=True)
class _Openings:
    """The template's opening as the model leaves it, and as the intervention edits it."""

    plain: SharedPrefix
    edited: SharedPrefix | None

    @staticmethod
    def of(model: ChatModel, tokens: Tokens, intervention: Intervention | None) -> _Openings | None:
        """Compute the openings, or return None where rows cannot share one exactly."""
        ids = model.template.opening
        if not all(row[: len(ids)] == ids and len(row) > len(ids) for row in tokens.ids):
            return None
        last = len(model.blocks) - 1
        plain = shared_prefix(model, last) if keeps_every_key(model) else None
        if plain is None:
            return None
        if intervention is None:
            return _Openings(plain, None)
        edit = intervention.edit_opening
        hooks: dict[int, BlockHook] = {
            layer: (lambda hidden, layer=layer: edit(layer, hidden))
            for layer in intervention.layers
        }
        return _Openings(plain, shared_prefix(model, last, hooks))


class _Decoder:
    """One batch from prefill to its last token."""

    def __init__(
        self,
        model: ChatModel,
        intervention: Intervention | None,
        steering: Steering | None,
        openings: _Openings | None,
    ) -> None:
        self.model = model
        self.steering = steering
        self.openings = openings
        self.phase: Phase | None = None
        self.cache: Any = None
        layers = intervention.layers if intervention is not None else ()
        self.hooks: dict[int, BlockHook] = {
            layer: self._hook(layer, last=layer == max(layers)) for layer in layers
        }

    def _hook(self, layer: int, *, last: bool) -> BlockHook:
        def on_block(hidden: torch.Tensor) -> torch.Tensor | None:
            assert self.steering is not None
            assert self.phase is not None
            changed = self.steering.at_block(layer, hidden, self.phase)
            edited = self.openings.edited if self.openings is not None else None
            if last and self.phase.kind == "prefill" and edited is not None:
                # Later blocks have not looked at their keys yet, so the decision still reaches the
                # opening: rows that change it get the edited one.
                rows = self.steering.edited_openings()
                edited.replace_rows(self.cache, rows, range(layer + 1, len(self.model.blocks)))
            return changed

        return on_block

    @torch.inference_mode()
    def run(self, tokens: Tokens, batch: list[int], limits: Sequence[int]) -> list[Reply]:
        ids, mask, position_ids = self._prompt(tokens, batch)
        limit = torch.tensor([limits[i] for i in batch], device=ids.device)
        stop = torch.tensor(sorted(self.model.stop_ids), device=ids.device)
        alive = torch.arange(len(batch), device=ids.device)
        produced: list[tuple[torch.Tensor, torch.Tensor]] = []
        finished = torch.zeros(len(batch), dtype=torch.bool, device=ids.device)
        step, longest = 0, int(max(limits[i] for i in batch))
        every = 1 if ids.device.type == "cpu" else _CHECK_EVERY
        with block_hooks(self.model.blocks, self.hooks):
            self.phase = Phase("prefill", mask[:, -ids.shape[1] :].bool())
            while step < longest:
                out = self.model.model(
                    input_ids=ids,
                    attention_mask=mask,
                    position_ids=position_ids,
                    past_key_values=self.cache,
                    use_cache=True,
                    logits_to_keep=1,
                )
                self.cache = out.past_key_values
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
                    if _select(self.cache, keep):
                        alive, chosen, mask = alive[keep], chosen[keep], mask[keep]
                        position_ids, finished = position_ids[keep], finished[keep]
                        if self.steering is not None:
                            self.steering.keep_rows(keep)
                ids = chosen[:, None]
                mask = torch.cat([mask, mask.new_ones(len(ids), 1)], dim=1)
                position_ids = position_ids[:, -1:] + 1
                self.phase = Phase("decode", torch.ones_like(ids, dtype=torch.bool))
        return self._replies(batch, produced, limits)

    def _prompt(
        self, tokens: Tokens, batch: list[int]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return ids ``[B, T]``, mask ``[B, opening + T]`` and position ids; set up the cache."""
        skip = 0 if self.openings is None else len(self.openings.plain)
        ids, mask = tokens.padded(batch, skip=skip)
        position_ids = (mask.cumsum(-1) - 1).clamp(min=0) + skip
        if self.openings is not None:
            mask = torch.cat([mask.new_ones(len(batch), skip), mask], dim=1)
            self.cache = self.openings.plain.growing_cache(len(batch))
        device = self.model.device
        return ids.to(device), mask.to(device), position_ids.to(device)

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
