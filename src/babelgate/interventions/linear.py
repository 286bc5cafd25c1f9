"""Adding a direction to the residual stream and projecting one out, row by row."""

from __future__ import annotations

import torch


def project_out(hidden: torch.Tensor, direction: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Return ``h - where (h . v) v`` for unit ``v``; ``[B, T, d], [d], [B, T] -> [B, T, d]``.

    ``where`` is the share to remove (1: all of it); positions with 0 come back unchanged. Computed
    in float32 and cast back.
    """
    wide = hidden.float()
    amount = (wide @ direction) * where.float()
    return (wide - amount[..., None] * direction).to(hidden.dtype)


def add(hidden: torch.Tensor, direction: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """Return ``h + strength v``; ``[B, T, d], [d], [B, T] -> [B, T, d]``.

    Positions with strength 0 come back unchanged. Computed in float32 and cast back.
    """
    return (hidden.float() + strength.float()[..., None] * direction).to(hidden.dtype)
