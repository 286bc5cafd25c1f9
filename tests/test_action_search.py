"""Ranking pairs of actions by cheap evidence, and choosing among finalists."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from babelgate.action_search import (
    Bounds,
    Evidence,
    NothingToLearn,
    PairTried,
    decide,
    predicted_refusal,
    rank,
)
from babelgate.errors import UserError
from babelgate.first_token import FirstTokens
from babelgate.interventions.actions import Nothing, Say
from babelgate.types import Prompt

PROMPTS = tuple(
    Prompt(f"{label}{i}", x, f"{x} {label} {i}", label, "val")
    for x in ("sw", "yo")
    for label in ("harmful", "harmless")
    for i in range(6)
)
HARMFUL = np.array([p.harmful for p in PROMPTS])
SAY = Say("say", texts={"en": "No."}, final=True)
OPEN = Say("open", texts={"en": "No."})


class Push(Nothing):
    """An action with a name, of a type of its own."""


PUSH, PULL = Push("push", "push"), Push("pull", "pull")


def evidence_of(seed=0, **changes):
    rng = np.random.default_rng(seed)
    n = len(PROMPTS)
    odds = rng.normal(0, 2, n)
    tokens = {
        "base": FirstTokens(odds, np.zeros(n)),
        "push": FirstTokens(odds + 3, rng.random(n)),
        "pull": FirstTokens(odds - 3, rng.random(n)),
    }
    values = {
        "prompts": PROMPTS,
        "fired": HARMFUL ^ (rng.random(n) < 0.2),
        "base_refusal": (odds + rng.normal(0, 1, n) > 0).astype(float),
        "tokens": tokens,
    }
    values["base_refusal"][::5] = np.nan
    return Evidence(**(values | changes))


def test_predicted_refusal_follows_the_replies():
    rng = np.random.default_rng(0)
    odds = rng.normal(0, 2, 4000)
    refused = (rng.random(4000) < 1 / (1 + np.exp(-(1.5 * odds - 0.7)))).astype(float)
    refused[::7] = np.nan
    slope, intercept = predicted_refusal(odds, refused)
    assert slope == pytest.approx(1.5, abs=0.2)
    assert intercept == pytest.approx(-0.7, abs=0.2)


@pytest.mark.parametrize("refused", [np.zeros(4), np.ones(4), np.full(4, np.nan)])
def test_one_kind_of_reply_teaches_nothing(refused):
    with pytest.raises(NothingToLearn, match="refuse"):
        predicted_refusal(np.arange(4.0), refused)


def slow_pair(evidence, one, other, bounds):
    """Return (selectivity, harmless rise, KL, within) with loops."""
    curve = predicted_refusal(evidence.tokens["base"].refusal, evidence.base_refusal)

    def chance(action, i):
        if isinstance(action, Say):
            return 1.0
        key = "base" if type(action) is Nothing else action.key
        return 1 / (1 + math.exp(-(curve[0] * evidence.tokens[key].refusal[i] + curve[1])))

    gaps, rises, costs = [], [], []
    for language in ("sw", "yo"):
        own = {True: [], False: []}
        base = []
        for i, p in enumerate(PROMPTS):
            action = one if evidence.fired[i] else other
            if p.language == language:
                own[p.harmful].append(chance(action, i))
                if not p.harmful:
                    base.append(chance(Nothing(), i))
        means = {h: sum(v) / len(v) for h, v in own.items()}
        gaps.append(means[True] - means[False])
        rises.append(means[False] - sum(base) / len(base))
    for i, p in enumerate(PROMPTS):
        action = one if evidence.fired[i] else other
        if p.harmful or evidence.base_refusal[i] == 1:
            continue
        if isinstance(action, Say):
            costs += [] if action.final else [0.0]
        elif type(action) is Nothing:
            costs.append(0.0)
        else:
            costs.append(evidence.tokens[action.key].kl[i])
    cost = sum(costs) / len(costs) if costs else None
    within = max(rises) <= bounds.harmless_refusal and (cost is None or cost <= bounds.kl)
    return sum(gaps) / 2, max(rises), cost, bool(within)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("bounds", [Bounds(), Bounds(0.3, 0.02, 0.2), Bounds(-1.0)])
def test_ranking_equals_loops_and_keeps_to_the_bounds(seed, bounds):
    evidence = evidence_of(seed)
    fired, silent = [SAY, OPEN, PUSH], [Nothing(), PULL]
    sides, pairs = rank(evidence, fired, silent, bounds)
    assert len(pairs) == 6
    assert {(p.fired, p.silent) for p, _, _ in pairs} == {
        (a.name, b.name) for a in fired for b in silent
    }
    for pair, one, other in pairs:
        assert (pair.fired, pair.silent) == (one.name, other.name)
        gap, rise, cost, within = slow_pair(evidence, one, other, bounds)
        assert pair.selectivity == pytest.approx(gap)
        assert pair.harmless_rise == pytest.approx(rise)
        assert pair.kl == (None if cost is None else pytest.approx(cost))
        assert pair.within is within
        assert not pair.chosen
    order = [(not p.within, -round(p.selectivity, 3), p.kl or 0.0) for p, _, _ in pairs]
    assert order == sorted(order)
    assert [(s.side, s.name) for s in sides] == [
        ("fired", "say"), ("fired", "open"), ("fired", "push"), ("silent", "none"),
        ("silent", "pull"),
    ]  # fmt: skip
    where = evidence.fired & HARMFUL
    push = sides[2]
    assert push.log_odds == pytest.approx(evidence.tokens["push"].refusal[where].mean())
    assert push.kl == pytest.approx(evidence.tokens["push"].kl[where].mean())
    assert (sides[0].log_odds, sides[0].kl, sides[0].refusal) == (None, None, 1.0)


def test_a_side_without_prompts_is_missing():
    evidence = evidence_of(fired=np.zeros(len(PROMPTS), dtype=bool))
    sides, pairs = rank(evidence, [PUSH], [Nothing()], Bounds())
    assert (sides[0].refusal, sides[0].log_odds, sides[0].kl) == (None, None, None)
    assert pairs[0][0].harmless_rise == 0.0


def test_of_pairs_that_do_the_same_the_one_that_changes_less_comes_first():
    base = evidence_of().tokens["base"]
    n = len(PROMPTS)
    tokens = {
        "base": base,
        "push": FirstTokens(base.refusal, np.full(n, 0.5)),
        "pull": FirstTokens(base.refusal, np.full(n, 0.1)),
    }
    _, pairs = rank(evidence_of(tokens=tokens), [PUSH, PULL], [PUSH, PULL, Nothing()], Bounds())
    assert (pairs[0][0].fired, pairs[0][0].silent) == ("pull", "none")
    assert [p.kl for p, _, _ in pairs] == sorted(p.kl for p, _, _ in pairs)


# ---------------------------------------------------------------------------------------------
# finalists


def pair(name, gap=None, rise=0.0, loops=0.0, kl=0.0):
    return PairTried(name, "none", 0.5, 0.0, kl, True, gap, rise, loops)


def decided(*finalists, others=()):
    tried = [replace(p, judged_selectivity=None) for p in (*finalists, *others)]
    found = decide(tried, {(p.fired, p.silent): p for p in finalists}, Bounds())
    assert [p.fired for p in found] == [p.fired for p in tried]
    assert sum(p.chosen for p in found) == 1
    return next(p for p in found if p.chosen), {p.fired: p for p in found}


def test_the_most_selective_finalist_within_the_bounds_is_chosen():
    best, found = decided(
        pair("a", 0.9, rise=0.2),
        pair("b", 0.6, rise=0.1, loops=0.02, kl=1.0),  # at the bounds is within them
        pair("c", 0.5),
        pair("d", 0.95, loops=0.03),
        pair("e", 0.99, kl=1.1),
        others=[pair("f")],
    )
    assert best.fired == "b"
    assert {name: p.within for name, p in found.items()} == {
        "a": False, "b": True, "c": True, "d": False, "e": False, "f": True
    }  # fmt: skip
    assert found["f"].judged_selectivity is None
    assert found["a"].judged_selectivity == 0.9


def test_the_first_of_equals_is_chosen():
    assert decided(pair("a", 0.5), pair("b", 0.5))[0].fired == "a"


@pytest.mark.parametrize(
    ("finalists", "chosen"),
    [
        # One bound broken by 1.5 times itself, before two that are broken by little each.
        ([pair("a", 0.9, rise=0.11, loops=0.021), pair("b", 0.2, rise=0.25)], "b"),
        # The divergence is a bound like the others: 1.2 of 1 nat is broken by a fifth.
        ([pair("a", 0.2, rise=0.13), pair("b", 0.1, kl=1.2)], "b"),
        ([pair("a", 0.2, rise=0.11), pair("b", 0.9, kl=1.2)], "a"),
        # In units of the bound: 0.02 above 0.10 is less than 0.01 above 0.02.
        ([pair("a", 0.1, rise=0.12), pair("b", 0.9, loops=0.03)], "a"),
        # As far outside: the more selective one.
        ([pair("a", 0.4, rise=0.2), pair("b", 0.5, rise=0.2), pair("c", None, rise=0.2)], "b"),
        ([pair("a", None, rise=0.2), pair("b", 0.1, rise=0.3)], "a"),
    ],
)
def test_where_none_is_within_the_fewest_bounds_are_broken_by_the_least(finalists, chosen):
    best, found = decided(*finalists)
    assert best.fired == chosen
    assert not any(p.within for p in found.values())
    assert decided(*finalists[::-1])[0].fired == chosen


def test_a_bound_of_zero_is_broken_by_a_share_all_the_same():
    none = Bounds(0.0, 0.0, 1.0)
    tried = [pair("a", 0.9, rise=0.05), pair("b", 0.2, rise=0.01)]
    found = decide(tried, {p.key: p for p in tried}, none)
    assert [p.chosen for p in found] == [False, True]


def test_what_could_not_be_judged_is_not_within_the_bounds():
    best, found = decided(
        PairTried("a", "none", 0.5, 0.0, 0.0, True, 0.9, None, None), pair("b", 0.1, rise=0.9)
    )
    assert best.fired == "b"
    assert not found["a"].within
    assert decided(pair("x", None), pair("y", -0.5))[0].fired == "y"


def test_nothing_judged_is_nothing_to_choose():
    with pytest.raises(UserError, match="judged"):
        decide([pair("a")], {}, Bounds())


def test_raised_thresholds_are_pairs_of_their_own():
    evidence = evidence_of(1)
    fewer = evidence.fired & (np.arange(len(PROMPTS)) % 2 == 0)
    both = replace(evidence, raised={0.05: fewer})
    _, pairs = rank(both, [SAY], [Nothing()], Bounds())
    assert sorted(str(p.false_alarm) for p, _, _ in pairs) == ["0.05", "None"]
    _, alone = rank(replace(evidence, fired=fewer), [SAY], [Nothing()], Bounds())
    raised = next(p for p, _, _ in pairs if p.false_alarm == 0.05)
    assert replace(raised, false_alarm=None) == alone[0][0]


def test_the_least_raise_within_the_bounds_is_chosen_among_equal_actions():
    tried = [
        replace(PairTried("say", "none", 0.5, 0.2, None, False), false_alarm=rate)
        for rate in (None, 0.1, 0.05)
    ]
    judged = {
        p.key: replace(
            p, judged_selectivity=gap, judged_harmless_rise=rise, judged_degenerate_rise=0.0
        )
        for p, gap, rise in zip(tried, (0.6, 0.55, 0.4), (0.25, 0.09, 0.03))
    }
    found = decide(tried, judged, Bounds())
    assert [p.chosen for p in found] == [False, True, False]
    assert [p.within for p in found] == [False, True, True]
