"""OmniGuard's U-score against all pairs, and its classifier."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from babelgate.errors import UserError
from babelgate.metrics import auroc
from babelgate.rivals import omniguard
from babelgate.rivals.omniguard import OmniGuard, best_layer, fit_omniguard, mean_u_score, u_score


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def all_pairs(first, second):
    n, layers = first.shape[:2]
    scores = []
    for layer in range(layers):
        same, other = [], []
        for i in range(n):
            for j in range(n):
                cosine = torch.cosine_similarity(first[i, layer], second[j, layer], dim=0)
                (same if i == j else other).append(float(cosine))
        assert len(other) == n * (n - 1)
        scores.append(np.mean(same) - np.mean(other))
    return np.array(scores)


def test_u_score_equals_all_pairs():
    first, second = random(7, 3, 6), random(7, 3, 6, seed=1)
    second[:, 1] = first[:, 1] * 2 + 0.3 * second[:, 1]
    found = u_score(first, second)
    assert found == pytest.approx(all_pairs(first, second), abs=1e-6)
    assert best_layer(found) == 1
    assert u_score(first, first[torch.randperm(7)])[0] < u_score(first, first)[0]


def test_mean_u_score_is_over_all_pairs_of_languages():
    states = {code: random(5, 2, 6, seed=i) for i, code in enumerate(("en", "de", "sw"))}
    en, de, sw = states.values()
    expected = (u_score(en, de) + u_score(en, sw) + u_score(de, sw)) / 3
    assert mean_u_score(states) == pytest.approx(expected)


def examples(n=120, d=10, seed=0):
    """Two classes that no line separates: harm is the sign of a product."""
    x = random(n, d, seed=seed)
    return x * 3 + 1, (x[:, 0] * x[:, 1] > 0).numpy()


def test_the_classifier_learns_what_no_line_can():
    x, y = examples(300, 5)
    guard = fit_omniguard(x, y, layer=4, seed=0, validation=examples(100, 5, seed=1), patience=3)
    assert guard.layer == 4
    assert (guard.weight1.shape, guard.weight2.shape) == ((512, 5), (256, 512))
    fresh, truth = examples(300, 5, seed=2)
    scores = guard.score(fresh).numpy()
    assert auroc(scores[truth], scores[~truth]) > 0.9


def test_same_seed_same_classifier_and_nothing_global_is_drawn():
    x, y = examples()
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    made = [fit_omniguard(x, y, layer=0, seed=s, epochs=2).score(x) for s in (3, 3, 4)]
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_score_is_the_network_written_out():
    x, y = examples()
    g = fit_omniguard(x, y, layer=0, seed=0, epochs=1)
    for h, found in zip(x[:5], g.score(x[:5]).tolist()):
        z = (h - g.mean) / g.scale
        z = (g.weight1 @ z + g.bias1).clamp(min=0)
        z = (g.weight2 @ z + g.bias2).clamp(min=0)
        assert found == pytest.approx(float(g.weight3[0] @ z + g.bias3), abs=1e-4)


def test_the_epoch_of_lowest_validation_loss_is_kept():
    """Validation labels that contradict training: the first epoch hurts least."""
    x, y = examples()
    kept = fit_omniguard(x, y, layer=0, seed=0, epochs=9, validation=(x, ~y), patience=3)
    first = fit_omniguard(x, y, layer=0, seed=0, epochs=1)
    assert all(torch.equal(kept.tensors()[n], t) for n, t in first.tensors().items())


def test_rare_class_weighs_as_much_as_the_common_one():
    x, _ = examples()
    y = np.zeros(120, dtype=bool)
    y[:6] = True
    tensors = omniguard._initial(x, torch.Generator().manual_seed(0))
    tensors |= {"weight3": tensors["weight3"] * 0, "bias3": torch.full((1,), 0.0)}
    bias = tensors["bias3"].requires_grad_()
    truth = torch.from_numpy(y).float()
    omniguard._loss(tensors, x, truth, truth).backward()
    # At even odds both classes pull the bias equally, in opposite directions.
    assert float(bias.grad) == pytest.approx(0.0, abs=1e-6)


def test_training_works_in_inference_mode():
    x, y = examples()
    with torch.inference_mode():
        inside = fit_omniguard(x, y, layer=0, seed=0, epochs=2)
    assert torch.equal(inside.score(x), fit_omniguard(x, y, layer=0, seed=0, epochs=2).score(x))


def test_what_cannot_be_used_is_said():
    x, y = examples(20)
    with pytest.raises(UserError, match="both classes"):
        fit_omniguard(x, y | True, layer=0, seed=0)
    with pytest.raises(UserError, match="NaN"):
        fit_omniguard(x * torch.nan, y, layer=0, seed=0)
    with pytest.raises(UserError, match="at least two prompts"):
        u_score(random(1, 2, 3), random(1, 2, 3))
    with pytest.raises(UserError, match="at least two"):
        mean_u_score({"en": random(3, 2, 3)})
    with pytest.raises(UserError, match="no block"):
        best_layer(np.array([np.nan, np.nan]))
    parts = fit_omniguard(x, y, layer=0, seed=0, epochs=1).tensors()
    with pytest.raises(UserError, match="weight2 has shape"):
        OmniGuard(0, **{**parts, "weight2": parts["weight2"][:, :3]})
