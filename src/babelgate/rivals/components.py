"""The first principal component of a matrix, exactly where that is cheap and by iteration else."""

from __future__ import annotations

import numpy as np
from scipy.sparse.linalg import aslinearoperator, eigsh

# From a size on at which a full decomposition costs more than some dozen products.
_ITERATE_FROM = 256


def first_right_singular_vector(matrix: np.ndarray) -> np.ndarray:
    """Return the unit vector ``v [d]`` with the largest ``|M v|`` of ``M [n, d]``; any sign.

    Large matrices by Lanczos iteration (ARPACK) from a fixed start, so that the same matrix gives
    the same vector. For states minus their mean this is the first principal component.
    """
    if min(matrix.shape) < _ITERATE_FROM:
        return np.linalg.svd(matrix, full_matrices=False)[2][0]
    rows = aslinearoperator(matrix)
    # The longest row is never orthogonal to everything, and often near what is sought.
    start = matrix[int(np.argmax((matrix * matrix).sum(1)))]
    return eigsh(rows.T @ rows, k=1, which="LA", v0=start, ncv=8)[1][:, 0]
