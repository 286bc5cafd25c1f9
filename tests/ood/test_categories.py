"""Rates by category: several categories, translations, pooled languages."""

from __future__ import annotations

import math

import numpy as np
import pytest
from ood_prompts import prompt

from babelgate.errors import UserError
from babelgate.ood import by_category
from babelgate.stats import Cell, wilson


def test_categories_by_hand():
    pool = [prompt(i, category="Fraud" if i < 12 else "Fraud; Theft") for i in range(15)]
    pool += [prompt(i, label="harmless", category=None) for i in range(20, 24)]
    values = np.array([1.0] * 9 + [0.0] * 5 + [math.nan] + [1.0] * 4)
    rows = {(r.category, r.language): r for r in by_category(pool, values)}
    assert set(rows) == {("Fraud", "en"), ("Theft", "en")}  # one language: nothing to pool
    fraud, theft = rows["Fraud", "en"], rows["Theft", "en"]
    assert (fraud.rate.n, fraud.rate.n_unscored, fraud.few) == (14, 1, False)
    assert fraud.rate == wilson(Cell(values[:15], tuple(p.group_id for p in pool[:15])))
    assert (theft.rate.value, theft.rate.n, theft.few) == (0.0, 2, True)


def test_translations_do_not_make_a_category_large():
    pool = [
        prompt(i, language, category="Fraud", group_id=f"g{i}")
        for i in range(6)
        for language in ("en", "sw")
    ]
    rows = {r.language: r for r in by_category(pool, [1, 0] * 6)}
    assert (rows["all"].rate.n, rows["all"].rate.n_groups, rows["all"].few) == (12, 6, True)
    assert rows["all"].rate.value == 0.5
    assert (rows["en"].rate.value, rows["sw"].rate.value) == (1.0, 0.0)
    # Groups are resampled whole, and every group has the rate 1/2.
    assert rows["all"].rate.low == rows["all"].rate.high == 0.5


def test_wrong_outcomes_are_refused():
    with pytest.raises(UserError, match="2 prompts came with 1 values"):
        by_category([prompt(0), prompt(1)], [1])
    with pytest.raises(UserError, match="1 .fired or refused."):
        by_category([prompt(0)], [0.7])
