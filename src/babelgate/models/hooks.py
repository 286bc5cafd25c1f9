"""Reading and changing the residual stream at block outputs, for the length of a `with` block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import nn

#: Receives the output ``h_L [B, T, d]`` of a block; returns its replacement, or None to keep it.
BlockHook = Callable[[torch.Tensor], torch.Tensor | None]


class _StopForward(Exception):
    """Raised inside a forward pass when nothing after the current block is needed."""


@contextmanager
def block_hooks(
    blocks: nn.ModuleList, hooks: Mapping[int, BlockHook], *, stop_after: int | None = None
) -> Iterator[None]:
    """Call ``hooks[l]`` on the output of block l during every forward pass inside the block.

    The output is what the block adds to the residual stream's end: before any final norm, unlike
    ``hidden_states[-1]`` of transformers. With ``stop_after`` the pass ends silently after that
    block; run it under :func:`until_stopped`. Key -1 is the input of block 0: what the embedding
    hands over.
    """
    handles = []
    wanted = set(hooks) | ({stop_after} if stop_after is not None else set())
    try:
        for layer in wanted:
            if layer < 0:
                before = _input_hook(hooks[layer])
                handles.append(blocks[0].register_forward_pre_hook(before, with_kwargs=True))
                continue
            hook = _module_hook(hooks.get(layer), stop=layer == stop_after)
            handles.append(blocks[layer].register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


def until_stopped() -> suppress:
    """Return a context in which a forward pass may be ended by ``stop_after``."""
    return suppress(_StopForward)


def _module_hook(hook: BlockHook | None, *, stop: bool) -> Callable[..., Any]:
    def on_output(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        # Some architectures return the hidden states alone, others first in a tuple.
        hidden = output[0] if isinstance(output, tuple) else output
        changed = None if hook is None else hook(hidden)
        if stop:
            raise _StopForward
        if changed is None:
            return None
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    return on_output


def _input_hook(hook: BlockHook) -> Callable[..., Any]:
    def on_input(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # Architectures pass the hidden states first or by name.
        hidden = args[0] if args else kwargs["hidden_states"]
        changed = hook(hidden)
        if changed is None:
            return None
        if args:
            return (changed, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": changed}

    return on_input
