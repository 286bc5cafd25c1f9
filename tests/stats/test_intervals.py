"""Bounds for what was not scored; single rates and differences are in ``tests/test_stats.py``."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from babelgate.stats import Cell, bounds, wilson


def cell(values):
    return Cell(np.array(values, dtype=float), tuple(f"g{i}" for i in range(len(values))))


def test_bounds_by_hand():
    """1 of 3 scored refused, 2 unscored: between 1/5 and 3/5; outer ends are Wilson's of these."""
    got = bounds(cell([1, 0, 0, math.nan, math.nan]))
    assert (got.low, got.high) == (0.2, 0.6)
    assert got.outer_low == wilson(cell([1, 0, 0, 0, 0])).low
    assert got.outer_high == wilson(cell([1, 1, 1, 0, 0])).high


def test_bounds_of_nothing_unscored_and_of_nothing_scored():
    full = bounds(cell([1, 0, 1, 1]))
    assert full.low == full.high == 0.75
    assert (bounds(cell([math.nan] * 3)).low, bounds(cell([math.nan] * 3)).high) == (0, 1)
    empty = bounds(cell([]))
    assert all(math.isnan(x) for x in (empty.low, empty.high, empty.outer_low, empty.outer_high))


@given(st.lists(st.sampled_from([0.0, 1.0, math.nan]), min_size=1, max_size=12), st.data())
def test_every_way_of_scoring_the_rest_lies_within(values, data):
    scored = [data.draw(st.sampled_from([0.0, 1.0])) if math.isnan(v) else v for v in values]
    got, actual = bounds(cell(values)), cell(scored).rate
    assert got.outer_low <= got.low <= actual + 1e-12
    assert actual - 1e-12 <= got.high <= got.outer_high
    if not all(math.isnan(v) for v in values):
        assert got.low <= cell(values).rate <= got.high


def test_bounds_count_as_many_as_there_are_prompts():
    got = bounds(cell([1] * 9 + [math.nan]))
    assert (got.low, got.high) == pytest.approx((0.9, 1.0))
