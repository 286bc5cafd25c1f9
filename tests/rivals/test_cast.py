"""CAST against scikit-learn's PCA, the paper's score and the authors' triple loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from babelgate.errors import UserError
from babelgate.rivals import components
from babelgate.rivals.cast import (
    THRESHOLDS,
    ConditionPoint,
    behaviour_layers,
    condition_layers,
    condition_score,
    contrast_vectors,
    find_condition,
    first_component,
    masked_mean,
    observed_thresholds,
)


def pairs(n=30, d=12, seed=0, shift=2.0):
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((n, d)) * 3
    direction = rng.standard_normal(d)
    amount = shift + rng.standard_normal((n, 1)) * 0.5
    positive = common + amount * direction + rng.standard_normal((n, d)) * 0.2
    return torch.from_numpy(positive), torch.from_numpy(common - amount * direction)


def reference_component(positive, negative):
    center = (positive + negative) / 2
    stacked = np.concatenate([positive - center, negative - center])
    component = PCA(n_components=1).fit(stacked).components_[0]
    wrong = (positive @ component).mean() < (negative @ component).mean()
    return -component if wrong else component


@pytest.mark.parametrize(("n", "d"), [(30, 12), (8, 40), (300, 260)])
def test_first_component_is_the_pca_of_the_pairwise_centred_contrast(n, d):
    positive, negative = pairs(n, d)
    found = first_component(positive, negative)
    expected = reference_component(positive.numpy(), negative.numpy())
    assert found.dtype == torch.float32
    assert found.numpy() == pytest.approx(expected, abs=1e-4)
    assert first_component(negative, positive).numpy() == pytest.approx(-expected, abs=1e-4)


def test_both_ways_to_the_singular_vector_agree(monkeypatch):
    positive, negative = pairs(300, 260, shift=0.1)
    iterated = first_component(positive, negative)
    monkeypatch.setattr(components, "_ITERATE_FROM", 10_000)
    assert torch.allclose(first_component(positive, negative), iterated, atol=1e-5)


def test_contrast_vectors_take_each_block_by_itself():
    positive = torch.stack([pairs(seed=s)[0] for s in range(3)], 1)
    negative = torch.stack([pairs(seed=s)[1] for s in range(3)], 1)
    found = contrast_vectors(positive, negative)
    for layer in range(3):
        assert torch.equal(found[layer], first_component(positive[:, layer], negative[:, layer]))


def test_condition_score_is_the_formula_with_the_full_projection_matrix():
    rng = torch.Generator().manual_seed(0)
    states, vectors = torch.randn(9, 4, 10, generator=rng), torch.randn(4, 10, generator=rng)
    found = condition_score(states, vectors)
    for i in range(9):
        for layer in range(4):
            h, c = states[i, layer].double(), vectors[layer].double()
            p = torch.tanh(torch.outer(c, c) / (c @ c) @ h)
            assert float(found[i, layer]) == pytest.approx(
                float(h @ p / (h.norm() * p.norm())), abs=1e-5
            )
    assert condition_score(torch.tensor([[0.0, 2.0]]), torch.tensor([1.0, 0.0])).tolist() == [0.0]


def test_masked_mean_leaves_out_padding_whatever_it_holds():
    hidden = torch.randn(2, 4, 3)
    mask = torch.tensor([[False, False, True, True], [True, True, True, True]])
    expected = torch.stack([hidden[0, 2:].mean(0), hidden[1].mean(0)])
    assert torch.allclose(masked_mean(hidden, mask), expected, atol=1e-6)
    hidden[0, :2] = torch.nan
    assert torch.allclose(masked_mean(hidden, mask), expected, atol=1e-6)


def triple_loop(positive, negative, layers, thresholds):
    best, point = -1.0, None
    for layer in layers:
        for threshold in thresholds:
            for side in ("larger", "smaller"):
                sign = 1 if side == "smaller" else -1
                tp = sum(bool(sign * x >= sign * threshold) for x in positive[:, layer])
                fp = sum(bool(sign * x >= sign * threshold) for x in negative[:, layer])
                fn = len(positive) - tp
                f1 = 2 * tp / (2 * tp + fp + fn)
                if f1 > best:
                    best, point = f1, ConditionPoint(layer, float(threshold), side, f1)
    return point


@pytest.mark.parametrize("seed", range(6))
def test_grid_search_equals_the_triple_loop(seed):
    rng = np.random.default_rng(seed)
    shift = rng.choice([-0.02, 0.0, 0.02])
    # Rounded scores, so that some are equal to a threshold and some layers tie.
    positive = np.round(rng.normal(0.03 + shift, 0.015, (12, 5)), 3)
    negative = np.round(rng.normal(0.03, 0.015, (9, 5)), 3)
    thresholds = np.arange(61) / 1000
    found = find_condition(positive, negative, (1, 2, 4), thresholds)
    assert found == triple_loop(positive, negative, (1, 2, 4), thresholds)
    met = found.met(positive[:, found.layer])
    false = found.met(negative[:, found.layer])
    assert found.f1 == 2 * met.sum() / (met.sum() + false.sum() + 12)


def test_the_grid_and_the_blocks_of_the_paper():
    assert len(THRESHOLDS) == 601
    assert (THRESHOLDS[0], THRESHOLDS[1], THRESHOLDS[-1]) == (0.0, 0.0001, 0.06)
    assert condition_layers(32) == tuple(range(1, 15))
    assert behaviour_layers(32) == tuple(range(15, 25))
    assert behaviour_layers(28) == tuple(range(13, 22))
    assert condition_layers(2) == (1,)


def test_no_threshold_at_all_is_better_than_the_observed_ones():
    rng = np.random.default_rng(3)
    positive, negative = rng.normal(0.8, 0.1, (13, 3)), rng.normal(0.7, 0.1, (17, 3))
    positive[:, 1] += 0.2
    tried = observed_thresholds(positive, negative)
    assert tried.shape == (3, 29)
    found = find_condition(positive, negative, (0, 1, 2), tried)
    fine = np.linspace(0, 2, 4001)
    assert found.f1 == pytest.approx(find_condition(positive, negative, (0, 1, 2), fine).f1)
    assert found.layer == 1
    # The paper's range is below all these scores: nothing there is better than firing always.
    published = find_condition(positive, negative, (0, 1, 2))
    assert published.met(positive[:, 0]).all()
    assert published.met(negative[:, 0]).all()


def test_a_score_equal_to_the_threshold_meets_the_condition_on_both_sides():
    scores = np.array([0.01, 0.02, 0.03])
    assert ConditionPoint(0, 0.02, "smaller", 1.0).met(scores).tolist() == [False, True, True]
    assert ConditionPoint(0, 0.02, "larger", 1.0).met(scores).tolist() == [True, True, False]


def test_what_cannot_be_used_is_said():
    x = torch.ones(3, 4)
    with pytest.raises(UserError, match="no contrast"):
        first_component(x, x)
    with pytest.raises(UserError, match=r"\[3, 4\] and \[2, 4\]"):
        first_component(x, x[:2])
    with pytest.raises(UserError, match="NaN"):
        first_component(x, x / 0)
    y = np.zeros((3, 2))
    with pytest.raises(UserError, match="both classes"):
        find_condition(y, y[:0], (0,))
    with pytest.raises(UserError, match="NaN"):
        find_condition(y, np.full((3, 2), np.nan), (0,))
