"""Are class differences parallel between languages, on translations of the same prompts? Pure."""

from __future__ import annotations

import numpy as np

#: What is left of a vector whose squared length falls below this share is rounding.
_ROUNDING = 1e-10


def language_basis(middles: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis of the span of language means, ``[L, d] -> [r, d]``.

    Right singular vectors of the means minus their mean, largest first, each with its largest entry
    positive; ``r <= L - 1``. Rows that are NaN are left out.
    """
    known = middles[np.isfinite(middles).all(1)]
    if len(known) < 2:
        return np.zeros((0, middles.shape[1]))
    _, values, vt = np.linalg.svd(known - known.mean(0), full_matrices=False)
    vt = vt[values > 1e-9 * max(values[0], 1e-300)]
    signs = np.sign(vt[np.arange(len(vt)), np.abs(vt).argmax(1)])
    return vt * signs[:, None]


def paired_cosines(differences: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return cosines of paired differences, and the same outside a subspace, ``[L, L]`` each.

    ``differences [L, L, d]`` holds at ``[i, j]`` the class difference of language i on the prompts
    it shares with j; the cosine of a pair is that of ``[i, j]`` and ``[j, i]``. The second takes
    ``D - (D B^T) B`` for ``basis [r, d]``: subtracting a language's mean would change nothing, as
    it cancels in a difference of class means. NaN where nothing is left.
    """
    inside = differences @ basis.T
    dot = np.einsum("ijd,jid->ij", differences, differences)
    square = np.einsum("ijd,ijd->ij", differences, differences)
    rest = dot - np.einsum("ijr,jir->ij", inside, inside)
    rest_square = square - np.einsum("ijr,ijr->ij", inside, inside)
    rest_square[rest_square <= _ROUNDING * square] = np.nan
    square[square == 0] = np.nan
    return _cosine(dot, square), _cosine(rest, rest_square)


def _cosine(dot: np.ndarray, square: np.ndarray) -> np.ndarray:
    return np.clip(dot / np.sqrt(square * square.T), -1.0, 1.0)
