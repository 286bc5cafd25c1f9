"""The states of one layer, language by language, centred; what is summed over prompts. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..errors import UserError


def as_float32(block: Any, n: int, what: str) -> np.ndarray:
    """Return states as a float32 array ``[n, d]`` from an array or tensor of any float type.

    Raises:
        UserError: for another shape; ``what`` names the layer and position.
    """
    tensor = torch.as_tensor(block)
    if tensor.ndim != 2 or len(tensor) != n or not tensor.shape[1]:
        raise UserError(
            f"the states of {what} have shape {list(tensor.shape)}; expected [{n}, d], one row per "
            "prompt"
        )
    return tensor.detach().cpu().float().numpy()


def present(block: np.ndarray) -> np.ndarray:
    """Return which rows ``[N]`` of the states are finite."""
    # A row with a NaN or an infinity has no finite sum; finite float32 states do not overflow.
    return np.isfinite(block.sum(1))


@dataclass(frozen=True)
class LanguageStates:
    """One language's states as ``centred [n, d]`` float32 plus ``mean [d]`` float64.

    ``lengths [n]`` are the norms of centred states, ``norms [n]`` those of the states themselves.
    States of real models share a large component; without it float32 products keep their digits.
    """

    centred: np.ndarray
    mean: np.ndarray
    lengths: np.ndarray
    norms: np.ndarray

    @staticmethod
    def of(states: np.ndarray) -> LanguageStates:
        """Return states ``[n, d]`` minus their mean, which is taken in float64."""
        # Rounded once, so that the mean is exactly what is subtracted.
        mean = states.mean(0, dtype=np.float64).astype(np.float32)
        return LanguageStates.around(states - mean, mean.astype(np.float64))

    @staticmethod
    def around(centred: np.ndarray, mean: np.ndarray) -> LanguageStates:
        """Return the states ``centred + mean``, with ``|x|^2 = |c|^2 + 2 c . m + |m|^2``."""
        square = np.einsum("nd,nd->n", centred, centred).astype(np.float64)
        raw = square + 2 * (centred @ mean.astype(np.float32)) + mean @ mean
        return LanguageStates(centred, mean, np.sqrt(square), np.sqrt(np.maximum(raw, 0)))

    def picked(self, places: np.ndarray) -> LanguageStates:
        """Return the states at some places, centred on their own mean."""
        if np.array_equal(places, np.arange(len(self.centred))):
            return self
        rows = self.centred[places]
        shift = rows.mean(0, dtype=np.float64).astype(np.float32)
        return LanguageStates.around(rows - shift, self.mean + shift)

    def project(self, vectors: np.ndarray) -> np.ndarray:
        """Return the projections of the states on vectors, ``[k, d] -> [n, k]`` float64.

        The products of centred states are float32, those of the mean float64.
        """
        return self.centred @ vectors.T.astype(np.float32) + vectors @ self.mean


def centre(
    block: np.ndarray, rows: np.ndarray, weights: Sequence[np.ndarray]
) -> tuple[LanguageStates, list[np.ndarray]]:
    """Return one language's states and ``weights @ centred states``, each ``[k, n] -> [k, d]``.

    The products are float32, of centred states; they come back as float64. Weights should sum to
    zero, or the mean times their sum is to be added.
    """
    run = slice(int(rows[0]), int(rows[-1]) + 1)
    # Prompts of a language usually stand together, and a slice is not copied.
    contiguous = np.array_equal(rows, np.arange(run.start, run.stop))
    states = LanguageStates.of(block[run if contiguous else rows])
    stacked = np.concatenate(weights).astype(np.float32) @ states.centred
    ends = np.cumsum([len(w) for w in weights])[:-1]
    return states, np.split(stacked.astype(np.float64), ends)
