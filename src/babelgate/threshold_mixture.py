"""Where a language's scores lie, from labelled shots, unlabelled scores, or both. Pure.

Model: a language's scores are those of the source languages moved by an offset ``o`` and stretched
by a factor ``c`` about the sources' midpoint ``m``. With ``mu, sd`` of the sources' left-out
scores per class and ``p`` the share of harmful prompts in the pool:

    harmful   x ~ N(m + o + c (mu_harmful - m),  (c sd_harmful)^2)
    harmless  x ~ N(m + o + c (mu_harmless - m), (c sd_harmless)^2)
    unlabelled x: harmful with probability p, else harmless; likelihood to the power 1/4
    o ~ N(0, between),  log c ~ N(0, spread^2),  p ~ Beta(2, 2)

The posterior is summed over a grid: few dimensions, no starting point, no local maximum. Nothing
assumes a balanced pool: ``p`` is estimated with the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Factors that are tried; a low-resource language's scores are often half as far apart.
SCALES = np.exp(np.linspace(np.log(0.4), np.log(1.6), 9))
#: Shares of harmful prompts in the pool that are tried.
SHARES = np.array([0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98])
#: ``Beta(2, 2)``: no share is excluded, all or nothing is unlikely.
SHARE_PRIOR = 2.0
#: The least spread of ``log c``: ten high-resource languages say little about a low-resource one.
LEAST_SPREAD = 0.3

#: An unlabelled score counts a quarter: it informs only through the assumed shapes, and with its
#: whole weight left-out source languages lost more to their own pools (docs/thresholds.md).
POOL_WEIGHT = 0.25

_REACH = 4.0  # the grid of offsets ends at so many standard deviations of their prior
_FEWEST, _MOST = 33, 1025


@dataclass(frozen=True)
class Shape:
    """Means and standard deviations of the sources' left-out scores within a language.

    ``spread`` is the standard deviation over source languages of the logarithm of the distance
    between their class means.
    """

    mean_harmful: float
    mean_harmless: float
    sd_harmful: float
    sd_harmless: float
    spread: float

    @staticmethod
    def of(means: np.ndarray, variances: np.ndarray) -> Shape | None:
        """Return the shape from moments per language ``[L, 2]``, harmful first.

        None where classes have no spread or the wrong order: then nothing can be tied to it.
        """
        typical, apart = variances.mean(0), means[:, 0] - means[:, 1]
        if not (typical > 0).all() or apart.mean() <= 0:
            return None
        logs = np.log(apart[apart > 0])
        return Shape(
            *means.mean(0).tolist(),
            *np.sqrt(typical).tolist(),
            spread=float(logs.std(ddof=1)) if len(logs) > 1 else 0.0,
        )

    @property
    def midpoint(self) -> float:
        """The middle between the class means, which a language is stretched about."""
        return (self.mean_harmful + self.mean_harmless) / 2


@dataclass(frozen=True)
class Grid:
    """Offsets ``[O]`` and factors ``[C]`` with the logarithm of their prior ``[O, C]``."""

    shape: Shape
    offsets: np.ndarray
    scales: np.ndarray
    prior: np.ndarray

    @staticmethod
    def of(shape: Shape, between: float) -> Grid:
        """Lay the grid, fine enough for what a hundred scores can tell apart."""
        sd = float(np.sqrt(between))
        finest = min(shape.sd_harmful, shape.sd_harmless) / 12
        n = int(np.clip(np.ceil(2 * _REACH * sd / finest), _FEWEST, _MOST)) if sd > 0 else 1
        unit = np.linspace(-_REACH, _REACH, n) if n > 1 else np.zeros(1)
        spread = max(shape.spread, LEAST_SPREAD)
        prior = -0.5 * unit[:, None] ** 2 - 0.5 * (np.log(SCALES) / spread) ** 2
        return Grid(shape, unit * sd, SCALES, prior)

    def centres(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the class means ``[O, C]`` at every point, (harmful, harmless)."""
        s, moved = self.shape, self.shape.midpoint + self.offsets[:, None]
        return (
            moved + self.scales * (s.mean_harmful - s.midpoint),
            moved + self.scales * (s.mean_harmless - s.midpoint),
        )

    def unlabelled(self, pool: np.ndarray) -> np.ndarray:
        """Return the log-likelihood ``[O, C]`` of unlabelled scores, summed over shares ``p``."""
        if not len(pool):
            return np.zeros_like(self.prior)
        (high, low), s = self.centres(), self.shape
        a = _log_normal(pool, high[..., None], (self.scales * s.sd_harmful)[:, None])
        b = _log_normal(pool, low[..., None], (self.scales * s.sd_harmless)[:, None])
        # The larger density is taken out, so that no exponential overflows.
        top = np.maximum(a, b)
        a, b = np.exp(a - top), np.exp(b - top)
        weight = (SHARE_PRIOR - 1) * np.log(SHARES * (1 - SHARES))
        rows = np.stack([np.log(p * a + (1 - p) * b).sum(-1) for p in SHARES]) + top.sum(-1)
        return np.logaddexp.reduce(POOL_WEIGHT * rows + weight[:, None, None], axis=0)

    def labelled(self, harmful: np.ndarray, harmless: np.ndarray) -> np.ndarray:
        """Return the log-likelihood ``[..., O, C]`` of shots ``[..., k]`` whose class is known."""
        (high, low), s = self.centres(), self.shape
        return _shots(harmful, high, self.scales * s.sd_harmful) + _shots(
            harmless, low, self.scales * s.sd_harmless
        )

    def means(self, likelihood: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the posterior means of offset and factor ``[...]`` for ``[..., O, C]``.

        The factor's is relative to its prior mean, so that without data they are 0 and 1.
        """
        flat = (likelihood + self.prior).reshape(*likelihood.shape[:-2], -1)
        weight = np.exp(flat - flat.max(-1, keepdims=True))
        ones = np.ones_like(self.prior)
        points = np.stack([ones, self.offsets[:, None] * ones, self.scales * ones], -1)
        total, offset, scale = np.moveaxis(weight @ points.reshape(-1, 3), -1, 0)
        before = np.exp(self.prior).sum(0)
        return offset / total, scale / total / float(before @ self.scales / before.sum())


def moved(threshold: float, midpoint: float, offset: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return ``m + o + c (t_source - m)``: the source threshold moved and stretched likewise."""
    return threshold + offset + (scale - 1.0) * (threshold - midpoint)


def _log_normal(x: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    return -0.5 * ((x - mean) / sd) ** 2 - np.log(sd)


def _shots(x: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """Log-likelihood from the shots' first two moments: one matrix product for all draws."""
    if not x.shape[-1]:
        return np.zeros((*x.shape[:-1], *mean.shape))
    sd = np.broadcast_to(sd, mean.shape)
    moments = np.stack([np.full(x.shape[:-1], x.shape[-1]), x.sum(-1), (x * x).sum(-1)], -1)
    table = np.stack([-0.5 * (mean / sd) ** 2 - np.log(sd), mean / sd**2, -0.5 / sd**2])
    return (moments @ table.reshape(3, -1)).reshape(*x.shape[:-1], *mean.shape)
