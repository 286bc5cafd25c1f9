"""The only reader of activations: any layers and positions of any prompts, in one pass.

Cost: ``2 x parameters of the blocks up to the last layer needed x prompt tokens after the
template's opening`` floating-point operations. The pass stops after the last layer needed, computes
no logits, computes the opening once, and pads little because prompts of like length share a batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from .errors import StoreError, UserError
from .models.chat import ChatModel
from .models.hooks import block_hooks, until_stopped
from .models.memory import free_memory, is_out_of_memory
from .models.prefix import SharedPrefix, shared_prefix
from .models.template import Tokens
from .store import DTYPES, ActivationStore, StoreSpec
from .types import POSITIONS, Position, Prompt, is_position, post_instruction, tokens_back

# Tokens per forward pass on a processor: enough rows for the matrix products to run at full rate,
# few enough that a block's activations stay in cache (benchmarks/bench_capture.py --sweep).
CPU_BATCH_TOKENS = 1024
ACCELERATOR_BATCH_TOKENS = 16384


@dataclass(frozen=True)
class Activations:
    """Stored activations of a list of prompts, read one layer at a time.

    ``keys`` are the prompts' keys in the caller's order; rows of :meth:`layer` follow it.
    """

    store: ActivationStore
    keys: tuple[str, ...]

    def layer(self, layer: int, position: Position = "t_post") -> torch.Tensor:
        """Return ``h_L [N, d]`` in float32; rows of excluded prompts are NaN."""
        return self.store.layer(layer, position, self.keys)

    def select(self, keys: Iterable[str]) -> Activations:
        """Return a view of some of the prompts, in the given order."""
        return Activations(self.store, tuple(keys))

    @property
    def excluded(self) -> dict[str, str]:
        """Prompts without activations, with the reason."""
        return {k: v for k, v in self.store.excluded.items() if k in set(self.keys)}


def default_batch_tokens(model: ChatModel) -> int:
    """Return the number of tokens per forward pass that suits the model's device."""
    return CPU_BATCH_TOKENS if model.device.type == "cpu" else ACCELERATOR_BATCH_TOKENS


def post_instruction_positions(model: ChatModel) -> tuple[Position, ...]:
    """Return the positions of the template's tokens after the user's text, first to last.

    The last is ``t_post``; a template that adds nothing after the text has that one alone.
    """
    return tuple(
        post_instruction(back) for back in reversed(range(len(model.template.closing)))
    ) or ("t_post",)


def plan_batches(lengths: Sequence[int], batch_tokens: int) -> tuple[list[int], list[int]]:
    """Return (rows from longest to shortest, batch boundaries into them).

    A batch holds as many rows as fit ``batch_tokens`` when padded to its longest; at least one. The
    longest come first, so that a batch too large for the memory fails at once and not after hours.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    bounds = [0]
    for at, row in enumerate(order):
        widest = lengths[order[bounds[-1]]] if at > bounds[-1] else lengths[row]
        if (at - bounds[-1] + 1) * widest > batch_tokens and at > bounds[-1]:
            bounds.append(at)
    return order, [*bounds, len(order)] if order else [0]


def capture(
    model: ChatModel,
    prompts: Sequence[Prompt],
    folder: Path,
    *,
    layers: Sequence[int] | None = None,
    positions: Sequence[Position] = ("t_post",),
    batch_tokens: int | None = None,
    dtype: str | None = None,
    share_opening: bool = True,
    on_batch: Callable[[int], None] | None = None,
) -> Activations:
    """Store the residual stream ``h_L`` of prompts at some layers and positions.

    Args:
        folder: the store; what it already holds of the same capture is kept, so a killed run goes
            on where it stopped.
        layers: 0-based blocks; all by default. The pass ends after the largest.
        positions: ``t_post`` (last token with the generation prompt), ``t_inst`` (last token of the
            user's text), ``t_post-N`` (the token N before the last; see
            :func:`post_instruction_positions`), ``mean`` (mean over all tokens of the templated
            prompt; the opening is then part of every prompt and is not shared).
        batch_tokens: padded tokens per forward pass. Halved on its own when memory runs out.
        dtype: of the stored values; the model's own by default.
        on_batch: called with the number of prompts after each batch, and once for what was stored
            already.

    Raises:
        UserError: for layers that the model lacks, other wrong arguments, or prompts with one key.
        StoreError: if the store is damaged or the disk is full.
    """
    wanted = tuple(sorted(set(range(len(model.blocks)) if layers is None else layers)))
    if not wanted or wanted[0] < 0 or wanted[-1] >= len(model.blocks):
        raise UserError(
            f"layers {list(wanted)}: this model has blocks 0 to {len(model.blocks) - 1}"
        )
    if bad := [p for p in positions if not is_position(p)]:
        raise UserError(
            f"position {bad[0]!r} is not one of {POSITIONS}, nor 't_post-N' (N tokens before)"
        )
    stored = dtype or model.identity.dtype
    if stored not in DTYPES:
        raise UserError(f"dtype {stored!r} is not one of {', '.join(DTYPES)}")
    if not prompts:
        raise UserError("there are no prompts to capture")
    if twice := [key for key, n in Counter(p.key for p in prompts).items() if n > 1]:
        raise UserError(
            f"several prompts have the key {twice[0]!r}; language and id together must be unique"
        )

    tokens = model.encode([p.text for p in prompts])
    order, bounds = plan_batches(tokens.lengths, batch_tokens or default_batch_tokens(model))
    spec = StoreSpec(
        model=model.identity,
        layers=wanted,
        positions=tuple(positions),
        dtype=stored,
        prompts=tuple((prompts[i].key, prompts[i].text) for i in order),
        batches=tuple(bounds),
    )
    store = ActivationStore.create_or_resume(folder, spec)
    row_of = {p.key: i for i, p in enumerate(prompts)}
    todo = [b for b in range(len(store.batches) - 1) if b not in store.done_batches]
    if on_batch is not None:
        on_batch(len(prompts) - sum(store.batches[b + 1] - store.batches[b] for b in todo))
    # The plan that is on disk counts: it may come from a run with another batch size.
    share = share_opening and bool(todo) and "mean" not in spec.positions
    reader = _Reader(model, tokens, wanted, spec.positions, share, DTYPES[stored])
    for batch in todo:
        keys = store.keys[store.batches[batch] : store.batches[batch + 1]]
        values, excluded = reader.read([row_of[k] for k in keys])
        store.write_batch(batch, values, {keys[i]: why for i, why in excluded.items()})
        if on_batch is not None:
            on_batch(len(keys))
    if not store.complete:
        raise StoreError(f"activation store {folder} is incomplete; run the command again")
    return Activations(store, tuple(p.key for p in prompts))


@dataclass
class _Reader:
    """Forward passes over batches of encoded prompts."""

    model: ChatModel
    tokens: Tokens
    layers: tuple[int, ...]
    positions: tuple[Position, ...]
    share: bool
    dtype: torch.dtype

    def __post_init__(self) -> None:
        self.prefix = shared_prefix(self.model, self.layers[-1]) if self.share else None

    def read(self, rows: list[int]) -> tuple[torch.Tensor, dict[int, str]]:
        """Return ``[n_layers, n_positions, B, d]`` and reasons for rows that have none."""
        limit = self.model.context_length
        reasons = {
            i: f"{self.tokens.lengths[row]} tokens, longer than the context of {limit}"
            for i, row in enumerate(rows)
            if limit is not None and self.tokens.lengths[row] > limit
        }
        deepest = max(self._back(position) for position in self.positions)
        reasons |= {
            i: f"{self.tokens.lengths[row]} tokens, none of them {deepest} before the last"
            for i, row in enumerate(rows)
            if self.tokens.lengths[row] <= deepest
        }
        shape = (len(self.layers), len(self.positions), len(rows), self.model.identity.d_model)
        # In the stored type, so that what overflows it is found below.
        values = torch.zeros(shape, dtype=self.dtype)
        fitting = [i for i in range(len(rows)) if i not in reasons]
        for group, prefix in self._by_opening(rows, fitting):
            values[:, :, group] = self._forward([rows[i] for i in group], prefix).to(self.dtype)
        finite = values.isfinite().all(dim=-1).all(dim=1).all(dim=0)
        for i in fitting:
            if not finite[i]:
                reasons[i] = "activations are not finite (NaN or infinite)"
                values[:, :, i] = 0
        return values, reasons

    def _by_opening(
        self, rows: list[int], which: list[int]
    ) -> Iterable[tuple[list[int], SharedPrefix | None]]:
        """Split a batch into rows that begin with the shared opening and rows that do not."""
        if self.prefix is None:
            return [(which, None)] if which else []
        n, opening = len(self.prefix), self.prefix.ids
        shared = [
            i
            for i in which
            if self.tokens.ids[rows[i]][:n] == opening
            and self.tokens.lengths[rows[i]] - n >= self.tokens.inst_offsets[rows[i]]
            and self.tokens.lengths[rows[i]] - n > max(map(self._back, self.positions))
        ]
        rest = [i for i in which if i not in set(shared)]
        return [(g, p) for g, p in ((shared, self.prefix), (rest, None)) if g]

    def _forward(self, rows: list[int], prefix: SharedPrefix | None) -> torch.Tensor:
        try:
            return self._pass(rows, prefix)
        except (RuntimeError, MemoryError) as error:
            if len(rows) == 1 or not is_out_of_memory(error):
                raise
        # Outside the handler, so that the failed pass's tensors are free before the next try.
        free_memory()
        half = len(rows) // 2
        parts = [self._forward(part, prefix) for part in (rows[:half], rows[half:])]
        return torch.cat(parts, dim=2)

    @torch.inference_mode()
    def _pass(self, rows: list[int], prefix: SharedPrefix | None) -> torch.Tensor:
        skip = 0 if prefix is None else len(prefix)
        ids, mask = self.tokens.padded(rows, skip=skip, side="right" if skip else "left")
        device = self.model.device
        position_ids = (mask.cumsum(-1) - 1).clamp(min=0) + skip
        if skip:
            mask = torch.cat([mask.new_ones(len(rows), skip), mask], dim=1)
        places = self._places(rows, ids.shape[1], skip)
        found: dict[int, torch.Tensor] = {}

        def reader(layer: int) -> Callable[[torch.Tensor], None]:
            def read(hidden: torch.Tensor) -> None:
                at = places.to(hidden.device)
                picked = hidden[torch.arange(len(rows), device=hidden.device), at]
                if "mean" in self.positions:
                    real = mask.to(hidden.device)[:, :, None] > 0
                    mean = torch.where(real, hidden.float(), 0.0).sum(1) / real.sum(1)
                    picked[self.positions.index("mean")] = mean.to(hidden.dtype)
                found[layer] = picked.to("cpu", copy=True)

            return read

        hooks = {layer: reader(layer) for layer in self.layers}
        with block_hooks(self.model.blocks, hooks, stop_after=self.layers[-1]), until_stopped():
            self.model.model(
                input_ids=ids.to(device),
                attention_mask=mask.to(device),
                position_ids=position_ids.to(device),
                past_key_values=None if prefix is None else prefix.reading_cache(),
                use_cache=prefix is not None,
            )
        return torch.stack([found[layer] for layer in self.layers])

    def _places(self, rows: list[int], width: int, skip: int) -> torch.Tensor:
        """Return the columns of the wanted positions, ``[n_positions, B]``."""
        tokens = self.tokens
        ends = [tokens.lengths[row] - skip if skip else width for row in rows]
        return torch.tensor(
            [
                [
                    end - (tokens.inst_offsets[row] if p == "t_inst" else self._back(p) + 1)
                    for end, row in zip(ends, rows)
                ]
                for p in self.positions
            ]
        )

    @staticmethod
    def _back(position: Position) -> int:
        """Return how many tokens before the last a position is, where that is the same in all rows.

        A mean has no column: the last one stands in and is overwritten.
        """
        return tokens_back(position) or 0
