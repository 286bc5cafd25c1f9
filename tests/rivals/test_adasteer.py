"""AdaSteer's coefficients against the paper's formula, and the adapted fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from babelgate.errors import UserError
from babelgate.rivals.adasteer import (
    PUBLISHED,
    AdaSteer,
    AdaSteerVectors,
    Anchors,
    Coefficient,
    LabelledStates,
    coefficient,
    fit_adasteer,
    fit_vectors,
    position,
)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("model", PUBLISHED)
def test_coefficient_is_the_formula_prompt_by_prompt(model):
    harmful, harmless = random(16, seed=1), random(16, seed=2)
    hidden = random(200, 16, seed=3) * 4
    clamped = 0
    for c in PUBLISHED[model]:
        found = coefficient(hidden, harmful, harmless, c)
        step = harmless - harmful
        length = np.linalg.norm(step.numpy())
        for h, value in zip(hidden.numpy(), found.tolist()):
            s = 100 * float((h - harmful.numpy()) @ (step.numpy() / length)) / length
            expected = c.mult * (s + c.offset) + c.bias
            low = -np.inf if c.low is None else c.low
            high = np.inf if c.high is None else c.high
            clamped += not low < expected < high
            assert value == pytest.approx(min(max(expected, low), high), rel=1e-4, abs=1e-4)
    assert 0 < clamped < 400


def test_position_is_0_at_one_mean_and_100_at_the_other_whatever_the_rest():
    start, end = random(3, 8, seed=1), random(3, 8, seed=2)
    middle = (start + end) / 2
    for states, expected in ((start, 0), (middle, 50), (end, 100)):
        assert position(states, start, end) == pytest.approx([expected] * 3, abs=1e-3)
    across = random(3, 8, seed=4)
    step = end - start
    across -= ((across * step).sum(-1) / (step * step).sum(-1))[:, None] * step
    assert position(middle + across, start, end) == pytest.approx([50] * 3, abs=1e-3)
    assert position(start.double() * 7, start * 7, end * 7) == pytest.approx([0] * 3, abs=1e-3)


def test_the_published_table():
    a, b = PUBLISHED["Qwen2.5-7B-Instruct"]
    assert a.of(torch.tensor([0.0, 100.0, 139.0, 200.0])) == pytest.approx([-0.2, -0.2, -0.1, 0])
    assert b.of(torch.tensor([0.0, 50.0, 55.0, 100.0])) == pytest.approx([0.4, 0, -0.3, -0.6])
    a, b = PUBLISHED["Llama-3.1-8B-Instruct"]
    assert a.of(torch.tensor([-100.0, -65.0, 0.0])) == pytest.approx([-0.22, -0.1, -0.08])
    assert b.of(torch.tensor([0.0, -105.0])) == pytest.approx([-0.75, 4.5])
    a, b = PUBLISHED["gemma-2-9b-it"]
    assert a.of(torch.tensor([0.0, 40.0, 100.0])) == pytest.approx([-0.02, 0.02, 0.06])
    assert b.of(torch.tensor([0.0, 51.0, 100.0])) == pytest.approx([-0.06, 0.01, 0.02])


def labelled(n=40, layers=5, d=12, seed=0, good=(3, 2)):
    """Classes that are apart at block ``good[0]`` (refusal) and ``good[1]`` (harm) only."""
    noise = [random(n, layers, d, seed=seed + i) for i in range(3)]
    refused, answered, harmless = noise
    refused[:, good[0], 0] += 12
    harmless[:, good[1], 1] += 12
    return LabelledStates(refused, answered, harmless)


def test_fitted_vectors_are_the_differences_of_means():
    states = labelled()
    vectors = fit_vectors(states)
    for layer in range(5):
        r = states.refused[:, layer].mean(0) - states.answered[:, layer].mean(0)
        w = states.answered[:, layer].mean(0) - states.harmless[:, layer].mean(0)
        assert torch.allclose(vectors.refusal[layer], r, atol=1e-5)
        assert torch.allclose(vectors.harmfulness[layer], (w @ r) / (r @ r) * r, atol=1e-5)


def test_adapted_reads_the_separating_blocks_and_ramps_between_the_medians():
    train, validation = labelled(seed=0), labelled(seed=10)
    fitted = fit_adasteer(train, validation, strength=0.3)
    assert (fitted.a.layer, fitted.b.layer) == (3, 2)
    a = {k: fitted.read_a(getattr(validation, k)[:, 3]) for k in ("refused", "answered")}
    b = {k: fitted.read_b(getattr(validation, k)[:, 2]) for k in ("harmless", "answered")}
    assert a["answered"].median() == pytest.approx(0.3, abs=0.02)
    assert a["refused"].median() == pytest.approx(0.0, abs=0.02)
    assert all(x.min() >= 0 and x.max() <= 0.3 + 1e-6 for x in a.values())
    undo = max(fitted.b.low, fitted.b.high, key=abs)
    assert b["harmless"].median() == pytest.approx(undo, rel=0.1)
    assert b["answered"].median() == pytest.approx(0.0, abs=abs(undo) * 0.1)


def test_b_undoes_a_as_nearly_as_one_number_can():
    fitted = fit_adasteer(labelled(), strength=0.3)
    undo = max(fitted.b.low, fitted.b.high, key=abs)

    def left(value):
        rest = 0.3 * fitted.vectors.refusal + value * fitted.vectors.harmfulness
        return float((rest**2).sum())

    assert all(left(undo) <= left(undo * x) for x in (0.0, 0.9, 1.1, 2.0))
    assert left(undo) < left(0)


def test_layers_can_be_restricted_and_strength_zero_does_nothing():
    fitted = fit_adasteer(labelled(), strength=0.0, layers=(0, 1))
    assert {fitted.a.layer, fitted.b.layer} <= {0, 1}
    assert not fitted.read_a(random(9, 12)).any()
    assert not fitted.read_b(random(9, 12)).any()


def test_what_cannot_be_used_is_said():
    states = labelled()
    with pytest.raises(UserError, match="none of the refused kind"):
        LabelledStates(states.refused[:0], states.answered, states.harmless)
    with pytest.raises(UserError, match="harmless states have shape"):
        LabelledStates(states.refused, states.answered, states.harmless[:, :2])
    with pytest.raises(UserError, match="blocks 0 to 4"):
        fit_adasteer(states, layers=(5,))
    with pytest.raises(UserError, match="wrong way"):
        Coefficient(0, 1, 0, 0, 1.0, 0.0)
    x, anchors = random(4, 8), Anchors(random(4, 8), random(4, 8))
    with pytest.raises(UserError, match="harmfulness has shape"):
        AdaSteerVectors(x, x[:3], anchors, anchors)
    with pytest.raises(UserError, match="NaN"):
        AdaSteerVectors(x, x / 0, anchors, anchors)
    with pytest.raises(UserError, match="float64"):
        AdaSteerVectors(x, x.double(), anchors, anchors)
    c = Coefficient(4, 1, 0, 0, None, None)
    with pytest.raises(UserError, match="block 4"):
        AdaSteer(AdaSteerVectors(x, x, anchors, anchors), c, c)
