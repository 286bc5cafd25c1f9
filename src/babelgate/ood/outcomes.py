"""What came of prompts, one value per prompt, as cells of statistics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from ..errors import UserError
from ..stats import Cell
from ..types import Prompt

#: The row over all languages.
ALL = "all"
RESAMPLES = 2000


def cell_of(values: np.ndarray, pool: Sequence[Prompt], rows: Sequence[int]) -> Cell:
    """Return some prompts' values with the groups that they are resampled in."""
    return Cell(values[list(rows)], tuple(pool[i].group_id for i in rows))


def outcomes_of(values: ArrayLike, n: int) -> np.ndarray:
    """Return outcomes as float64 ``[N]``: 1, 0, or NaN where a prompt was not scored.

    Raises:
        UserError: if there are not ``n``, or for values other than 0, 1 and NaN.
    """
    array = numbers_of(values, n)
    if not np.isin(array[~np.isnan(array)], (0.0, 1.0)).all():
        raise UserError(
            "outcomes are 1 (fired or refused), 0 (not) or NaN (unscored), nothing else"
        )
    return array


def numbers_of(values: ArrayLike, n: int) -> np.ndarray:
    """Return values as float64 ``[N]``.

    Raises:
        UserError: if there are not ``n``.
    """
    array = np.asarray(values, dtype=np.float64).reshape(-1)
    if len(array) != n:
        raise UserError(f"{n} prompts came with {len(array)} values; give one per prompt")
    return array
