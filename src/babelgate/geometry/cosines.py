"""Cosines between directions, and how far sampling noise lowers them. Pure."""

from __future__ import annotations

import numpy as np


def unit(vectors: np.ndarray) -> np.ndarray:
    """Return vectors ``[..., d]`` of norm 1 in float64; NaN for a zero vector."""
    wide = np.asarray(vectors, dtype=np.float64)
    norm = np.linalg.norm(wide, axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(norm > 0, wide / norm, np.nan)


def cosines(directions: np.ndarray) -> np.ndarray:
    """Return the cosines between directions, ``[L, d] -> [L, L]``; NaN for a zero or NaN one."""
    rows = unit(directions)
    return np.clip(rows @ rows.T, -1.0, 1.0)


def cosine(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the cosines of vectors row by row, ``[..., d] x 2 -> [...]``."""
    return np.clip((unit(first) * unit(second)).sum(-1), -1.0, 1.0)


def reliability(first: np.ndarray, second: np.ndarray) -> float:
    """Return the reliability of a direction from those of random halves, ``[S, d] x 2``.

    ``r = 2 c / (1 + c)`` (Spearman-Brown) with ``c`` the mean cosine of both halves. With
    independent noise in each prompt, ``r`` is the cosine expected between the direction and one
    from as many fresh prompts, and the expected cosine of two noisy directions is
    ``cos(u_i, u_j) sqrt(r_i r_j)``. It is about 0 for a direction that is all noise.
    """
    c = float(np.mean(cosine(first, second)))
    return 2 * c / (1 + c) if c > -1 else float("nan")
