"""The small functions against their definitions, and laws that they must keep."""

import math

import numpy as np
import pytest

from babelgate.geometry.cosines import cosines, reliability
from babelgate.geometry.driver import pairwise_geometry
from babelgate.geometry.intervals import auroc_estimate, balanced_estimate, share_estimate
from babelgate.geometry.members import random_halves
from babelgate.geometry.parallelism import language_basis, paired_cosines
from babelgate.geometry.separation import at_own_threshold, best_threshold, projection_gap
from babelgate.geometry.shares import subspace_shares
from babelgate.geometry.states import LanguageStates
from babelgate.geometry.table import PromptTable, Settings
from babelgate.geometry.universality import universality
from babelgate.metrics import balanced_accuracy
from babelgate.stats import Cell, wilson
from babelgate.thresholds import source_rule

from .made import made_states, made_table


def test_reliability_predicts_how_noise_lowers_cosines():
    """Two noisy measurements of one direction: their cosine is near the ceiling, not near 1."""
    rng = np.random.default_rng(0)
    d, n, times = 400, 40, 60
    truth = rng.normal(size=d)
    ceilings, found = [], []
    for _ in range(times):
        means, rs = [], []
        for _ in range(2):
            x = truth * 0.3 + 2 * rng.normal(size=(n, d))
            places = random_halves(np.arange(n), 10, rng)
            rs.append(reliability(x[places[0]].mean(1), x[places[1]].mean(1)))
            means.append(x.mean(0))
        ceilings.append(math.sqrt(rs[0] * rs[1]))
        found.append(cosines(np.array(means))[0, 1])
    assert np.mean(found) == pytest.approx(np.mean(ceilings), abs=0.02)
    assert 0.2 < np.mean(found) < 0.8


def test_halves_are_disjoint_and_of_one_size():
    halves = random_halves(np.array([3, 5, 8, 9, 11]), 20, np.random.default_rng(0))
    assert halves.shape == (2, 20, 2)
    for first, second in zip(*halves):
        assert len({*first, *second}) == 4
        assert {*first, *second} < {3, 5, 8, 9, 11}
    assert len({tuple(sorted(h)) for h in halves[0].tolist()}) > 5


def test_auroc_interval_covers_as_often_as_it_says():
    """Normal scores with a true AUROC of Phi(d / sqrt 2)."""
    from scipy.stats import norm

    rng = np.random.default_rng(1)
    for shift, n, m in ((0.0, 20, 20), (1.2, 30, 15), (2.5, 12, 12)):
        truth = norm.cdf(shift / math.sqrt(2))
        inside = 0
        for _ in range(300):
            e = auroc_estimate(rng.normal(shift, 1, n), rng.normal(size=m))
            inside += e.low <= truth <= e.high
        assert 0.91 <= inside / 300 <= 0.995


def test_auroc_interval_is_never_a_point_and_its_ends_solve_its_equation():
    e = auroc_estimate(np.arange(10) + 20.0, np.arange(10.0))
    assert (e.value, e.high) == (1.0, 1.0)
    assert 0.6 < e.low < 0.95
    e = auroc_estimate(np.array([1.0, 2, 5, 7]), np.array([0.0, 1.5, 3, 4, 6]))
    k = (4 + 5) / 2 - 1
    for t in (e.low, e.high):
        v = t * (1 - t) * (1 + k * (1 - t) / (2 - t) + k * t / (1 + t)) / 20
        assert abs(t - e.value) == pytest.approx(1.959964 * math.sqrt(v), abs=1e-6)
    assert auroc_estimate(np.empty(0), np.ones(3)).missing


def test_shares_have_the_interval_of_whole_numbers():
    for successes, n in ((0, 5), (3, 10), (40, 40)):
        values = np.zeros(n)
        values[:successes] = 1
        expected = wilson(Cell(values, tuple(map(str, range(n)))))
        got = share_estimate(successes / n, n)
        assert (got.low, got.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert share_estimate(math.nan, 0).missing
    e = balanced_estimate(0.9, 20, 0.2, 30)
    assert e.value == pytest.approx(0.85)
    assert 0.7 < e.low < 0.85 < e.high < 0.95


def test_own_threshold_is_judged_on_other_prompts():
    """Labels that mean nothing: the threshold fitted and judged on the same prompts looks good."""
    rng = np.random.default_rng(3)
    fair, unfair = [], []
    for _ in range(40):
        harmful, harmless = rng.normal(size=(2, 8))
        fair.append(at_own_threshold(harmful, harmless, 10, rng).value)
        unfair.append(balanced_accuracy(harmful, harmless, source_rule(harmful, harmless)))
    assert np.mean(unfair) > 0.6
    assert np.mean(fair) == pytest.approx(0.5, abs=0.05)
    good = at_own_threshold(rng.normal(9, 1, 20), rng.normal(size=21), 10, rng)
    assert good.value == pytest.approx(1.0)
    assert good.n == 41


def test_own_threshold_with_loops():
    harmful, harmless = (
        np.random.default_rng(4).normal(0.8, 1, 9),
        np.random.default_rng(5).normal(size=12),
    )
    got = at_own_threshold(harmful, harmless, 6, np.random.default_rng(6)).value
    rng = np.random.default_rng(6)
    halves = [random_halves(np.arange(len(s)), 6, rng) for s in (harmful, harmless)]
    found = []
    for k in range(6):
        for a, b in ((0, 1), (1, 0)):
            cut = source_rule(harmful[halves[0][a, k]], harmless[halves[1][a, k]])
            found.append(
                balanced_accuracy(harmful[halves[0][b, k]], harmless[halves[1][b, k]], cut)
            )
    assert len(found) == 12
    assert got == pytest.approx(np.mean(found), abs=1e-12)
    assert best_threshold(harmful, harmless) == source_rule(harmful, harmless)


def test_gap_in_standard_deviations():
    assert projection_gap(np.array([3.0, 5]), np.array([0.0, 2])) == pytest.approx(3 / math.sqrt(2))
    assert math.isnan(projection_gap(np.ones(3), np.zeros(3)))
    assert math.isnan(projection_gap(np.ones(1), np.zeros(3)))


def test_directions_inside_the_subspace_have_share_one():
    rng = np.random.default_rng(0)
    sources = rng.normal(size=(4, 30))
    inside, outside = sources.sum(0), rng.normal(size=30)
    q, _ = np.linalg.qr(sources.T)
    outside -= q @ (q.T @ outside)
    shares, counts = subspace_shares(np.vstack([sources, inside, outside]), range(4), 6)
    assert counts.tolist() == [3, 3, 3, 3, 4, 4]
    assert shares[4, 3] == pytest.approx(1)
    assert shares[5, 3] == pytest.approx(0, abs=1e-9)
    assert (np.diff(shares[:, :3], axis=1) >= 0).all()
    assert np.isnan(shares[:, 4:]).all()
    assert shares[0, 2] < 1


def test_a_rotation_changes_no_angle_and_a_shift_of_one_language_none_either():
    table = made_table()
    states = made_states(table)[:1]
    rng = np.random.default_rng(7)
    turn, _ = np.linalg.qr(rng.normal(size=(states.shape[-1],) * 2))
    shifted = states + 0.5 * (table.language == "sw")[None, :, None]
    options = {
        "layers": (0,),
        "positions": ("t",),
        "sources": ("en", "de"),
        "settings": Settings(halvings=2),
    }
    plain, turned, moved = (
        pairwise_geometry(lambda layer, position, s=s: s[layer], table, **options).tables
        for s in (states, states @ turn, shifted)
    )
    for other in (turned, moved):
        np.testing.assert_allclose(
            other.parallelism[0].cosines, plain.parallelism[0].cosines, atol=2e-5
        )
        for a, b in zip(plain.cosines, other.cosines):
            np.testing.assert_allclose(a.cosines, b.cosines, atol=2e-5)
        for a, b in zip(plain.translation, other.translation):
            assert a.u_centred == pytest.approx(b.u_centred, abs=2e-5)
    by_language = [
        {r.language: r for r in t.separability if r.direction == "source"} for t in (plain, moved)
    ]
    # What a shift breaks is the threshold, and nothing else.
    assert by_language[0]["sw"].auroc.value == by_language[1]["sw"].auroc.value
    assert by_language[0]["sw"].gap == pytest.approx(by_language[1]["sw"].gap, abs=1e-4)


def test_a_common_language_offset_hides_in_raw_cosines_only():
    """Outside the language means the class differences of two languages are parallel."""
    rng = np.random.default_rng(8)
    offsets, axis = rng.normal(size=(3, 20)), rng.normal(size=20)
    basis = language_basis(offsets)
    axis -= basis.T @ (basis @ axis)
    mixed = axis + 3 * rng.normal(size=(3, 2)) @ basis
    differences = np.repeat(mixed[:, None], 3, axis=1)
    plain, outside = paired_cosines(differences, basis)
    assert (np.abs(plain[~np.eye(3, dtype=bool)]) < 0.99).any()
    np.testing.assert_allclose(outside, 1, atol=1e-9)


def states_of(x):
    return LanguageStates.of(x.astype(np.float32))


def test_identical_prompts_are_not_identified():
    """All states of a language equal but for one: ties count for their share."""
    x = np.ones((6, 4)) + np.array([0, 0, 0, 0, 0, 1.0])[:, None] * np.array([5, 0, 0, 0])
    raw, _ = universality((states_of(x), np.arange(6)), (states_of(x), np.arange(6)))
    assert raw.identified == pytest.approx((5 * (1 / 5) + 1) / 6)


def test_centring_needs_the_shared_prompts_only():
    rng = np.random.default_rng(9)
    x, y = rng.normal(size=(2, 9, 12)) + 30
    places = np.array([4, 1, 7, 8])
    got = universality((states_of(x), places), (states_of(y), places[::-1]))
    expected = universality(
        (states_of(x[places]), np.arange(4)), (states_of(y[places[::-1]]), np.arange(4))
    )
    for a, b in zip(got, expected):
        assert (a.u, a.matched, a.identified) == pytest.approx(
            (b.u, b.matched, b.identified), abs=1e-6
        )


def test_the_same_seed_gives_the_same_numbers_for_a_language_whatever_others_there_are():
    table = made_table()
    states = made_states(table)
    keep = table.language != "zh"
    names = ("language", "harmful", "group", "split", "tokens", "refused")
    fewer = PromptTable(**{n: getattr(table, n)[keep] for n in names})
    options = {"layers": (0,), "positions": ("t",), "sources": ("en", "de")}

    def own(t, s, seed):
        found = pairwise_geometry(
            lambda layer, position: s[layer], t, **options, settings=Settings(seed=seed, halvings=3)
        ).tables
        at = found.cosines[0].languages.index("sw")
        rows = [r for r in found.separability if (r.language, r.direction) == ("sw", "own")]
        return found.cosines[0].reliability[at], rows[0].balanced_own.value

    assert own(table, states, 1) == own(fewer, states[:, keep], 1)
    assert own(table, states, 1)[0] != own(table, states, 2)[0]
