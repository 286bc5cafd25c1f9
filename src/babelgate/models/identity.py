"""A model's identity: what must agree before stored activations or a gate may be used again."""

from __future__ import annotations

import hashlib
from contextlib import suppress

import torch
from torch import nn

# Enough values of every tensor that any training step or merge changes some of them.
_SAMPLES = 64


def weights_fingerprint(model: nn.Module) -> str:
    """Return 16 hex digits that change when the weights change.

    Hashes name, shape and up to 64 evenly spaced values of every parameter, in float32, so it costs
    milliseconds at any size. Parameters that accelerate has offloaded are read from where they lie,
    so that the fingerprint does not depend on the machine's memory. Tied parameters are read once.
    """
    digest = hashlib.sha256()
    for name, value in model.named_parameters():
        digest.update(f"{name}{tuple(value.shape)}".encode())
        if value.device.type == "meta":
            value = _offloaded(model, name, value)
        if value.device.type != "meta" and value.numel():
            flat = value.detach().reshape(-1)
            stride = max(1, flat.numel() // _SAMPLES)
            sample = flat[::stride][:_SAMPLES].to("cpu", torch.float32)
            digest.update(sample.numpy().tobytes())
    return digest.hexdigest()[:16]


def _offloaded(model: nn.Module, name: str, absent: torch.Tensor) -> torch.Tensor:
    """Return an offloaded parameter's values, or ``absent`` where its hook does not tell them."""
    owner, _, leaf = name.rpartition(".")
    hook = getattr(model.get_submodule(owner), "_hf_hook", None)
    for part in getattr(hook, "hooks", (hook,)):
        weights = getattr(part, "weights_map", None)
        if weights is not None:
            with suppress(KeyError):
                return weights[leaf].to(absent.dtype)
    return absent
