"""Slow, plain references: one prompt at a time, no cache, no shared opening, plain hooks."""

from __future__ import annotations

import torch

#: The "layer" whose edit changes what the first block is given.
EMBEDDING = -1


def _output(out):
    return out[0] if isinstance(out, tuple) else out


def token_states(model, text):
    """Return ``{layer: h_L [T, d]}`` of every token of one templated prompt."""
    found = {}
    handles = [
        block.register_forward_hook(
            lambda _m, _i, out, layer=layer: found.update({layer: _output(out)[0].float()})
        )
        for layer, block in enumerate(model.blocks)
    ]
    with torch.inference_mode():
        model.model(input_ids=torch.tensor([model.encode([text]).ids[0]]))
    for handle in handles:
        handle.remove()
    return found


def uncached_tokens(model, text, edit, n, *, forced=()):
    """Return greedy tokens, the whole text computed anew at every step.

    ``edit(layer, h [T, d], length)`` returns the new states of a block's output, or of its input at
    the first block (layer -1); ``length`` is the prompt's. ``forced`` tokens come first.
    """
    prompt = list(model.encode([text]).ids[0])
    made = []

    def apply(layer, hidden):
        return edit(layer, hidden[0].clone(), len(prompt))[None]

    def after(layer):
        def hook(_module, _inputs, out):
            new = apply(layer, _output(out))
            return (new, *out[1:]) if isinstance(out, tuple) else new

        return hook

    def before(_module, args, kwargs):
        if args:
            return (apply(EMBEDDING, args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": apply(EMBEDDING, kwargs["hidden_states"])}

    handles = [block.register_forward_hook(after(i)) for i, block in enumerate(model.blocks)]
    handles.append(model.blocks[0].register_forward_pre_hook(before, with_kwargs=True))
    try:
        while len(made) < n:
            with torch.inference_mode():
                logits = model.model(input_ids=torch.tensor([prompt + made])).logits[0, -1]
            token = forced[len(made)] if len(made) < len(forced) else int(logits.argmax())
            if token in model.stop_ids:
                break
            made.append(token)
    finally:
        for handle in handles:
            handle.remove()
    return made
