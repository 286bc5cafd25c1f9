"""Greedy generation in batches, with an intervention told which phase it is in.

A loop of our own and not transformers' ``generate``: an intervention must be told prefill from
decode, per row, and finished rows leave the batch, which ``generate`` keeps computing.
tests/test_generate.py holds it equal to ``generate``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .errors import UserError
from .interventions.base import (
    Batch,
    Decision,
    Intervention,
    OpeningEdit,
    Phase,
    Steering,
    Words,
)
from .models.chat import ChatModel
from .models.hooks import BlockHook, block_hooks, until_stopped
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
    """One reply; ``index`` is the row of the input.

    ``fixed`` replies were said without generating (and have no ``tokens``); those that begin with
    an action's words have them in ``tokens``.
    """

    index: int
    text: str
    tokens: tuple[int, ...]
    stopped: bool
    decision: Decision | None
    fixed: bool = False


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
    shares = share_opening and (intervention is None or intervention.shares_opening)
    openings = _Openings.of(model, tokens, intervention) if shares and texts else None
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


def next_token_logits(
    model: ChatModel,
    texts: Sequence[str],
    intervention: Intervention | None = None,
    languages: Sequence[str | None] | None = None,
) -> torch.Tensor:
    """Return the logits of each reply's first token, ``[B, V]`` float32, in one batch.

    With an intervention, what the model itself would say: words that an action begins with are not
    in it.
    """
    tokens = model.encode(texts)
    given = (None,) * len(texts) if languages is None else tuple(languages)
    shares = intervention is None or intervention.shares_opening
    openings = _Openings.of(model, tokens, intervention) if shares else None
    steering = None if intervention is None else intervention.start(Batch(tuple(texts), given))
    return _Decoder(model, intervention, steering, openings).first_logits(tokens)


@dataclass(frozen=True)
class _Openings:
    """The template's opening as the model leaves it, and as each edit of it does."""

    plain: SharedPrefix
    edited: tuple[SharedPrefix | None, ...]

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
        edits = () if intervention is None else intervention.opening_edits
        return _Openings(plain, tuple(_edited_opening(model, edit, last) for edit in edits))

    def put(self, cache: Any, which: torch.Tensor, layers: range) -> None:
        """Give rows their opening (``[B]``, 0 is the plain one) in layers that hold nothing else"""
        for number, opening in enumerate(self.edited, 1):
            if opening is not None:
                opening.replace_rows(cache, which == number, layers)


def _edited_opening(model: ChatModel, edit: OpeningEdit, last: int) -> SharedPrefix | None:
    """Return the opening under an edit, or None where the edit leaves it."""
    touched = False

    def hook(layer: int) -> BlockHook:
        def on_block(hidden: torch.Tensor) -> torch.Tensor | None:
            nonlocal touched
            changed = edit.edit_opening(layer, hidden)
            touched = touched or changed is not None
            return changed

        return on_block

    opening = shared_prefix(model, last, {layer: hook(layer) for layer in edit.layers})
    return opening if touched else None


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
        self.intervention = intervention
        self.steering = steering
        self.openings = openings
        self.phase: Phase | None = None
        self.cache: Any = None

    def _hooks(self, layers: Iterable[int]) -> dict[int, BlockHook]:
        return {layer: self._hook(layer) for layer in layers}

    def _hook(self, layer: int) -> BlockHook:
        def on_block(hidden: torch.Tensor) -> torch.Tensor | None:
            assert self.intervention is not None
            assert self.steering is not None
            assert self.phase is not None
            changed = self.steering.at_block(layer, hidden, self.phase)
            decided_here = layer == max(self.intervention.reads, default=None)
            if decided_here and self.phase.kind == "prefill" and self.openings is not None:
                # Later blocks have not looked at their keys yet, so the decision still reaches the
                # opening: rows that change it get the edited one.
                later = range(layer + 1, len(self.model.blocks))
                self.openings.put(self.cache, self.steering.openings(), later)
            return changed

        return on_block

    def _model(self, ids: torch.Tensor, mask: torch.Tensor, position_ids: torch.Tensor) -> Any:
        return self.model.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=position_ids,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )

    def _new_cache(self, rows: int) -> Any:
        return None if self.openings is None else self.openings.plain.growing_cache(rows)

    def _prepare(self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor) -> None:
        """Decide in a pass of its own where the intervention asks for it; set up the cache."""
        self.cache = self._new_cache(len(ids))
        if self.intervention is None or self.steering is None:
            return
        real = mask[:, -ids.shape[1] :].bool()
        if self.intervention.reads_first:
            self.phase = Phase("decide", real)
            reads = self.intervention.reads
            hooks = self._hooks(reads)
            with block_hooks(self.model.blocks, hooks, stop_after=reads[-1]), until_stopped():
                self._model(ids, mask, positions)
            self.cache = self._new_cache(len(ids))
        if self.openings is not None and (
            self.intervention.reads_first or not self.intervention.reads
        ):
            every = range(len(self.model.blocks))
            self.openings.put(self.cache, self.steering.openings(), every)
        self.phase = Phase("prefill", real)

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
        self._prepare(ids, mask, position_ids)
        words: Sequence[Words | None] = [None] * len(batch)
        forced: _Forced | None = None
        with block_hooks(self.model.blocks, self._hooks(self._layers())):
            while step < longest:
                out = self._model(ids, mask, position_ids)
                self.cache = out.past_key_values
                chosen = out.logits[:, -1].argmax(-1)
                if step == 0 and self.steering is not None:
                    words = self.steering.words()
                    forced = _Forced.of(words, self.model, ids.device)
                    final = [word is not None and word.final for word in words]
                    finished = finished | torch.tensor(final, device=ids.device)
                if forced is not None:
                    chosen = forced.instead(chosen, alive, step)
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
        return self._replies(batch, produced, limits, words)

    @torch.inference_mode()
    def first_logits(self, tokens: Tokens) -> torch.Tensor:
        ids, mask, position_ids = self._prompt(tokens, list(range(len(tokens))))
        self._prepare(ids, mask, position_ids)
        with block_hooks(self.model.blocks, self._hooks(self._layers())):
            return self._model(ids, mask, position_ids).logits[:, -1].float()

    def _layers(self) -> set[int]:
        """Return the blocks at which the generating pass stops to ask the intervention."""
        if self.intervention is None:
            return set()
        reads = () if self.intervention.reads_first else self.intervention.reads
        return {*reads, *self.intervention.edits}

    def _prompt(
        self, tokens: Tokens, batch: list[int]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return ids ``[B, T]``, mask ``[B, opening + T]`` and position ids."""
        skip = 0 if self.openings is None else len(self.openings.plain)
        ids, mask = tokens.padded(batch, skip=skip)
        position_ids = (mask.cumsum(-1) - 1).clamp(min=0) + skip
        if self.openings is not None:
            mask = torch.cat([mask.new_ones(len(batch), skip), mask], dim=1)
        device = self.model.device
        return ids.to(device), mask.to(device), position_ids.to(device)

    def _replies(
        self,
        batch: list[int],
        produced: list[tuple[torch.Tensor, torch.Tensor]],
        limits: Sequence[int],
        words: Sequence[Words | None],
    ) -> list[Reply]:
        rows: list[list[int]] = [[] for _ in batch]
        for alive, chosen in produced:
            for row, token in zip(alive.tolist(), chosen.tolist()):
                rows[row].append(token)
        decisions = self.steering.decisions() if self.steering is not None else [None] * len(batch)
        stop_ids = self.model.stop_ids
        replies = []
        for row, (index, made) in enumerate(zip(batch, rows)):
            said = words[row]
            if said is not None and said.final:
                replies.append(Reply(index, said.text, (), True, decisions[row], fixed=True))
                continue
            end = next((i for i, token in enumerate(made) if token in stop_ids), None)
            stopped = end is not None and end < limits[index]
            kept = tuple(made[:end] if stopped else made[: limits[index]])
            text = self.model.tokenizer.decode(kept, skip_special_tokens=True)
            replies.append(Reply(index, text, kept, stopped, decisions[row]))
        return replies


@dataclass(frozen=True)
class _Forced:
    """Tokens of the words that rows begin with, ``[B, F]``; -1 where the model chooses."""

    tokens: torch.Tensor

    @staticmethod
    def of(words: Sequence[Words | None], model: ChatModel, device: torch.device) -> _Forced | None:
        """Return the forced tokens, or None where no row begins with words and goes on."""
        texts = ["" if word is None or word.final else word.text for word in words]
        if not any(texts):
            return None
        made = {text: model.template.bare_tokens(text) for text in set(texts) if text}
        longest = max(len(tokens) for tokens in made.values())
        rows = [[*made.get(text, ()), *[-1] * longest][:longest] for text in texts]
        return _Forced(torch.tensor(rows, device=device))

    def instead(self, chosen: torch.Tensor, rows: torch.Tensor, step: int) -> torch.Tensor:
        """Return the step's tokens with the forced ones in their places."""
        if step >= self.tokens.shape[1]:
            return chosen
        forced = self.tokens[rows, step]
        return torch.where(forced >= 0, forced, chosen)


def _select(cache: Any, rows: torch.Tensor) -> bool:
    """Drop all other rows from a cache, if every layer of it can."""
    layers = getattr(cache, "layers", None)
    if layers is None or not all(hasattr(layer, "batch_select_indices") for layer in layers):
        return False
    for layer in layers:
        layer.batch_select_indices(rows.to(layer.keys.device))
    return True
