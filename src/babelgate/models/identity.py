"""A model's identity: what must agree before stored activations or a gate may be used again."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

# Enough values of every tensor that any training step or merge changes some of them.
_SAMPLES = 64


def weights_fingerprint(model: nn.Module) -> str:
    """Return 16 hex digits that change when the weights change.

    Hashes name, shape and up to 64 evenly spaced values of every parameter, in float32, so it costs
    milliseconds at any size. Parameters that are not in memory (offloaded to disk by accelerate)
    count with name and shape alone. Tied parameters are read once.
    """
    digest = hashlib.sha256()
    for name, value in model.named_parameters():
        digest.update(f"{name}{tuple(value.shape)}".encode())
        if value.device.type != "meta" and value.numel():
            flat = value.detach().reshape(-1)
            stride = max(1, flat.numel() // _SAMPLES)
            sample = flat[::stride][:_SAMPLES].to("cpu", torch.float32)
            digest.update(sample.numpy().tobytes())
    return digest.hexdigest()[:16]
