"""Many edits of one prompt as rows of one pass, each row there from the block where it differs.

A prompt with m edits begins as one row. Rows that project out branch off at the embedding; a row
that adds a direction at block L branches off the untouched one there, so that the blocks below are
computed once for all of them. Rows of one prompt need no padding. The template's opening is
computed once per edit, for all prompts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..generate import next_token_logits
from ..interventions.base import EMBEDDING
from ..interventions.conditional import Ungated
from ..interventions.vectors import Placed
from ..models.chat import ChatModel
from ..models.hooks import BlockHook, block_hooks
from ..models.memory import free_memory, is_out_of_memory
from ..models.prefix import SharedPrefix, shared_prefix
from .edits import Edit

#: The untouched model's row.
BASE = "base"

_KeysValues = tuple[torch.Tensor, torch.Tensor]


def log_odds(logits: torch.Tensor, tokens: frozenset[int]) -> list[float]:
    """Return ``log(P / (1 - P))`` of the tokens' summed probability, ``[R, V] -> [R]``.

    Both sides are summed in log space: ``1 - P`` would round to 0 where the model is sure.
    """
    wide = logits.double()
    inside = torch.zeros(wide.shape[-1], dtype=torch.bool)
    inside[sorted(tokens)] = True
    inside = inside.to(wide.device)
    yes = wide.masked_fill(~inside, -torch.inf).logsumexp(-1)
    no = wide.masked_fill(inside, -torch.inf).logsumexp(-1)
    return (yes - no).cpu().tolist()


def can_grow(model: ChatModel) -> bool:
    """Whether attention lets one row's mask and positions serve rows that branch off."""
    kind = getattr(model.model.config, "_attn_implementation", None)
    return kind in ("eager", "sdpa")


@dataclass
class EditedRows:
    """Next-token logits of prompts under many edits at once.

    ``tokens_per_pass`` bounds rows times prompt length; a pass that does not fit the memory is
    halved. Without ``grow``, or where attention cannot broadcast, each edit has a pass of its own.
    """

    model: ChatModel
    tokens_per_pass: int
    grow: bool = True

    def __post_init__(self) -> None:
        self.grow = self.grow and can_grow(self.model)
        plain = shared_prefix(self.model, len(self.model.blocks) - 1) if self.grow else None
        self._opening = () if plain is None else self.model.template.opening
        #: Keys and values of the opening by edit, per block; None below where the row branches off.
        self._openings: dict[str, list[_KeysValues | None]] = {}
        if plain is not None:
            self._openings[BASE] = [*plain.keys_values]

    def logits(self, text: str, edits: Sequence[Edit]) -> dict[str, torch.Tensor]:
        """Return ``[V]`` logits of the reply's first token by edit name, with the base's."""
        if not self.grow:
            return self._one_by_one(text, edits)
        ids = self.model.encode([text]).ids[0]
        n = len(self._opening)
        shared = n > 0 and ids[:n] == self._opening and len(ids) > n
        if shared:
            self._compute_openings(edits)
        found: dict[str, torch.Tensor] = {}
        for part, logits, _ in self._passes(ids[n:] if shared else ids, edits, shared):
            # The first pass's base is kept, so that it does not depend on how many passes follow.
            found = dict(zip((BASE, *(edit.name for edit in part)), logits)) | found
        return found

    def _one_by_one(self, text: str, edits: Sequence[Edit]) -> dict[str, torch.Tensor]:
        found = {BASE: next_token_logits(self.model, [text])[0]}
        for edit in edits:
            action = Ungated(edit.action(len(self.model.blocks)))
            found[edit.name] = next_token_logits(self.model, [text], action)[0]
        return found

    def _compute_openings(self, edits: Sequence[Edit]) -> None:
        missing = {e.key: e for e in edits if e.key not in self._openings}
        if not missing:
            return
        for part, _, cache in self._passes(self._opening, [*missing.values()], None):
            for row, edit in enumerate(part, 1):
                self._openings[edit.key] = [
                    (layer.keys[row], layer.values[row]) if _branch(edit) < at else None
                    for at, layer in enumerate(cache.layers)
                ]

    def _passes(
        self, ids: Sequence[int], edits: Sequence[Edit], shared: bool | None
    ) -> Iterator[tuple[list[Edit], torch.Tensor, Any]]:
        """Yield (edits, logits ``[1 + edits, V]``, cache) of as many passes as it takes.

        ``shared``: after the opening; None: it is the opening, whose keys are kept.
        """
        order = sorted(edits, key=_branch)
        size = max(1, self.tokens_per_pass // max(1, len(ids)) - 1)
        pending = [order[at : at + size] for at in range(0, len(order), size)] or [[]]
        while pending:
            part = pending.pop(0)
            try:
                logits, cache = self._pass(ids, part, shared)
            except (RuntimeError, MemoryError) as error:
                if len(part) < 2 or not is_out_of_memory(error):
                    raise
                half = len(part) // 2
                pending[:0] = [part[:half], part[half:]]
            else:
                yield part, logits, cache
                continue
            free_memory()

    @torch.inference_mode()
    def _pass(
        self, ids: Sequence[int], part: Sequence[Edit], shared: bool | None
    ) -> tuple[torch.Tensor, Any]:
        from transformers.cache_utils import DynamicCache

        model, skip = self.model, len(self._opening) if shared else 0
        cache: Any = DynamicCache() if shared is None else None
        if shared:
            cache = self._prefix(part).reading_cache()
        device = model.device
        with block_hooks(model.blocks, _Growth(part).hooks(len(model.blocks))):
            out = model.model(
                input_ids=torch.tensor([list(ids)], device=device),
                attention_mask=torch.ones(1, skip + len(ids), dtype=torch.long, device=device),
                position_ids=torch.arange(skip, skip + len(ids), device=device)[None],
                past_key_values=cache,
                use_cache=cache is not None,
                logits_to_keep=1,
            )
        return out.logits[:, -1].float(), cache

    def _prefix(self, part: Sequence[Edit]) -> SharedPrefix:
        """Return the opening of each row that there is in each block."""
        rows = [self._openings[BASE], *(self._openings[edit.key] for edit in part)]
        layers = []
        for at, pair in enumerate(self._openings[BASE]):
            assert pair is not None
            own = [row[at] for row in rows[1:]]
            there = [x for x in own if x is not None]
            keys, values = (torch.cat([pair[i], *(x[i][None] for x in there)]) for i in range(2))
            layers.append((keys, values))
        return SharedPrefix(self._opening, tuple(layers))


def _branch(edit: Edit) -> int:
    """Return the block after which an edit's row differs from the untouched one."""
    return EMBEDDING if edit.way == "ablate" else edit.direction.layer


class _Growth:
    """Rows: the untouched one, then those that project out, then the others as they branch off."""

    def __init__(self, part: Sequence[Edit]) -> None:
        self._ablated = sum(edit.way == "ablate" for edit in part)
        vectors = [edit.direction.vector for edit in part[: self._ablated]]
        self._out = Placed(torch.stack(vectors)) if vectors else None
        shifts: dict[int, list[torch.Tensor]] = {}
        for edit in part[self._ablated :]:
            shift = edit.length * edit.direction.vector
            shifts.setdefault(edit.direction.layer, []).append(shift)
        self._shifts = {layer: Placed(torch.stack(rows)) for layer, rows in shifts.items()}

    def hooks(self, n_layers: int) -> dict[int, BlockHook]:
        """Return what is done after each block."""
        layers = {*self._shifts, *(range(EMBEDDING, n_layers) if self._ablated else ())}
        return {layer: self._hook(layer) for layer in layers}

    def _hook(self, layer: int) -> BlockHook:
        def on_block(hidden: torch.Tensor) -> torch.Tensor:
            untouched, n = hidden[:1], 1 + self._ablated
            rows = [untouched]
            if self._out is not None:
                # All of them begin as the untouched row.
                own = untouched if layer == EMBEDDING else hidden[1:n]
                rows.append(project_rows(own, self._out.on(hidden.device)))
            rows.append(hidden[n:])
            if layer in self._shifts:
                shift = self._shifts[layer].on(hidden.device)
                rows.append((untouched.float() + shift[:, None]).to(hidden.dtype))
            return torch.cat(rows)

        return on_block


def project_rows(hidden: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """Return ``h_r - (h_r . v_r) v_r`` row by row; ``[1 or R, T, d], [R, d] -> [R, T, d]``.

    Computed in float32 and cast back, as :func:`~babelgate.interventions.linear.project_out`.
    """
    wide, vectors = hidden.float(), directions[:, None, :]
    amount = (wide * vectors).sum(-1, keepdim=True)
    return (wide - amount * vectors).to(hidden.dtype)
