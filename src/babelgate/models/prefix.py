"""The chat template's fixed opening, computed once and shared by every row of every batch.

In a causal model the states of the opening do not depend on what follows, so their keys and values
serve all prompts: capture reads them, generation starts its cache from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from .chat import ChatModel
from .hooks import BlockHook, block_hooks, until_stopped


@dataclass(frozen=True)
class SharedPrefix:
    """Keys and values ``[1, heads, P, head_dim]`` of the opening, per layer up to some block."""

    ids: tuple[int, ...]
    keys_values: tuple[tuple[torch.Tensor, torch.Tensor], ...]

    def __len__(self) -> int:
        return len(self.ids)

    def reading_cache(self) -> Any:
        """Return a cache for one forward pass of any batch size, which keeps no new keys."""
        from transformers.cache_utils import Cache

        return Cache(layers=[_prefix_layer(k, v) for k, v in self.keys_values])

    def growing_cache(self, rows: int) -> Any:
        """Return a cache of that many rows that generation goes on from."""
        from transformers.cache_utils import DynamicCache

        cache = DynamicCache()
        for i, (keys, values) in enumerate(self.keys_values):
            cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), i)
        return cache

    def replace_rows(self, cache: Any, rows: torch.Tensor, layers: range) -> None:
        """Put this opening into some rows (``[B]`` bool) of layers that hold only an opening."""
        for i in layers:
            layer = cache.layers[i]
            where = rows.to(layer.keys.device)[:, None, None, None]
            keys, values = self.keys_values[i]
            layer.keys = torch.where(where, keys, layer.keys)
            layer.values = torch.where(where, values, layer.values)


def keeps_every_key(model: ChatModel) -> bool:
    """Whether every layer attends to all earlier tokens and keeps keys and values alone.

    A batch of left-padded rows may then follow a shared opening: with a sliding window the padding
    between opening and text would stretch the distances that the window counts.
    """
    from transformers.cache_utils import DynamicLayer

    return all(kind is DynamicLayer for kind in _layer_kinds(model)) and bool(_layer_kinds(model))


def _layer_kinds(model: ChatModel) -> list[type]:
    from transformers.cache_utils import DynamicCache

    try:
        return [type(layer) for layer in DynamicCache(config=model.model.config).layers]
    except (KeyError, ValueError, AttributeError, TypeError):
        return []


def shared_prefix(
    model: ChatModel, stop_after: int, hooks: Mapping[int, BlockHook] | None = None
) -> SharedPrefix | None:
    """Compute the opening's keys and values through block ``stop_after``, under some hooks.

    Returns None where sharing is not known to be exact: an opening too short to matter, or an
    architecture that keeps other state than keys and values (recurrent layers).
    """
    from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

    ids = model.template.opening
    kinds = _layer_kinds(model)
    if len(ids) < 2 or not kinds:
        return None
    if any(kind not in (DynamicLayer, DynamicSlidingWindowLayer) for kind in kinds):
        return None
    # Plain layers throughout: a sliding window's own layer would drop old keys, and the model's
    # mask already hides what lies outside the window.
    cache = DynamicCache()
    inputs = torch.tensor([ids], device=model.device)
    with (
        torch.inference_mode(),
        block_hooks(model.blocks, hooks or {}, stop_after=stop_after),
        until_stopped(),
    ):
        model.model(input_ids=inputs, past_key_values=cache, use_cache=True)
    layers: list[Any] = cache.layers[: stop_after + 1]
    if len(layers) <= stop_after or any(x.get_seq_length() != len(ids) for x in layers):
        return None
    return SharedPrefix(ids, tuple((x.keys, x.values) for x in layers))


def _prefix_layer(keys: torch.Tensor, values: torch.Tensor) -> Any:
    from transformers.cache_utils import DynamicLayer

    class PrefixLayer(DynamicLayer):
        """Shows the prefix before the new keys without keeping the new ones."""

        def update(
            self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
        ) -> tuple[torch.Tensor, torch.Tensor]:
            rows = key_states.shape[0]
            # Expanding repeats no memory; the concatenation copies P of P + T positions.
            return (
                torch.cat([keys.expand(rows, -1, -1, -1), key_states], dim=-2),
                torch.cat([values.expand(rows, -1, -1, -1), value_states], dim=-2),
            )

    layer = PrefixLayer()
    layer.keys, layer.values = keys, values
    layer.dtype, layer.device, layer.is_initialized = keys.dtype, keys.device, True
    return layer
