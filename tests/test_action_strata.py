from __future__ import annotations

import math

import numpy as np
import pytest

from babelgate.action_strata import Strata, fired_shares
from babelgate.types import Label, Prompt

NAN = math.nan


def prompts(language: str, label: Label, n: int) -> list[Prompt]:
    return [Prompt(f"{label}{i}", language, "text", label, "val") for i in range(n)]


TRIED = (*prompts("th", "harmless", 4), *prompts("ko", "harmless", 2), *prompts("th", "harmful", 2))
FIRED = np.array([True, False, False, False, True, False, True, False])


def strata(shares=None) -> Strata:
    return Strata(TRIED, FIRED, {} if shares is None else shares)


def test_shares_count_every_prompt_of_a_cell():
    all_val = [*prompts("th", "harmless", 5), *prompts("th", "harmful", 2)]
    found = fired_shares(all_val, np.array([1, 1, 0, 0, 0, 1, 1], dtype=bool))
    assert found == {("th", "harmless"): 0.4, ("th", "harmful"): 1.0}


def test_without_shares_a_rate_is_the_mean_over_the_tried_prompts():
    fired, silent = np.arange(8.0), np.arange(8.0) * 10
    assert strata().rate("th", "harmless", fired, silent) == pytest.approx(np.mean([0, 10, 20, 30]))


def test_a_rate_weighs_each_decision_by_its_share_of_all_prompts():
    fired, silent = np.ones(8), np.zeros(8)
    # One of four tried prompts fires, but two of five do: what the tried ones suggest is too low.
    shares = {("th", "harmless"): 0.4}
    assert strata(shares).rate("th", "harmless", fired, silent) == pytest.approx(0.4)
    assert strata().rate("th", "harmless", fired, silent) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("fired", "expected"),
    [
        # Known of a prompt of the cell on which the gate is silent.
        ([NAN, 1.0, NAN, NAN, 0.5, NAN, NAN, NAN], 0.2 * 1.0),
        # Of another language, where the gate fires on it.
        ([NAN, NAN, NAN, NAN, 0.5, NAN, NAN, NAN], 0.2 * 0.5),
        # Of nothing but harmful prompts.
        ([NAN, NAN, NAN, NAN, NAN, NAN, 1.0, 1.0], 0.2 * 0.7),
    ],
)
def test_a_side_not_tried_is_taken_from_the_nearest_prompts(fired, expected):
    found = strata({("th", "harmless"): 0.2}).rate(
        "th", "harmless", np.array(fired), np.zeros(8), untried=0.7
    )
    assert found == pytest.approx(expected)


def test_what_is_unknown_everywhere_stays_unknown():
    nothing = np.full(8, NAN)
    assert math.isnan(strata().rate("th", "harmless", nothing, nothing))
    assert math.isnan(strata().rate("yo", "harmless", np.ones(8), np.ones(8)))
    # A side that no prompt of the cell gets plays no part.
    own = strata({("th", "harmful"): 1.0})
    assert own.rate("th", "harmful", np.ones(8), nothing) == 1.0
