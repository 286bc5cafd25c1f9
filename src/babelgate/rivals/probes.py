"""Linear readouts of one block's full state: what a low-rank gate has to beat, and controls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize

from ..errors import UserError
from ..probe import balanced_weights
from ..thresholds import source_rule
from .components import first_right_singular_vector

#: (states [n, d], harmful [n] bool) on which a threshold is set.
Labelled = tuple[ArrayLike, ArrayLike]


@dataclass(frozen=True)
class LinearReadout:
    """``score = h . weight + bias``, which fires at ``score >= threshold``; ``weight [d]`` float64.

    Raises:
        UserError: if a value is not finite.
    """

    name: str
    weight: np.ndarray
    bias: float
    threshold: float

    def __post_init__(self) -> None:
        if self.weight.ndim != 1 or not np.isfinite([*self.weight, self.bias]).all():
            raise UserError(f"the weights of readout {self.name!r} are not a finite vector")

    def score(self, states: ArrayLike) -> np.ndarray:
        """Return scores, ``[N, d] -> [N]``."""
        return _wide(states) @ self.weight + self.bias


def full_space_logistic(
    states: ArrayLike,
    harmful: ArrayLike,
    *,
    l2: float = 1e-2,
    cells: list[tuple[str, ...]] | None = None,
    calibration: Labelled | None = None,
) -> LinearReadout:
    """Return logistic regression on the standardised full state.

    Minimises ``sum_i w_i log(1 + exp(-y_i s_i)) / sum_i w_i + l2/2 |weight|^2`` as
    :func:`babelgate.probe.fit_probe` does, by L-BFGS: Newton's d x d systems would cost more than
    the whole rest. ``cells`` name what must not dominate by its size, such as languages; classes
    have equal weight in any case. The threshold is the best one on ``calibration`` (see
    :func:`babelgate.thresholds.source_rule`), or on the training scores without it, which is
    optimistic.

    Raises:
        UserError: if a class has no example, a state is not finite or shapes differ.
    """
    x, y = _labelled(states, harmful)
    w = balanced_weights([()] * len(y) if cells is None else cells, y)
    w = w / w.sum()
    mean = w @ x
    scale = np.maximum(np.sqrt(w @ (x - mean) ** 2), 1e-12)
    z = (x - mean) / scale

    def loss(beta: np.ndarray) -> tuple[float, np.ndarray]:
        margin = z @ beta[:-1] + beta[-1]
        value = w @ (np.logaddexp(0.0, margin) - y * margin)
        slope = w * (1 / (1 + np.exp(-np.clip(margin, -500, 500))) - y)
        gradient = np.append(z.T @ slope + l2 * beta[:-1], slope.sum())
        return float(value + l2 / 2 * beta[:-1] @ beta[:-1]), gradient

    options = {"maxiter": 2000, "maxfun": 4000, "gtol": 1e-7, "ftol": 1e-14}
    found = minimize(loss, np.zeros(z.shape[1] + 1), jac=True, method="L-BFGS-B", options=options)
    weight = found.x[:-1] / scale
    bias = float(found.x[-1] - mean @ weight)
    return _with_threshold("full-space-logistic", weight, bias, calibration or (x, y))


def mean_difference(
    states: ArrayLike, harmful: ArrayLike, *, calibration: Labelled | None = None
) -> LinearReadout:
    """Return the projection on the unit difference of class means, 0 in the middle between them.

    Raises:
        UserError: if a class has no example, a state is not finite or shapes differ.
    """
    x, y = _labelled(states, harmful)
    positive, negative = x[y].mean(0), x[~y].mean(0)
    weight = _unit(positive - negative)
    bias = -float(weight @ (positive + negative) / 2)
    return _with_threshold("mean-difference", weight, bias, calibration or (x, y))


def unsupervised_pca(states: ArrayLike, labelled: ArrayLike, harmful: ArrayLike) -> LinearReadout:
    """Return the first principal component of unlabelled states.

    ``labelled [k, d]`` with ``harmful [k]`` are the few labels that a gate would get: they fix the
    sign (harmful scores higher on average) and the threshold, nothing else.

    Raises:
        UserError: if a class has no label, a state is not finite or shapes differ.
    """
    x = _wide(states)
    if x.ndim != 2 or len(x) < 2 or not np.isfinite(x).all():
        raise UserError(f"a principal component needs two finite states [n, d]; got {x.shape}")
    few, y = _labelled(labelled, harmful)
    mean = x.mean(0)
    weight = first_right_singular_vector(x - mean)
    if few[y].mean(0) @ weight < few[~y].mean(0) @ weight:
        weight = -weight
    return _with_threshold("unsupervised-pca", weight, -float(weight @ mean), (few, y))


def random_direction(states: ArrayLike, harmful: ArrayLike, *, seed: int) -> LinearReadout:
    """Return the projection on a random unit direction: a control.

    Its sign is random too, so that its AUROC is one half on average; only the threshold is fitted.

    Raises:
        UserError: if a class has no example, a state is not finite or shapes differ.
    """
    x, y = _labelled(states, harmful)
    weight = _unit(np.random.default_rng(seed).standard_normal(x.shape[1]))
    return _with_threshold("random-direction", weight, -float(weight @ x.mean(0)), (x, y))


def shuffled_labels(
    states: ArrayLike, harmful: ArrayLike, *, seed: int, l2: float = 1e-2
) -> LinearReadout:
    """Return :func:`full_space_logistic` trained on permuted labels: a control.

    Raises:
        UserError: if a class has no example, a state is not finite or shapes differ.
    """
    x, y = _labelled(states, harmful)
    made = full_space_logistic(x, np.random.default_rng(seed).permutation(y), l2=l2)
    return LinearReadout("shuffled-labels", made.weight, made.bias, made.threshold)


def _with_threshold(
    name: str, weight: np.ndarray, bias: float, calibration: Labelled
) -> LinearReadout:
    x, y = _labelled(*calibration)
    scores = x @ weight + bias
    return LinearReadout(name, weight, bias, source_rule(scores[y], scores[~y]))


def _labelled(states: ArrayLike, harmful: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    x, y = _wide(states), np.asarray(harmful, dtype=bool)
    if x.ndim != 2 or y.shape != (len(x),):
        raise UserError(f"a readout needs states [n, d] with n labels; got {x.shape} and {y.shape}")
    if not y.any() or y.all():
        raise UserError("a readout needs examples of both classes, harmful and harmless")
    if not np.isfinite(x).all():
        raise UserError("a readout's states hold values that are NaN or infinite")
    return x, y


def _wide(states: ArrayLike) -> np.ndarray:
    return np.asarray(states, dtype=np.float64)


def _unit(vector: np.ndarray) -> np.ndarray:
    length = float(np.linalg.norm(vector))
    if length == 0:
        raise UserError("both classes have the same mean state; there is no direction between them")
    return vector / length
