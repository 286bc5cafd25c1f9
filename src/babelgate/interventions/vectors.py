"""Vectors where the block lives: one copy per device, made when first needed."""

from __future__ import annotations

import hashlib
from typing import Any

import torch


class Placed:
    """A vector or matrix with a copy on every device that asked for it.

    Blocks of one model may live on several devices; copying at every step would make each wait.
    """

    def __init__(self, value: torch.Tensor) -> None:
        self._copies = {value.device: value}

    def on(self, device: torch.device) -> torch.Tensor:
        """Return the copy on a device."""
        found = self._copies.get(device)
        if found is None:
            found = self._copies[device] = next(iter(self._copies.values())).to(device)
        return found


def vector_key(what: str, vector: torch.Tensor, *rest: Any) -> str:
    """Return a fingerprint of an edit: its kind, the vector's bytes and its numbers."""
    digest = hashlib.sha256(vector.detach().cpu().contiguous().numpy().tobytes())
    return f"{what} {digest.hexdigest()[:16]} {rest!r}"
