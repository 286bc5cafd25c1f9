"""Adding a direction to the residual stream and projecting one out, row by row."""

from __future__ import annotations

import torch


def project_out(hidden: torch.Tensor, direction: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Return ``h - where (h . v) v`` for unit ``v``; ``[B, T, d], [d], [B, T] -> [B, T, d]``.

    ``where`` is 1 at the positions to change and 0 elsewhere. Computed in float32 and cast back.
    """
    wide = hidden.float()
    amount = (wide @ direction) * where.float()
    return (wide - amount[..., None] * direction).to(hidden.dtype)


def steer(
    hidden: torch.Tensor,
    direction: torch.Tensor,
    strength: torch.Tensor,
    where: torch.Tensor,
) -> torch.Tensor:
    """Return ``h + strength v - where (h . v) v``: both changes in one pass over ``hidden``.

    ``[B, T, d], [d], [B, T], [B, T] -> [B, T, d]``; rows in which both are 0 come back unchanged,
    bit for bit.
    """
    wide = hidden.float()
    amount = strength.float() - (wide @ direction) * where.float()
    return (wide + amount[..., None] * direction).to(hidden.dtype)
