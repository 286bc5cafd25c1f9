"""Is it harm or is it length? Log prompt length partialled out of states and projections. Pure.

Slopes are fitted on train prompts of both classes together, so all that length can explain is taken
away, part of the classes' difference too where one class is longer: what remains is not length.
"""

from __future__ import annotations

import numpy as np


def residual_weights(weights: np.ndarray, fit: np.ndarray, length: np.ndarray) -> np.ndarray | None:
    """Return weights whose product with states is that of length-residualised states.

    For weights ``w [n]`` on train prompts and ``H = Z (Z^T Z)^-1 Z^T`` with ``Z = [1, length]`` of
    these prompts, ``w (I - H)``: regressing every dimension on length costs no pass over the
    states. None where a length is unknown or all are the same.
    """
    design = _design(length[fit])
    if design is None:
        return None
    orthonormal, _ = np.linalg.qr(design)
    found = np.zeros(len(weights))
    found[fit] = weights[fit] - (weights[fit] @ orthonormal) @ orthonormal.T
    return found


def residual_scores(scores: np.ndarray, fit: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Return scores ``[n]`` minus what length predicts, by least squares on the train prompts."""
    design = _design(length[fit])
    if design is None:
        raise ValueError("lengths are unknown or all the same")
    coefficients = np.linalg.lstsq(design, scores[fit], rcond=None)[0]
    return scores - np.stack([np.ones(len(length)), length], axis=1) @ coefficients


def _design(length: np.ndarray) -> np.ndarray | None:
    if not np.isfinite(length).all() or len(np.unique(length)) < 2:
        return None
    return np.stack([np.ones(len(length)), length], axis=1)
