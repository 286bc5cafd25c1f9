"""McNemar, alignment of translations, comparisons of languages; Holm against a library."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.multitest import multipletests

from babelgate.stats import (
    Cell,
    Resamples,
    align,
    holm,
    language_difference,
    mcnemar,
    paired_difference,
)

NAN = math.nan


def cell(values, groups=None):
    names = [f"g{i}" for i in range(len(values))] if groups is None else groups
    return Cell(np.array(values, dtype=float), tuple(names))


def table(both, a_only, b_only, neither):
    a = [1] * both + [1] * a_only + [0] * b_only + [0] * neither
    b = [1] * both + [0] * a_only + [1] * b_only + [0] * neither
    return cell(a), cell(b)


# ---------------------------------------------------------------------------------------------
# McNemar


def test_mcnemar_by_hand():
    """7 pairs one way and 1 the other: p = 2 (1 + 8) / 2^8 = 18/256.

    The airway example of Fagerland, Lydersen and Laake 2013 (1, 1, 7 and 12 children): 0.070.
    """
    got = mcnemar(*table(1, 1, 7, 12))
    assert (got.b_only, got.a_only, got.n, got.n_dropped) == (7, 1, 21, 0)
    assert got.p == pytest.approx(18 / 256)
    assert got.p == pytest.approx(0.070, abs=5e-4)
    assert mcnemar(*reversed(table(1, 1, 7, 12))).p == pytest.approx(got.p)


def test_mcnemar_without_discordant_pairs_and_without_pairs():
    assert mcnemar(*table(3, 0, 0, 2)).p == 1
    assert mcnemar(*table(3, 4, 4, 2)).p == 1
    none = mcnemar(cell([1, NAN]), cell([NAN, 0]))
    assert math.isnan(none.p)
    assert (none.n, none.n_dropped) == (0, 2)


def test_an_unscored_side_drops_the_pair_and_is_counted():
    got = mcnemar(cell([0, 0, 1, NAN, 1]), cell([1, 1, NAN, 1, 0]))
    assert (got.b_only, got.a_only, got.n, got.n_dropped) == (2, 1, 3, 2)
    assert got.p == 1.0  # 2 (1 + 3) / 8


@given(*[st.integers(0, 30)] * 4)
def test_mcnemar_equals_the_library(both, a_only, b_only, neither):
    got = mcnemar(*table(both, a_only, b_only, neither))
    reference = reference_mcnemar([[both, a_only], [b_only, neither]], exact=True)
    if both + a_only + b_only + neither:
        assert got.p == pytest.approx(1.0 if a_only + b_only == 0 else reference.pvalue)


def test_mcnemar_keeps_its_level_under_no_difference():
    """Exact: at most 5 % of 1,000 runs of equal rates fall below 0.05."""
    rng = np.random.default_rng(0)
    groups = [str(i) for i in range(60)]
    rejected = 0
    for _ in range(1000):
        a, b = (rng.random((2, 60)) < 0.4).astype(float)
        rejected += mcnemar(cell(a, groups), cell(b, groups)).p <= 0.05
    assert 5 < rejected <= 60


# ---------------------------------------------------------------------------------------------
# languages


def test_translations_are_matched_by_group():
    a, b = cell([1, 0, 1, 0], "wxyz"), cell([0, 1, 1], "zxq")
    got = align(a, b)
    assert got.a.groups == got.b.groups == ("x", "z")
    assert got.a.values.tolist() == [0, 0]
    assert got.b.values.tolist() == [1, 0]
    assert (got.unmatched_a, got.unmatched_b) == (2, 1)


def test_repeated_groups_are_matched_first_to_first():
    got = align(cell([1, 2, 3], "xyx"), cell([4, 5, 6, 7], "xxyx"))
    assert got.a.groups == ("x", "y", "x")
    assert got.b.values.tolist() == [4, 6, 5]
    assert (got.unmatched_a, got.unmatched_b) == (0, 1)


@given(st.lists(st.sampled_from("abcd"), max_size=8), st.lists(st.sampled_from("abcd"), max_size=8))
def test_alignment_laws(left, right):
    a, b = cell(range(len(left)), left), cell(range(len(right)), right)
    got = align(a, b)
    assert got.a.groups == got.b.groups
    assert len(got.a.groups) == sum(min(left.count(g), right.count(g)) for g in "abcd")
    assert got.unmatched_a + len(got.a.groups) == len(left)
    assert got.unmatched_b + len(got.b.groups) == len(right)
    for i, j in zip(got.a.values, got.b.values):
        assert left[int(i)] == right[int(j)]


def test_language_difference_by_hand():
    """On x y z: 1 0 1 against 0 0 0; w and q have no translation."""
    a, b = cell([1, 0, 1, 1], "xyzw"), cell([0, 1, 0, 0], "zqyx")
    resamples = Resamples.draw("wxyzq", n=500, seed=0)
    got = language_difference([(1.0, a, b)], resamples)
    assert got.difference.delta == pytest.approx(-2 / 3)
    assert got.difference.n == 3
    assert got.n_unmatched == 2
    assert got.test is not None
    assert (got.test.a_only, got.test.b_only, got.test.p) == (2, 0, 0.5)
    same = align(a, b)
    assert got.difference == paired_difference([(1.0, same.a, same.b)], resamples)


def test_selectivity_of_languages_has_no_mcnemar_test():
    harmful = cell([1, 1], ["a", "b"]), cell([0, 1], ["a", "b"])
    harmless = cell([0, 1], ["c", "d"]), cell([1, 0], ["d", "c"])
    resamples = Resamples.draw("abcd", n=100, seed=0)
    got = language_difference([(1.0, *harmful), (-1.0, *harmless)], resamples)
    assert got.difference.delta == pytest.approx(-0.5)
    assert got.test is None
    repeated = language_difference([(1.0, cell([1, 0], "aa"), cell([1, 1], "aa"))], resamples)
    assert repeated.test is None  # two prompts of one group are not independent


def test_languages_without_common_prompts_are_missing_not_equal():
    resamples = Resamples.draw("abcd", n=50, seed=0)
    got = language_difference([(1.0, cell([1, 1], "ab"), cell([0, 1], "cd"))], resamples)
    assert math.isnan(got.difference.delta)
    assert got.n_unmatched == 4
    assert got.test is not None
    assert math.isnan(got.test.p)


def test_holm_equals_the_library():
    rng = np.random.default_rng(0)
    for n in (1, 2, 5, 20, 40):
        p_values = np.round(rng.random(n) ** 3, 2)  # with ties
        assert holm(p_values.tolist()) == pytest.approx(multipletests(p_values, method="holm")[1])
