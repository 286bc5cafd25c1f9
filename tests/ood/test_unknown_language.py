"""Languages that nobody states: policies against loops, confusion, what is missing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from ood_prompts import prompt

from babelgate.errors import UserError
from babelgate.ood import language_unknown


def slow_shares(pool, scores, picked):
    """Shares fired per language and label, one prompt at a time; ``picked`` gives thresholds."""
    found = {}
    for language in dict.fromkeys(p.language for p in pool):
        for label in ("harmful", "harmless"):
            fired = [
                scores[i] >= picked(p, i)
                for i, p in enumerate(pool)
                if (p.language, p.label) == (language, label) and not math.isnan(scores[i])
            ]
            found[language, label] = sum(fired) / len(fired)
    return found


def drawn(seed):
    rng = np.random.default_rng(seed)
    pool = [
        prompt(i, language, label, group_id=f"{label}{i}")
        for language in ("ar", "ko", "yo", "ba")
        for label in ("harmful", "harmless")
        for i in range(40)
    ]
    shift = {"ar": 0.0, "ko": 1.0, "yo": -1.0, "ba": 0.3}
    scores = np.array([shift[p.language] + 1.5 * p.harmful + rng.normal() for p in pool])
    scores[rng.permutation(len(pool))[:9]] = math.nan
    others = ["ar", "ko", "yo", "fr", None]
    identified = [
        p.language if rng.random() < 0.8 else others[rng.integers(len(others))] for p in pool
    ]
    return pool, scores, identified


@pytest.mark.parametrize("seed", range(3))
def test_policies_against_loops(seed):
    pool, scores, identified = drawn(seed)
    thresholds, default = {"ar": 0.75, "ko": 1.75, "yo": -0.25}, 0.6
    found = language_unknown(pool, scores, identified, thresholds, default)
    rows = {(r.language, r.policy): r for r in found.rows}
    assert len(rows) == 16

    expected = {
        "stated": slow_shares(pool, scores, lambda p, i: thresholds.get(p.language, default)),
        "identified": slow_shares(
            pool, scores, lambda p, i: thresholds.get(identified[i] or "?", default)
        ),
        "default": slow_shares(pool, scores, lambda p, i: default),
        "worst": {},
    }
    for language in ("ar", "ko", "yo", "ba"):
        gaps = {}
        for code in thresholds:
            if code != language:
                shares = slow_shares(pool, scores, lambda p, i, code=code: thresholds[code])
                gaps[code] = shares[language, "harmful"] - shares[language, "harmless"], shares
        worst = min(gaps, key=lambda code: gaps[code][0])
        assert rows[language, "worst"].threshold_of == worst
        expected["worst"] |= {k: v for k, v in gaps[worst][1].items() if k[0] == language}
    for (language, policy), row in rows.items():
        shares = expected[policy]
        assert row.fired_harmful.value == pytest.approx(shares[language, "harmful"])
        assert row.fired_harmless.value == pytest.approx(shares[language, "harmless"])
        gap = shares[language, "harmful"] - shares[language, "harmless"]
        assert row.selectivity.value == pytest.approx(gap)
        if policy == "stated":
            assert row.loss is None
        else:
            stated = expected["stated"]
            before = stated[language, "harmful"] - stated[language, "harmless"]
            assert row.loss.delta == pytest.approx(before - gap)
            assert row.loss.low <= row.loss.delta <= row.loss.high
            assert row.loss.n == row.fired_harmful.n + row.fired_harmless.n
    for row in found.overall:
        of_policy = [rows[language, row.policy] for language in ("ar", "ko", "yo", "ba")]
        assert row.selectivity.value == pytest.approx(
            np.mean([r.selectivity.value for r in of_policy])
        )
        if row.loss is not None:
            assert row.loss.delta == pytest.approx(np.mean([r.loss.delta for r in of_policy]))


def test_identification_that_is_never_wrong_costs_nothing_and_confusion_counts():
    pool, scores, identified = drawn(5)
    thresholds = {"ar": 0.75, "ko": 1.75, "yo": -0.25}
    right = language_unknown(pool, scores, [p.language for p in pool], thresholds, 0.6)
    for row in (*right.rows, *right.overall):
        if row.policy == "identified":
            assert (row.loss.delta, row.loss.low, row.loss.high) == (0, 0, 0)
    assert right.confusion["ko"] == {"ko": 80}
    guessed = language_unknown(pool, scores, identified, thresholds, 0.6).confusion
    assert sum(guessed["ko"].values()) == 80
    assert guessed["ko"]["unsure"] == sum(
        identified[i] is None for i, p in enumerate(pool) if p.language == "ko"
    )


def test_the_comparison_is_at_least():
    """A score equal to the threshold fires, as everywhere."""
    pool = [prompt(0, "ar"), prompt(1, "ar", "harmless")]
    found = language_unknown(pool, [0.5, 0.4], ["ar", "ar"], {"ar": 0.5}, 9.0)
    stated = found.rows[0]
    assert (stated.fired_harmful.value, stated.fired_harmless.value) == (1.0, 0.0)


def test_without_another_language_there_is_no_worst_one():
    pool = [prompt(0, "ar"), prompt(1, "ar", "harmless")]
    found = language_unknown(pool, [0.5, 0.4], ["ar", None], {"ar": 0.45}, 9.0)
    worst = {r.policy: r for r in found.rows}["worst"]
    assert worst.threshold_of is None
    assert worst.fired_harmful.missing
    assert math.isnan(worst.loss.delta)
    assert {r.policy: r for r in found.overall}["worst"].loss is None


def test_what_does_not_fit_is_named():
    pool = [prompt(0, "ar"), prompt(1, "ar", "harmless")]
    with pytest.raises(UserError, match="2 prompts came with 1 scores"):
        language_unknown(pool, [1.0], ["ar", "ar"], {}, 0.0)
    with pytest.raises(UserError, match="'ar' needs harmful and harmless"):
        language_unknown(pool[:1], [1.0], ["ar"], {}, 0.0)
