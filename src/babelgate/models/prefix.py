"""The chat template's fixed opening, computed once and shared by every row of every batch.

In a causal model the states of the opening do not depend on what follows, so their keys and values
serve all prompts. Capture reads them; nothing is ever appended to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from .chat import ChatModel
from .hooks import block_hooks, until_stopped


@dataclass(frozen=True)
class SharedPrefix:
    """Keys and values ``[1, heads, P, head_dim]`` of the opening, per layer up to ``stop_after``."""

    ids: tuple[int, ...]
    keys_values: tuple[tuple[torch.Tensor, torch.Tensor], ...]

    def __len__(self) -> int:
        return len(self.ids)

    def cache(self) -> Any:
        """Return a cache object for one forward pass of any batch size."""
        from transformers.cache_utils import Cache

        return Cache(layers=[_prefix_layer(k, v) for k, v in self.keys_values])


def shared_prefix(model: ChatModel, stop_after: int) -> SharedPrefix | None:
    """Compute the opening's keys and values through block ``stop_after``.

    Returns None where sharing is not known to be exact: an opening too short to matter, or an
    architecture that keeps other state than keys and values (recurrent layers).
    """
    from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

    ids = model.template.opening
    if len(ids) < 2:
        return None
    try:
        cache = DynamicCache(config=model.model.config)
    except (KeyError, ValueError, AttributeError, TypeError):
        return None
    if any(type(x) not in (DynamicLayer, DynamicSlidingWindowLayer) for x in cache.layers):
        return None
    # Plain layers throughout: a sliding window's own layer would drop old keys, and the model's
    # mask already hides what lies outside the window.
    cache = DynamicCache()
    inputs = torch.tensor([ids], device=model.device)
    with (
        torch.inference_mode(),
        block_hooks(model.blocks, {}, stop_after=stop_after),
        until_stopped(),
    ):
        model.model(input_ids=inputs, past_key_values=cache, use_cache=True)
    layers = cache.layers[: stop_after + 1]
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
