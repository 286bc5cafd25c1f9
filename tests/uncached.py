"""Slow, plain references: one prompt at a time, no cache, no shared opening, plain hooks."""

from __future__ import annotations

import torch


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


def uncached_tokens(model, text, edit, n):
    """Return greedy tokens, the whole text computed anew at every step.

    ``edit(layer, h [T, d], length)`` returns the block's new states; ``length`` is the prompt's.
    """
    prompt = list(model.encode([text]).ids[0])
    made = []

    def after(layer):
        def hook(_module, _inputs, out):
            new = edit(layer, _output(out)[0].clone(), len(prompt))[None]
            return (new, *out[1:]) if isinstance(out, tuple) else new

        return hook

    handles = [block.register_forward_hook(after(i)) for i, block in enumerate(model.blocks)]
    try:
        while len(made) < n:
            with torch.inference_mode():
                logits = model.model(input_ids=torch.tensor([prompt + made])).logits[0, -1]
            token = int(logits.argmax())
            if token in model.stop_ids:
                break
            made.append(token)
    finally:
        for handle in handles:
            handle.remove()
    return made
