"""Random gates for tiny models, so that some prompts fire and some do not."""

from __future__ import annotations

import torch

from babelgate.gate import Gate
from uncached import token_states


def random_gate(model, texts, *, layers=(1, 2), alpha=3.0, seed=0, thresholds=None):
    """Return a random gate whose default threshold lies in the middle of the texts' scores."""
    rng = torch.Generator().manual_seed(seed)
    d = model.identity.d_model
    bases = {
        layer: torch.linalg.qr(torch.randn(d, 3, generator=rng))[0].contiguous() for layer in layers
    }
    rank = 3 * len(layers)
    direction = torch.randn(d, generator=rng)
    fields = {
        "layers": tuple(layers),
        "position": "t_post",
        "bases": bases,
        "mean": torch.randn(rank, generator=rng) * 0.1,
        "scale": torch.rand(rank, generator=rng) + 0.5,
        "weight": torch.randn(rank, generator=rng),
        "bias": 0.1,
        "thresholds": thresholds or {},
        "default_threshold": 0.0,
        "direction": direction / direction.norm(),
        "alpha": alpha,
        "model": model.identity,
    }
    gate = Gate(**fields)
    scores = sorted(reference_score(model, gate, text) for text in texts)
    middle = len(scores) // 2
    return Gate(**{**fields, "default_threshold": (scores[middle - 1] + scores[middle]) / 2})


def last_states(model, text):
    """Return ``{layer: h_L at the last prompt token [d]}`` from one unpadded forward pass."""
    return {layer: h[-1] for layer, h in token_states(model, text).items()}


def reference_score(model, gate, text):
    """Score one prompt the slow way: project, standardise, weigh."""
    states = last_states(model, text)
    z = torch.cat([gate.bases[layer].T @ states[layer].float() for layer in gate.layers])
    return float(((z - gate.mean) / gate.scale) @ gate.weight + gate.bias)


def two_pass_tokens(model, gate, text, *, fired, max_new_tokens):
    """Generate one prompt with transformers' own loop under hooks that act as the paper says."""
    v, layer = gate.direction, gate.layers[-1]
    length = len(model.encode([text]).ids[0])
    calls = {"n": 0}

    def act(_module, _inputs, out):
        h = (out[0] if isinstance(out, tuple) else out).clone()
        prefill = calls["n"] == 0
        calls["n"] += 1
        assert h.shape[1] == (length if prefill else 1)
        for t in range(h.shape[1]):
            if fired and (not prefill or t == h.shape[1] - 1):
                h[0, t] = h[0, t] + gate.alpha * v
            if not fired:
                h[0, t] = h[0, t] - (h[0, t] @ v) * v
        return (h, *out[1:]) if isinstance(out, tuple) else h

    ids = torch.tensor([model.encode([text]).ids[0]])
    handle = model.blocks[layer].register_forward_hook(act)
    try:
        made = model.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=max_new_tokens,
        )[0, ids.shape[1] :].tolist()
    finally:
        handle.remove()
    assert calls["n"] > 0
    return made[: made.index(257)] if 257 in made else made
