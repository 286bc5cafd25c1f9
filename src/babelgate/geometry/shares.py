"""How much of a language's direction lies in the subspace of the source languages. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..directions import source_subspace
from .cosines import unit


def subspace_shares(
    directions: np.ndarray, sources: Sequence[int], ranks: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``||B_r^T u_l||^2`` ``[L, ranks]`` for r = 1, 2, ..., and the number of sources.

    ``directions [L, d]`` need not be unit; ``B_r`` is the subspace of the sources' unit directions
    (arXiv 2606.01196), which for a source language leaves it out. NaN without a direction, and for
    ranks that the sources left cannot span. A random direction has the share ``r / d``.
    """
    rows = unit(directions)
    known = np.isfinite(rows.sum(1))
    usable = [s for s in sources if known[s]]
    shares = np.full((len(rows), ranks), np.nan)
    counts = np.array([len([s for s in usable if s != i]) for i in range(len(rows))])
    others = [i for i in np.flatnonzero(known) if i not in usable]
    one_out = [([s], [x for x in usable if x != s]) for s in usable]
    for members, left in [(others, usable), *one_out]:
        if not members or not left:
            continue
        basis = source_subspace(torch.from_numpy(rows[left]), ranks).double().numpy()
        share = np.cumsum((rows[members] @ basis) ** 2, axis=1)
        shares[np.ix_(members, range(share.shape[1]))] = np.minimum(share, 1.0)
    return shares, counts
