"""From scores to a threshold. Pure; the comparison itself is :func:`fires`, everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from . import threshold_mixture as mixture
from .errors import UserError

Rule = Literal["source", "paper", "midpoint", "shrunken", "unlabelled", "combined"]
RULES: tuple[Rule, ...] = ("source", "paper", "midpoint", "shrunken", "unlabelled", "combined")
#: Rules that use scores of prompts without labels.
POOL_RULES: tuple[Rule, ...] = ("unlabelled", "combined")


def fires(score: ArrayLike, threshold: ArrayLike) -> np.ndarray:
    """Return ``score >= threshold``: the one definition of the decision, in fitting and use."""
    return np.asarray(score) >= np.asarray(threshold)


def candidates(scores: ArrayLike) -> np.ndarray:
    """Return the midpoints between sorted distinct scores and one point beyond each end."""
    distinct = np.unique(np.asarray(scores, dtype=np.float64))
    if not len(distinct):
        raise UserError("a threshold needs at least one score")
    between = (distinct[1:] + distinct[:-1]) / 2
    return np.concatenate([[distinct[0] - 1.0], between, [distinct[-1] + 1.0]])


def paper_rule(harmful: ArrayLike, harmless: ArrayLike) -> float:
    """Return the first candidate that maximises class-balanced F1 (arXiv 2606.01196).

    Class-balanced F1 is the mean of the F1 of both classes. Few shots that are inverted by chance
    (harmful below harmless) give a threshold that fires always or never: that is the rule.
    """
    positive, negative = _scores(harmful), _scores(harmless)
    points = candidates(np.concatenate([positive, negative]))
    true_positive = fires(positive[:, None], points).sum(0)
    false_positive = fires(negative[:, None], points).sum(0)
    true_negative = len(negative) - false_positive
    false_negative = len(positive) - true_positive
    wrong = false_positive + false_negative
    f1 = (_f1(true_positive, wrong) + _f1(true_negative, wrong)) / 2
    # Rounding must not choose between candidates that are equally good.
    return float(points[int(np.argmax(f1 >= f1.max() - 1e-12))])


def source_rule(harmful: ArrayLike, harmless: ArrayLike) -> float:
    """Return the threshold of highest balanced accuracy; the median one where several tie."""
    positive, negative = _scores(harmful), _scores(harmless)
    points = candidates(np.concatenate([positive, negative]))
    value = fires(positive[:, None], points).mean(0) - fires(negative[:, None], points).mean(0)
    best = points[value >= value.max() - 1e-12]
    return float(best[len(best) // 2])


def least_threshold(harmless: ArrayLike, rate: float) -> float:
    """Return the lowest threshold that at most a share ``rate`` of the scores reaches.

    Just above the highest score that too many reach, since a gate fires at its threshold; the
    lowest score where all may fire. An estimate from these scores; for a bound that holds with a
    stated confidence see :func:`babelgate.threshold_bound.false_alarm_threshold`.

    Raises:
        UserError: without scores, or for a rate outside 0..1.
    """
    scores = _scores(harmless)
    if not len(scores) or not 0 <= rate <= 1:
        raise UserError(
            f"a threshold for a false-alarm rate needs scores and a rate in 0..1; got "
            f"{len(scores)} scores and {rate}"
        )
    allowed = int(rate * len(scores) + 1e-9)
    ordered = np.sort(scores)[::-1]
    if allowed == len(scores):
        return float(ordered[-1])
    return float(np.nextafter(ordered[allowed], np.inf))


@dataclass(frozen=True)
class SourceStatistics:
    """What the source languages teach about thresholds of a language not seen.

    All but ``paper_threshold`` from scores of languages that the probe did not train on (left out
    one at a time): ``threshold`` from val prompts, the rest from prompts of the kind that shots
    are drawn from, since splits may differ by more than languages do. ``midpoint`` is the mean over
    languages of the middle between the class means, ``between`` the variance of that middle across
    languages (sampling noise taken off), ``within`` the variance that one shot per class leaves in
    it. ``shape`` is what the rules for unlabelled scores tie a language to; None where the
    sources' scores give none.
    """

    threshold: float
    paper_threshold: float
    midpoint: float
    between: float
    within: float
    n_languages: int
    shape: mixture.Shape | None = None

    @staticmethod
    def from_scores(
        scores: Mapping[str, tuple[ArrayLike, ArrayLike]],
        *,
        train: tuple[ArrayLike, ArrayLike] | None = None,
        like_shots: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
    ) -> SourceStatistics:
        """Compute the statistics from ``{language: (harmful scores, harmless scores)}``.

        ``like_shots`` holds left-out scores of the sources' prompts of the kind that a target's
        shots are drawn from, its train prompts as a rule; what shots are compared with comes from
        these. ``train`` holds the probe's scores on its own training prompts, which is what the
        paper sets its threshold for k = 0 on. ``scores`` stand in for either.

        Raises:
            UserError: without any language that has both classes.
        """
        pairs = _both_classes(scores)
        if not pairs:
            raise UserError("thresholds need source scores of both classes; there are none")
        pooled = np.concatenate([h for h, _ in pairs]), np.concatenate([n for _, n in pairs])
        drawn = _both_classes(like_shots or {}) or pairs
        return SourceStatistics.from_moments(
            np.array([[side.mean() for side in pair] for pair in drawn]),
            np.array([[_variance(side) for side in pair] for pair in drawn]),
            np.array([[len(side) for side in pair] for pair in drawn]),
            threshold=source_rule(*pooled),
            paper_threshold=paper_rule(*(pooled if train is None else train)),
        )

    @staticmethod
    def from_moments(
        means: np.ndarray,
        variances: np.ndarray,
        counts: np.ndarray,
        *,
        threshold: float,
        paper_threshold: float,
    ) -> SourceStatistics:
        """Compute the statistics from moments ``[L, 2]`` of each language's scores, harmful first.

        The scores are of prompts of the kind that shots are drawn from.
        """
        middles = means.mean(1)
        noise = (variances / counts).sum(1).mean() / 4
        spread = float(middles.var(ddof=1)) if len(middles) > 1 else 0.0
        return SourceStatistics(
            threshold=threshold,
            paper_threshold=paper_threshold,
            midpoint=float(middles.mean()),
            between=max(0.0, spread - float(noise)),
            within=float(variances.sum(1).mean() / 4),
            n_languages=len(means),
            shape=mixture.Shape.of(means, variances),
        )

    def trust(self, k: int) -> float:
        """Return ``w = k between / (k between + within)``: how far k shots are believed."""
        total = k * self.between + self.within
        return k * self.between / total if total > 0 else 0.0

    def move(self, middles: ArrayLike, k: int) -> np.ndarray:
        """Return how far shots with these middles between their class means move a threshold.

        ``w(k) max(0, 1 - V / d^2) d`` with ``d = m_shots - m_source``, its variance
        ``V = between + within / k`` in a language like the sources, and ``w`` from :meth:`trust`.
        The second factor is the positive part of James and Stein's estimator (1961).
        """
        offset = np.asarray(middles, dtype=np.float64) - self.midpoint
        if not k:
            return np.zeros_like(offset)
        usual = self.between + self.within / k
        far = offset**2 > usual
        part = np.where(far, 1.0 - usual / np.where(far, offset**2, 1.0), 0.0)
        return self.trust(k) * part * offset


def shrunken_rule(harmful: ArrayLike, harmless: ArrayLike, source: SourceStatistics) -> float:
    """Return the source threshold moved where the shots lie unlike those of a source language.

    ``t = t_source + w(k) max(0, 1 - V / d^2) d`` as in :meth:`SourceStatistics.move`. Shots no
    farther from the sources' middle than a source language's own would be (``d^2 <= V``) say
    nothing that would repay their noise and move nothing; far ones move by nearly ``w d``, the
    posterior mean of a language's offset under a normal prior with the sources' variance. With
    k = 0 it is the source threshold.
    """
    positive, negative = _scores(harmful), _scores(harmless)
    k = min(len(positive), len(negative))
    if k == 0:
        return source.threshold
    return float(source.threshold + source.move((positive.mean() + negative.mean()) / 2, k))


def midpoint_rule(harmful: ArrayLike, harmless: ArrayLike, source: SourceStatistics) -> float:
    """Return the middle between the class means of the shots; without shots the source threshold.

    ``t = (mean(harmful) + mean(harmless)) / 2``: unbiased where both classes spread alike.
    """
    positive, negative = _scores(harmful), _scores(harmless)
    if not len(positive) or not len(negative):
        return source.threshold
    return float((positive.mean() + negative.mean()) / 2)


def combined_rule(
    harmful: ArrayLike, harmless: ArrayLike, pool: ArrayLike, source: SourceStatistics
) -> float:
    """Return the threshold from labelled shots and unlabelled scores in one likelihood.

    ``t = t_source + E[o] + (E[c] - 1)(t_source - m)``, the posterior means of a language's offset
    and stretch in the model of :mod:`babelgate.threshold_mixture`, which estimates the pool's
    share of harmful prompts too. Shots may be of one class only. ``pool`` should not hold the shots
    again. Without shots and pool it is the source threshold.

    Raises:
        UserError: if the source scores have no shape to tie the language to.
    """
    positive, negative, unlabelled = _scores(harmful), _scores(harmless), _scores(pool)
    if not len(positive) + len(negative) + len(unlabelled):
        return source.threshold
    if source.shape is None:
        raise UserError(
            "the rules for unlabelled scores need source languages whose harmful scores lie above "
            "their harmless ones and vary; use the rule 'shrunken' instead"
        )
    grid = mixture.Grid.of(source.shape, source.between)
    likelihood = grid.unlabelled(unlabelled) + grid.labelled(positive, negative)
    offset, scale = grid.means(likelihood)
    return float(mixture.moved(source.threshold, source.shape.midpoint, offset, scale))


def unlabelled_rule(pool: ArrayLike, source: SourceStatistics) -> float:
    """Return the threshold from unlabelled scores alone: :func:`combined_rule` without shots."""
    return combined_rule([], [], pool, source)


def pooled_threshold(
    targets: Mapping[str, tuple[ArrayLike, ArrayLike]], source: SourceStatistics
) -> float:
    """Return the threshold for a prompt whose language is unknown.

    The mean over all languages of their thresholds under :func:`shrunken_rule`: ``t_source`` for
    each source language (their offsets average to 0), the shrunken one for each target with
    shots ``{language: (harmful, harmless)}``. Without such targets it is the source threshold.
    """
    found = [(_scores(h), _scores(n)) for h, n in targets.values()]
    moves = [shrunken_rule(h, n, source) - source.threshold for h, n in found if len(h) and len(n)]
    return float(source.threshold + sum(moves) / (source.n_languages + len(moves)))


def threshold_for(
    rule: Rule,
    harmful: ArrayLike,
    harmless: ArrayLike,
    source: SourceStatistics,
    pool: ArrayLike = (),
) -> float:
    """Return the threshold that a rule sets from k shots per class (none: the source's own).

    ``pool`` holds scores of the language's prompts without labels, shots not among them; only the
    rules in :data:`POOL_RULES` read it.

    Raises:
        UserError: for a rule that does not exist.
    """
    if rule not in RULES:
        raise UserError(f"threshold rule {rule!r} is not one of {', '.join(RULES)}")
    if rule == "source":
        return source.threshold
    if rule == "paper":
        return paper_rule(harmful, harmless) if len(_scores(harmful)) else source.paper_threshold
    if rule == "midpoint":
        return midpoint_rule(harmful, harmless, source)
    if rule == "unlabelled":
        return unlabelled_rule(pool, source)
    if rule == "combined":
        return combined_rule(harmful, harmless, pool, source)
    return shrunken_rule(harmful, harmless, source)


def _both_classes(
    scores: Mapping[str, tuple[ArrayLike, ArrayLike]],
) -> list[tuple[np.ndarray, np.ndarray]]:
    found = [(_scores(h), _scores(n)) for h, n in scores.values()]
    return [(h, n) for h, n in found if len(h) and len(n)]


def _scores(values: ArrayLike) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64).reshape(-1)
    if not np.isfinite(array).all():
        raise UserError("a threshold cannot be set from scores that are NaN or infinite")
    return array


def _variance(values: np.ndarray) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else 0.0


def _f1(true: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """F1 of one class: ``2 TP / (2 TP + FP + FN)``; 0 where the class is never right."""
    return np.where(true > 0, 2 * true / np.maximum(2 * true + wrong, 1), 0.0)
