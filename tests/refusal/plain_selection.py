"""The selection of arXiv 2406.11717 the obvious way: every score of every candidate by itself.

Six sweeps over fixed-order batches of whole prompts with all logits: harmful and harmless prompts
untouched, harmless ones once more for the divergence, and three for every candidate.
"""

from __future__ import annotations

from contextlib import contextmanager

import torch

# What reaches the residual stream from attention and from the MLP, by architecture.
WRITES = {
    "gemma2": ("post_attention_layernorm", "post_feedforward_layernorm"),
    "gpt2": ("attn", "mlp"),
}


def states_of(value):
    return value[0] if isinstance(value, tuple) else value


def with_states(value, states):
    return (states, *value[1:]) if isinstance(value, tuple) else states


@contextmanager
def hooked(inputs, outputs):
    """Change modules' first inputs and outputs: lists of (module, function)."""
    handles = []

    def before(change):
        def hook(_module, args, kwargs):
            if args:
                return (change(args[0]), *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": change(kwargs["hidden_states"])}

        return hook

    def after(change):
        return lambda _module, _args, out: with_states(out, change(states_of(out)))

    try:
        for module, change in inputs:
            handles.append(module.register_forward_pre_hook(before(change), with_kwargs=True))
        for module, change in outputs:
            handles.append(module.register_forward_hook(after(change)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def last_logits(model, texts, batch=4):
    """Return ``[N, V]`` of the last token, from the logits of all tokens."""
    tokens = model.encode(texts)
    found = []
    for at in range(0, len(texts), batch):
        rows = list(range(at, min(at + batch, len(texts))))
        ids, mask = tokens.padded(rows)
        with torch.inference_mode():
            out = model.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
                use_cache=False,
            )
        found.append(out.logits[:, -1])
    return torch.cat(found)


def mean_log_odds(logits, ids):
    chance = logits.double().softmax(-1)
    inside = torch.zeros(chance.shape[-1], dtype=torch.bool)
    inside[list(ids)] = True
    return float((chance[:, inside].sum(-1).log() - chance[:, ~inside].sum(-1).log()).mean())


def mean_divergence(base, logits):
    a, b = base.double().log_softmax(-1), logits.double().log_softmax(-1)
    return float((a.exp() * (a - b)).sum(-1).mean())


def ablation(model, vector):
    """Return the context in which a direction is projected out as published."""
    r = vector / vector.norm()

    def change(h):
        return h - (h @ r)[..., None] * r

    kind = model.model.config.model_type
    names = WRITES.get(kind, ("self_attn", "mlp"))
    outputs = [(getattr(b, name), change) for b in model.blocks for name in names]
    return hooked([(b, change) for b in model.blocks], outputs)


def addition(model, vector, layer):
    return hooked([(model.blocks[layer], lambda h: h + vector)], [])


def plain_maps(model, vectors, harmful, harmless, ids, *, places, batch=4):
    """Return ``{(i, layer): (induce, kl, bypass)}`` and the two untouched means."""
    base = (
        mean_log_odds(last_logits(model, harmful, batch), ids),
        mean_log_odds(last_logits(model, harmless, batch), ids),
    )
    before = last_logits(model, harmless, batch)
    kl, bypass, induce = {}, {}, {}
    for place in places:
        with ablation(model, vectors[place]):
            kl[place] = mean_divergence(before, last_logits(model, harmless, batch))
    for place in places:
        with ablation(model, vectors[place]):
            bypass[place] = mean_log_odds(last_logits(model, harmful, batch), ids)
    for place in places:
        with addition(model, vectors[place], place[1]):
            induce[place] = mean_log_odds(last_logits(model, harmless, batch), ids)
    return {p: (induce[p], kl[p], bypass[p]) for p in places}, base


def plain_choice(maps, n_layers, *, max_kl=0.1, min_induce=0.0, share=0.8):
    """Return the place of the lowest bypass score among those that pass, or None."""
    passed = [
        (bypass, place)
        for place, (induce, kl, bypass) in maps.items()
        if place[1] < share * n_layers and kl < max_kl and induce > min_induce
    ]
    return min(passed)[1] if passed else None
