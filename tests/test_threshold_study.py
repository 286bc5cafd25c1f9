"""The batched study against loops over single fits, rules and comparisons."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from babelgate.errors import UserError
from babelgate.fit import Fitter
from babelgate.fit_data import Data, threshold_prompts
from babelgate.metrics import balanced_accuracy
from babelgate.probe import fit_probe
from babelgate.probe_stack import fit_probes
from babelgate.threshold_batches import CombinedThresholds, accuracies, best_cuts
from babelgate.threshold_study import Draws, Readout, run_study
from babelgate.thresholds import (
    RULES,
    SourceStatistics,
    combined_rule,
    paper_rule,
    source_rule,
    threshold_for,
)
from babelgate.types import Prompt

D = 12
SOURCES = ("en", "de", "fr", "ru")
TARGETS = ("yo", "th")


def make_data(per_cell=10, seed=0):
    """Random states with a class direction, an offset per language, and noise."""
    rng = np.random.default_rng(seed)
    prompts, rows = [], []
    axis = rng.normal(size=D)
    for language in (*SOURCES, *TARGETS):
        offset = rng.normal(size=D) * 0.5
        for split, n in (("train", per_cell), ("val", 7)):
            for label, sign in (("harmful", 1), ("harmless", -1)):
                # Classes of different sizes, so that a wrong count shows.
                for i in range(n + (label == "harmless")):
                    name = f"{label}-{split}-{i}"
                    prompts.append(Prompt(name, language, name, label, split, group_id=name))
                    rows.append(offset + sign * 0.6 * axis + rng.normal(size=D))
    states = [torch.tensor(np.array(rows) @ rng.normal(size=(D, D)), dtype=torch.float32)
              for _ in range(3)]  # fmt: skip
    return Data(tuple(prompts), lambda layer: states[layer], SOURCES)


READOUTS = [Readout((0,), 1e-2, (1, 3, 4)), Readout((0, 2), 1e-3, (2, 4))]
OPTIONS = {"shots": (0, 1, 3, 6, 64), "seeds": 5, "pool": (3, 2), "seed": 4}


def loop(data, readout, rank, language, *, place):
    """Return ``[rule, k, seed]`` one fit, one threshold and one comparison at a time."""
    fitter = Fitter(data, rank)
    scores = fitter.scores(readout.layers, readout.l2, [*SOURCES, language])

    def sides(name, split):
        return data.sides(threshold_prompts(data.pool(name, split)))

    def of(name, split):
        return tuple(scores[name][rows] for rows in sides(name, split))

    others = {s: of(s, "val") for s in SOURCES if s != language}
    drawn = {s: of(s, "train") for s in SOURCES if s != language}
    fold = language if language in SOURCES else None
    train = fitter._folds[fold].rows
    fitted = fitter.probe(readout.layers, fold, readout.l2).score(
        fitter._coordinates(readout.layers, fold)
    )
    harmful = data.harmful[train]
    source = SourceStatistics.from_scores(
        others, train=(fitted[train[harmful]], fitted[train[~harmful]]), like_shots=drawn
    )
    own, val = of(language, "train"), of(language, "val")
    draws = Draws.of((len(own[0]), len(own[1])), OPTIONS["pool"], OPTIONS["seeds"], [4, place])
    pool = np.concatenate([own[0][draws.pool[0]], own[1][draws.pool[1]]])
    found = np.full((len(RULES), len(OPTIONS["shots"]), OPTIONS["seeds"]), math.nan)
    for i, k in enumerate(OPTIONS["shots"]):
        if k > draws.most:
            continue
        for s in range(OPTIONS["seeds"]):
            picked = own[0][draws.harmful[s, :k]], own[1][draws.harmless[s, :k]]
            for j, rule in enumerate(RULES):
                threshold = threshold_for(rule, *picked, source, pool)
                found[j, i, s] = balanced_accuracy(*val, threshold)
    return found


def test_the_study_equals_the_loop():
    data = make_data()
    languages = [*SOURCES, *TARGETS]
    study = run_study(data, READOUTS, languages, **OPTIONS)
    assert study.values.shape == (5, 6, len(RULES), 5, 5)
    compared = 0
    for c, (readout, rank) in enumerate(study.cells):
        for place, language in enumerate(languages):
            want = loop(data, readout, rank, language, place=place)
            np.testing.assert_allclose(study.values[c, place], want, atol=1e-9)
            compared += int(np.isfinite(want).sum())
    assert compared == 5 * 6 * len(RULES) * 4 * 5  # 64 shots are missing everywhere, not 0
    assert np.isnan(study.values[..., -1, :]).all()


def test_what_the_study_promises():
    study = run_study(make_data(), READOUTS[:1], ["de", "yo"], **OPTIONS)
    values = dict(zip(study.rules, study.values.transpose(2, 0, 1, 3, 4)))
    # Without shots all seeds agree; rules that need them fall back to the source threshold.
    assert (study.values[..., 0, :].std(-1) == 0).all()
    for rule in ("shrunken", "midpoint"):
        np.testing.assert_array_equal(values[rule][:, :, 0], values["source"][:, :, 0])
    np.testing.assert_array_equal(values["combined"][:, :, 0], values["unlabelled"][:, :, 0])
    assert (values["paper"][:, :, 1].std(-1) > 0).any()
    # A language's numbers depend on its place among the languages alone.
    alone = run_study(make_data(), READOUTS[:1], ["de"], **OPTIONS)
    np.testing.assert_array_equal(alone.values[:, 0], study.values[:, 0])
    again = run_study(make_data(), READOUTS[:1], ["de", "yo"], **{**OPTIONS, "seed": 5})
    assert (again.values != study.values).any()


def test_a_study_needs_sources_and_val_prompts():
    data = make_data()
    two = Data(data.prompts, data.states, SOURCES[:2])
    with pytest.raises(UserError, match="at least three"):
        run_study(two, READOUTS, ["yo"], **OPTIONS)
    with pytest.raises(UserError, match="val prompts of both classes in sw"):
        run_study(data, READOUTS, ["sw"], **OPTIONS)


def test_draws_keep_the_pool_apart():
    draws = Draws.of((9, 12), (4, 10), 20, [0, 1])
    assert len(draws.pool[0]) == 4
    assert len(draws.pool[1]) == 6  # at most half of a class
    assert draws.most == 5
    for side, aside, size in (
        (draws.harmful, draws.pool[0], 9),
        (draws.harmless, draws.pool[1], 12),
    ):
        for order in side:
            assert sorted([*order, *aside]) == list(range(size))
    assert len({tuple(order) for order in draws.harmful}) > 10


# ---------------------------------------------------------------------------------------------
# the parts


def test_stacked_probes_equal_single_ones():
    """Rows of weight 0 and features of 0 are as good as absent."""
    rng = np.random.default_rng(1)
    n, r = 60, 4
    harmful = rng.random(n) < 0.4
    base = rng.normal(size=(n, r)) * [1, 10, 0.1, 3] + harmful[:, None]
    cases = [
        (r, slice(None), 1e-3),
        (2, slice(None), 0.1),
        (r, slice(0, 40), 1e-2),
        (1, slice(9, 60), 1.0),
    ]
    features, weights = np.zeros((4, n, r)), np.zeros((4, n))
    for i, (rank, rows, _) in enumerate(cases):
        features[i, :, :rank] = base[:, :rank]
        weights[i, rows] = rng.random(n)[rows] + 0.1
    stack = fit_probes(features, harmful, weights, np.array([c[2] for c in cases]))
    for i, (rank, rows, l2) in enumerate(cases):
        probe = fit_probe(base[rows, :rank], harmful[rows], weights[i, rows], l2)
        got = features[i] @ stack.weight[i] + stack.bias[i]
        np.testing.assert_allclose(got, probe.score(base[:, :rank]), rtol=1e-8, atol=1e-8)


def test_stacked_probes_on_separable_data_need_their_halvings():
    rng = np.random.default_rng(2)
    harmful = np.arange(30) < 15
    features = rng.normal(size=(3, 30, 2)) + 8.0 * harmful[:, None]
    weights = np.ones((3, 30))
    stack = fit_probes(features, harmful, weights, np.full(3, 1e-6))
    for i in range(3):
        probe = fit_probe(features[i], harmful, weights[i], 1e-6)
        np.testing.assert_allclose(stack.weight[i] * probe.scale, probe.weight, rtol=1e-6)


def test_stacked_probes_refuse_what_single_ones_refuse():
    harmful = np.array([True, False])
    with pytest.raises(UserError, match="not finite"):
        fit_probes(np.full((1, 2, 1), np.nan), harmful, np.ones((1, 2)), np.ones(1))
    with pytest.raises(UserError, match="both classes"):
        fit_probes(np.zeros((1, 2, 1)), harmful, np.array([[1.0, 0.0]]), np.ones(1))


shots = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=7)


@settings(max_examples=300, deadline=None)
@given(shots, shots)
def test_cuts_by_counting_equal_the_rules(harmful, harmless):
    source, paper = best_cuts(np.array([harmful] * 2), np.array([harmless] * 2))
    assert source.tolist() == [source_rule(harmful, harmless)] * 2
    assert paper.tolist() == [paper_rule(harmful, harmless)] * 2


@settings(max_examples=200, deadline=None)
@given(shots, shots, st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=5))
def test_accuracies_by_search_equal_the_comparison(harmful, harmless, thresholds):
    got = accuracies(np.array([thresholds]), np.array(harmful), np.array(harmless))
    want = [balanced_accuracy(harmful, harmless, t) for t in thresholds]
    assert got[0] == pytest.approx(want, abs=1e-12)


def test_accuracies_of_nothing_are_missing():
    assert np.isnan(accuracies(np.array([0.0]), np.array([]), np.array([1.0]))).all()
    assert np.isnan(accuracies(np.array([math.nan]), np.array([1.0]), np.array([1.0]))).all()


def test_combined_thresholds_of_many_draws_equal_single_ones():
    rng = np.random.default_rng(3)
    source = SourceStatistics.from_scores(
        {x: (rng.normal(2 + x, 1, 20), rng.normal(-2 + x, 2, 20)) for x in (-0.5, 0.0, 0.5)}
    )
    pool, harmful, harmless = (
        rng.normal(0, 2, 30),
        rng.normal(2, 1, (6, 3)),
        rng.normal(-2, 1, (6, 3)),
    )
    got = CombinedThresholds(pool, source)(harmful, harmless)
    want = [combined_rule(h, n, pool, source) for h, n in zip(harmful, harmless)]
    np.testing.assert_allclose(got, want, rtol=1e-12)
    empty = CombinedThresholds(pool[:0], source)
    assert empty(harmful[:, :0], harmless[:, :0]).tolist() == [source.threshold] * 6
