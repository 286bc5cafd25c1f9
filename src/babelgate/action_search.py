"""Choosing what follows a gate's decision: cheap evidence first, replies for the finalists.

1. Candidates for both sides: fixed words, opened replies, adding or projecting out the harmfulness
   and the refusal direction, at several blocks and strengths, or everywhere.
2. Each candidate is applied to every validation prompt, and the first token read: refusal log-odds
   and divergence from the untouched model. A logistic curve from the log-odds to judged refusal,
   fitted on the untouched model's own replies, predicts what the replies will do.
3. Pairs of sides are ranked by predicted selectivity given the gate's decisions, within bounds on
   what harmless prompts lose; the best few generate, are judged, and the best of those is taken.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .action_strata import Shares, Strata
from .errors import UserError
from .first_token import FirstTokens
from .interventions.actions import Nothing, Say
from .probe import fit_probe
from .types import Prompt

#: A bound below this counts as this where an excess is told in units of it.
_LEAST_UNIT = 0.01


class NothingToLearn(UserError):
    """The untouched model refuses everything or nothing: no evidence on what actions would do."""


@dataclass(frozen=True)
class Bounds:
    """What harmless prompts may lose: refusals and degenerate replies above the untouched model's
    (shares), and mean KL divergence of the next token (nats) on those that the untouched model does
    not refuse, where something is generated.
    """

    harmless_refusal: float = 0.10
    degenerate: float = 0.02
    kl: float = 1.0


@dataclass(frozen=True)
class SideTried:
    """A candidate for one side, on the prompts of that side (harmful: fired, harmless: silent).

    Means over the prompts on which the gate's decision gives it: ``log_odds`` of refusal at the
    first token, predicted ``refusal`` rate, ``kl``; None where fixed words are said, or where that
    side has no prompt of the kind.
    """

    side: str
    name: str
    log_odds: float | None
    refusal: float | None
    kl: float | None


@dataclass(frozen=True)
class PairTried:
    """A pair of actions: predicted, and for finalists judged, on the validation prompts.

    ``selectivity`` and ``harmless_rise`` (largest over languages) are in shares. ``judged`` values
    are None for pairs that did not generate; ``within`` says whether every bound is kept (by the
    judged values where there are any). ``false_alarm`` is the rate on left-out sources that the
    gate's thresholds are raised to; None where they are not.
    """

    fired: str
    silent: str
    selectivity: float
    harmless_rise: float
    kl: float | None
    within: bool
    judged_selectivity: float | None = None
    judged_harmless_rise: float | None = None
    judged_degenerate_rise: float | None = None
    chosen: bool = False
    false_alarm: float | None = None

    @property
    def key(self) -> tuple[str, str, float | None]:
        """What tells pairs apart."""
        return self.fired, self.silent, self.false_alarm


def predicted_refusal(log_odds: np.ndarray, refused: np.ndarray) -> tuple[float, float]:
    """Return (slope, intercept) of ``P(refused) = sigmoid(slope x log-odds + intercept)``.

    Fitted on the untouched model's replies ``[N]`` (NaN where a reply was not scored). A little
    regularisation keeps the slope finite where the first token tells them apart perfectly.

    Raises:
        NothingToLearn: if all replies refuse or none does.
    """
    known = np.isfinite(log_odds) & np.isfinite(refused)
    x, y = log_odds[known], refused[known] > 0.5
    if y.all() or not y.any():
        raise NothingToLearn(
            f"of {len(y)} validation replies {int(y.sum())} refuse, and with no example of the "
            "other kind, what actions would do cannot be predicted"
        )
    probe = fit_probe(x[:, None], y, np.ones(len(y)), 1e-3)
    slope = float(probe.weight[0] / probe.scale[0])
    return slope, float(probe.bias - probe.mean[0] * slope)


@dataclass(frozen=True)
class Evidence:
    """Cheap evidence on validation prompts, ``[N]`` each in the order of ``prompts``.

    ``fired`` are the gate's decisions, and ``raised`` those with thresholds raised to a false-alarm
    rate; ``base_refusal`` whether the untouched model's reply refused
    (NaN: unknown); ``tokens`` the first tokens under each candidate by action key, and ``base``.
    ``shares`` say by rate how often the gate fires on all validation prompts of a cell, of which
    these are some.
    """

    prompts: Sequence[Prompt]
    fired: np.ndarray
    base_refusal: np.ndarray
    tokens: Mapping[str, FirstTokens]
    raised: Mapping[float, np.ndarray] = field(default_factory=dict)
    shares: Mapping[float | None, Shares] = field(default_factory=dict)

    def strata(self, rate: float | None) -> Strata:
        """Return what rates over all validation prompts are estimated with."""
        return Strata(tuple(self.prompts), self.decisions[rate], self.shares.get(rate, {}))

    @property
    def decisions(self) -> dict[float | None, np.ndarray]:
        """The decisions by false-alarm rate; None for thresholds as calibrated."""
        return {None: self.fired, **self.raised}

    def refusal(self, action: Nothing, curve: tuple[float, float]) -> np.ndarray:
        """Return the predicted probability of refusal per prompt under an action."""
        if isinstance(action, Say):
            # The words are a refusal; whether the model takes it back shows when it generates.
            return np.ones(len(self.prompts))
        found = self.tokens["base" if type(action) is Nothing else action.key]
        return 1 / (1 + np.exp(-np.clip(curve[0] * found.refusal + curve[1], -50, 50)))

    def kl(self, action: Nothing) -> np.ndarray:
        """Return the divergence per prompt under an action; NaN where fixed words are said."""
        if isinstance(action, Say):
            return np.full(len(self.prompts), np.nan if action.final else 0.0)
        if type(action) is Nothing:
            return np.zeros(len(self.prompts))
        return self.tokens[action.key].kl


def rank(
    evidence: Evidence,
    fired: Sequence[Nothing],
    silent: Sequence[Nothing],
    bounds: Bounds,
) -> tuple[list[SideTried], list[tuple[PairTried, Nothing, Nothing]]]:
    """Return every side tried, and every pair, those within the bounds and most selective first.

    Means are over languages first, so that each counts alike. Rates are of all validation prompts
    (:mod:`babelgate.action_strata`).
    """
    curve = predicted_refusal(evidence.tokens["base"].refusal, evidence.base_refusal)
    harmful = np.array([p.harmful for p in evidence.prompts])
    present = list(dict.fromkeys(p.language for p in evidence.prompts))
    # Compared with predictions, so the untouched model's rates are predictions too: a curve that
    # is off by a little is off alike for both.
    base = evidence.refusal(Nothing(), curve)
    # Where the untouched model refuses a harmless prompt, saying something else is the purpose.
    answered = ~harmful & ~(evidence.base_refusal == 1)
    refusal = {a.key: evidence.refusal(a, curve) for a in (*fired, *silent)}
    kl = {a.key: evidence.kl(a) for a in (*fired, *silent)}

    def rates(rate: float | None, label: str, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.array([strata[rate].rate(x, label, one, other) for x in present])

    strata = {rate: evidence.strata(rate) for rate in evidence.decisions}
    untouched = {rate: rates(rate, "harmless", base, base) for rate in strata}
    sides: list[SideTried] = []
    for side, actions, where in (
        ("fired", fired, evidence.fired & harmful),
        ("silent", silent, ~evidence.fired & ~harmful),
    ):
        for action in actions:
            key = "base" if type(action) is Nothing else action.key
            found = evidence.tokens.get(key)
            said = isinstance(action, Say)
            sides.append(
                SideTried(
                    side,
                    action.name,
                    None if found is None or said else _known(_mean(found.refusal[where])),
                    _known(_mean(refusal[action.key][where])),
                    _known(_mean(kl[action.key][where])),
                )
            )
    pairs = []
    for one, other in itertools.product(fired, silent):
        for rate, decided in evidence.decisions.items():
            chances = refusal[one.key], refusal[other.key]
            harmless = rates(rate, "harmless", *chances)
            rise = harmless - untouched[rate]
            gap = rates(rate, "harmful", *chances) - harmless
            damage = np.where(decided, kl[one.key], kl[other.key])[answered]
            cost = _known(_mean(damage))
            highest = float(np.nanmax(rise))
            within = highest <= bounds.harmless_refusal and (cost is None or cost <= bounds.kl)
            pair = PairTried(
                one.name, other.name, _mean(gap), highest, cost, within, false_alarm=rate
            )
            pairs.append((pair, one, other))
    # Among pairs that are predicted to do the same, the one that changes less comes first.
    pairs.sort(key=lambda p: (not p[0].within, -round(p[0].selectivity, 3), p[0].kl or 0.0))
    return sides, pairs


def decide(
    pairs: Sequence[PairTried], finalists: Mapping[Any, PairTried], bounds: Bounds
) -> list[PairTried]:
    """Return all pairs with the finalists' judged values put in, and one of them chosen.

    The chosen pair is the finalist of highest judged selectivity within the bounds. Where none is
    within: the one that breaks the fewest bounds, of those the one that exceeds them least (summed,
    each in units of its bound), of those the most selective.

    Raises:
        UserError: if there are no finalists.
    """

    def excesses(pair: PairTried) -> list[float]:
        """Return by how much each bound is broken, in units of the bound."""
        # What nobody could judge is not known to be harmless; fixed words have no divergence.
        found = (
            (pair.judged_harmless_rise, bounds.harmless_refusal, np.inf),
            (pair.judged_degenerate_rise, bounds.degenerate, np.inf),
            (pair.kl, bounds.kl, 0.0),
        )
        return [
            unknown if value is None else max(value - limit, 0.0) / max(abs(limit), _LEAST_UNIT)
            for value, limit, unknown in found
        ]

    judged = [replace(pair, within=not any(excesses(pair))) for pair in finalists.values()]
    if not judged:
        raise UserError("no pair of actions was judged, so none can be chosen")

    def order(pair: PairTried) -> tuple[int, float, float]:
        broken = [x for x in excesses(pair) if x > 0]
        gap = pair.judged_selectivity
        return len(broken), round(sum(broken), 6), np.inf if gap is None else -gap

    best = min(judged, key=order)
    found = {p.key: replace(p, chosen=p is best) for p in judged}
    return [found.get(p.key, p) for p in pairs]


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value
