"""Edits of many rows at once, each with a direction of its own; and passes that start midway."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from ..interventions.actions import everywhere
from ..models.hooks import block_hooks

# Names of the module in which a block attends, and of the norm that some architectures (Gemma 2
# and 3, OLMo 2, GLM 4) put behind it, so that the norm's output is what reaches the stream.
_ATTENTION = (
    "self_attn", "attn", "attention", "self_attention", "linear_attn", "mixer", "mamba",
)  # fmt: skip
_NORM_BEHIND = {"post_feedforward_layernorm": "post_attention_layernorm",
                "post_self_attn_layernorm": "post_self_attn_layernorm"}  # fmt: skip


def attention_writes(blocks: nn.ModuleList) -> list[nn.Module] | None:
    """Return per block the module whose output attention adds to the stream, or None if unknown."""
    found: list[nn.Module] = []
    for block in blocks:
        parts = dict(block.named_children())
        behind = next((n for sign, n in _NORM_BEHIND.items() if sign in parts), None)
        name = behind or next((n for n in _ATTENTION if n in parts), None)
        if name is None or name not in parts:
            return None
        found.append(parts[name])
    return found


def project_out_rows(hidden: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """Return ``h - (h . r_row) r_row`` at every token; ``[R, T, d], [R, d] -> [R, T, d]``.

    ``r_row`` has unit norm. Computed in float32 and cast back.
    """
    wide = hidden.float()
    amount = torch.bmm(wide, directions[:, :, None])
    return torch.baddbmm(wide, amount, directions[:, None, :], alpha=-1).to(hidden.dtype)


@contextmanager
def ablated(
    blocks: nn.ModuleList, directions: torch.Tensor, *, stop_after: int | None = None
) -> Iterator[None]:
    """Project row r's unit direction (``[R, d]``) out of all that the model writes and reads.

    That is out of every block's input and every attention's and MLP's output, at all tokens
    (arXiv 2406.11717, section 2.4). Taking it out of a block's output takes it out of what its MLP
    wrote, since what that is added to has none of it. So the edit is the one of
    :func:`babelgate.interventions.actions.everywhere` and one more per block: what attention
    writes, which the MLP of the same block would otherwise read.
    """
    placed: dict[torch.device, torch.Tensor] = {}

    def edit(hidden: torch.Tensor) -> torch.Tensor:
        if hidden.device not in placed:
            placed[hidden.device] = directions.to(hidden.device, torch.float32)
        return project_out_rows(hidden, placed[hidden.device])

    def on_output(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (edit(output[0]), *output[1:])
        return edit(output)

    hooks = {layer: edit for layer in everywhere(len(blocks))}
    with ExitStack() as stack:
        stack.enter_context(block_hooks(blocks, hooks, stop_after=stop_after))
        for module in attention_writes(blocks) or ():
            stack.callback(module.register_forward_hook(on_output).remove)
        yield


@contextmanager
def starting_at(
    blocks: nn.ModuleList,
    layer: int,
    inputs: torch.Tensor | None,
    read: tuple[int, Callable[[torch.Tensor], None]] | None = None,
    *,
    stop_after: int | None = None,
    n_outputs: int | None = None,
) -> Iterator[None]:
    """Skip the blocks below ``layer`` and hand it ``inputs [B, T, d]`` instead of their work.

    ``read`` is (block, function) that receives that block's output. ``n_outputs`` is the length of
    the tuple that blocks return, None where they return the states alone.
    """

    def pass_on(hidden_states: torch.Tensor, *_: Any, **__: Any) -> Any:
        if n_outputs is None:
            return hidden_states
        return (hidden_states, *[None] * (n_outputs - 1))

    hooks: dict[int, Callable[[torch.Tensor], torch.Tensor | None]] = {}
    if inputs is not None:
        hooks[layer - 1] = lambda hidden: inputs.to(hidden.device)
    if read is not None:
        hooks[read[0]] = read[1]
    with ExitStack() as stack:
        for block in list(blocks)[:layer]:
            stack.enter_context(_forward_replaced(block, pass_on))
        stack.enter_context(block_hooks(blocks, hooks, stop_after=stop_after))
        yield


@contextmanager
def _forward_replaced(block: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    # Offloaded models have a forward of their own on the instance already.
    before = block.__dict__.get("forward")
    block.__dict__["forward"] = forward
    try:
        yield
    finally:
        if before is None:
            del block.__dict__["forward"]
        else:
            block.__dict__["forward"] = before


def outputs_of_blocks(model: nn.Module, blocks: nn.ModuleList, ids: Sequence[int]) -> int | None:
    """Return the length of the tuple that blocks return, or None for states alone."""
    from ..models.hooks import until_stopped

    found: list[int | None] = []

    def look(_module: nn.Module, _inputs: Any, output: Any) -> None:
        found.append(len(output) if isinstance(output, tuple) else None)

    handle = blocks[0].register_forward_hook(look)
    device = model.get_input_embeddings().weight.device  # pyright: ignore
    try:
        with torch.inference_mode(), block_hooks(blocks, {}, stop_after=0), until_stopped():
            model(input_ids=torch.tensor([list(ids)], device=device), use_cache=False)
    finally:
        handle.remove()
    return found[0]
