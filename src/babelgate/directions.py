"""Directions and subspaces of the residual stream. Pure: tensors in, values out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .errors import UserError
from .types import Position


@dataclass(frozen=True)
class Direction:
    """A unit vector ``[d]`` (float32) of the residual stream after one block, with its origin."""

    vector: torch.Tensor
    layer: int
    position: Position
    method: str
    source: str

    def __post_init__(self) -> None:
        if self.vector.ndim != 1 or self.vector.dtype != torch.float32:
            raise ValueError(f"a direction is a float32 vector, not {tuple(self.vector.shape)}")
        if not abs(float(self.vector.norm()) - 1) < 1e-3:
            raise ValueError(f"a direction has norm 1, not {float(self.vector.norm()):.4g}")


@dataclass(frozen=True)
class Subspace:
    """An orthonormal basis ``[d, r]`` (float32) of the residual stream after one block."""

    basis: torch.Tensor
    layer: int


def mean_difference(harmful: torch.Tensor, harmless: torch.Tensor) -> torch.Tensor:
    """Return ``unit(mean(harmful) - mean(harmless))``, ``[N, d], [M, d] -> [d]``.

    Means are taken in float64. Source: arXiv 2406.11717, section 2.3.

    Raises:
        UserError: if a class is empty or the means coincide.
    """
    if not len(harmful) or not len(harmless):
        raise UserError(
            f"a direction needs both classes; there are {len(harmful)} harmful and "
            f"{len(harmless)} harmless examples"
        )
    difference = harmful.double().mean(0) - harmless.double().mean(0)
    norm = difference.norm()
    if not torch.isfinite(norm) or norm == 0:
        raise UserError("harmful and harmless activations have the same mean: no direction")
    return (difference / norm).float()


def source_subspace(directions: torch.Tensor, rank: int) -> torch.Tensor:
    """Return the top right singular vectors of stacked directions, ``[n, d] -> [d, r]``.

    ``r = min(rank, n, d)``. Each column's sign is fixed so that its largest entry is positive,
    which makes files reproducible across linear-algebra libraries. Source: arXiv 2606.01196.
    """
    if rank < 1:
        raise UserError(f"rank {rank}: expected at least 1")
    # numpy's SVD: torch's takes a hundred times as long for these few long rows.
    _, _, vt = np.linalg.svd(directions.double().numpy(), full_matrices=False)
    basis = torch.from_numpy(vt[: min(rank, len(vt))].T.copy())
    largest = basis.abs().argmax(0)
    signs = basis[largest, torch.arange(basis.shape[1])].sign()
    return (basis * signs).float()


def steering_strength(
    harmful: torch.Tensor, harmless: torch.Tensor, direction: torch.Tensor, factor: float = 1.0
) -> float:
    """Return ``factor * (q75 of harmful projections - q25 of harmless projections)``.

    ``harmful [N, d]``, ``harmless [M, d]``, ``direction [d]``; in units of the residual stream.
    Source: arXiv 2606.01196, section 3.3.
    """
    high = torch.quantile((harmful @ direction).float(), 0.75)
    low = torch.quantile((harmless @ direction).float(), 0.25)
    return float(factor * (high - low))
