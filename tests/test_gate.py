"""The gate as a value: its score against the slow formula, its thresholds, and what it refuses."""

import dataclasses
import math

import pytest
import torch

from babelgate.errors import GateError
from babelgate.gate import Gate
from babelgate.types import ModelIdentity

D = 6
IDENTITY = ModelIdentity("some model", "abc", "float32", "templ", "weigh", n_layers=5, d_model=D)


def noise(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make(**changes) -> Gate:
    bases = {x: torch.linalg.qr(noise(x, D, r))[0].contiguous() for x, r in ((1, 2), (3, 3))}
    fields = {
        "layers": (1, 3), "position": "t_post", "bases": bases, "mean": noise(10, 5),
        "scale": noise(11, 5).abs() + 0.5, "weight": noise(12, 5), "bias": -0.75,
        "thresholds": {"sw": 0.25, "yo": -1.5}, "default_threshold": 0.5,
        "direction": noise(13, D) / noise(13, D).norm(), "alpha": 2.5, "model": IDENTITY,
        "provenance": {"seed": 0},
    }  # fmt: skip
    return Gate(**(fields | changes))


def slow_score(gate, states, row):
    """((B^T h - mean) / scale) . weight + bias, feature by feature, in float64."""
    total, at = gate.bias, 0
    for layer in gate.layers:
        for j in range(gate.bases[layer].shape[1]):
            column = gate.bases[layer][:, j].tolist()
            z = sum(a * b for a, b in zip(column, states[layer][row].tolist()))
            total += (z - float(gate.mean[at])) / float(gate.scale[at]) * float(gate.weight[at])
            at += 1
    assert at == 5
    return total


def test_score_equals_the_slow_formula():
    gate = make()
    states = {layer: 3 * noise(20 + layer, 9, D) for layer in (1, 3)}
    got = gate.score(states)
    assert got.shape == (9,)
    assert got.dtype == torch.float32
    assert got.tolist() == pytest.approx([slow_score(gate, states, i) for i in range(9)], abs=1e-5)


def test_score_by_hand():
    """h = (1, 2), basis e_0: z = 1; (1 - 3) / 2 * 5 + 1 = -4."""
    gate = Gate(
        layers=(0,), position="t_post", bases={0: torch.tensor([[1.0], [0.0]])},
        mean=torch.tensor([3.0]), scale=torch.tensor([2.0]), weight=torch.tensor([5.0]), bias=1.0,
        thresholds={}, default_threshold=0.0, direction=torch.tensor([0.0, 1.0]), alpha=1.0,
        model=ModelIdentity("m", "", "float32", "t", "w", 1, 2),
    )  # fmt: skip
    assert gate.score({0: torch.tensor([[1.0, 2.0]])}).tolist() == [-4.0]


def test_score_laws():
    gate = make()
    states = {layer: noise(30 + layer, 4, D) for layer in (1, 3)}
    # What lies outside the subspaces is not read.
    outside = {}
    for layer, h in states.items():
        other = noise(40 + layer, 4, D)
        outside[layer] = h + 10 * (other - other @ gate.bases[layer] @ gate.bases[layer].T)
    torch.testing.assert_close(gate.score(outside), gate.score(states), atol=1e-4, rtol=0)
    # A row's score does not depend on the others, nor on blocks that are not read.
    one = gate.score({layer: h[2:3] for layer, h in states.items()} | {4: noise(1, 1, D)})
    torch.testing.assert_close(one, gate.score(states)[2:3])
    # Affine in the state: the middle of two states scores the middle.
    middle = {layer: (h[:1] + h[1:2]) / 2 for layer, h in states.items()}
    torch.testing.assert_close(gate.score(middle)[0], gate.score(states)[:2].mean())


def test_score_computes_in_float32_whatever_the_model_computes_in():
    """In bfloat16 products of 0.1 % would be lost; only the states themselves are rounded."""
    gate = make()
    states = {layer: noise(50 + layer, 7, D).bfloat16() for layer in (1, 3)}
    exact = [slow_score(gate, states, i) for i in range(7)]
    assert gate.score(states).tolist() == pytest.approx(exact, abs=1e-5)


def test_thresholds_per_language_with_a_default():
    gate = make()
    assert gate.threshold("sw") == 0.25
    assert gate.threshold("xx") == gate.threshold(None) == 0.5
    assert gate.steer_layer == 3


def bases(**shapes):
    return {int(k[1:]): noise(0, *shape) for k, shape in shapes.items()}


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": ()},
        {"layers": (3, 1)},
        {"layers": (1, 1, 3)},
        {"layers": (1,)},
        {"layers": (-1, 1)},
        {"layers": (1, 5), "bases": bases(_1=(D, 2), _5=(D, 3))},
        {"bases": bases(_1=(D, 2))},
        {"bases": bases(_1=(D, 2), _3=(D, 2))},
        {"bases": bases(_1=(D, 2), _3=(D + 1, 3))},
        {"bases": bases(_1=(D, 2), _3=(D,))},
        {"mean": noise(0, 4)},
        {"scale": torch.ones(5, 1)},
        {"weight": torch.ones(1)},
        {"direction": noise(0, D + 1)},
        {"direction": noise(0, 1, D)},
        {"model": dataclasses.replace(IDENTITY, d_model=D + 1)},
        {"model": dataclasses.replace(IDENTITY, n_layers=3)},
    ],
)
def test_shapes_that_do_not_fit_are_refused(changes):
    with pytest.raises(GateError, match="shapes of its tensors do not fit"):
        make(**changes)


def with_value(tensor, value):
    changed = tensor.clone()
    changed.view(-1)[1] = value
    return changed


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused(value):
    good = make()
    changes = [
        *({name: with_value(getattr(good, name), value)}
          for name in ("mean", "scale", "weight", "direction")),
        {"bases": {1: with_value(good.bases[1], value), 3: good.bases[3]}},
        *({name: value} for name in ("bias", "alpha", "default_threshold")),
        {"thresholds": {"sw": 0.0, "yo": value}},
    ]  # fmt: skip
    assert len(changes) == 9
    for change in changes:
        with pytest.raises(GateError, match="NaN or infinite"):
            make(**change)


@pytest.mark.parametrize("value", [0.0, -0.5])
def test_a_scale_that_is_not_positive_is_refused(value):
    with pytest.raises(GateError, match="scale that is not positive"):
        make(scale=with_value(make().scale, value))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int64, torch.complex64])
def test_tensors_are_float32(dtype):
    for name in ("mean", "scale", "weight", "direction"):
        with pytest.raises(GateError, match="float32"):
            make(**{name: (2 * getattr(make(), name)).to(dtype)})
    with pytest.raises(GateError, match="float32"):
        make(bases={x: b.to(dtype) for x, b in make().bases.items()})


def test_another_model_is_refused_by_name_and_property():
    gate = make()
    gate.check_model(IDENTITY)
    gate.check_model(dataclasses.replace(IDENTITY, name="moved", revision="other"))
    changes = {"weights": "w2", "template": "t2", "dtype": "bfloat16", "n_layers": 6, "d_model": 7}
    for name, value in changes.items():
        with pytest.raises(GateError) as caught:
            gate.check_model(dataclasses.replace(IDENTITY, name="the other", **{name: value}))
        message = str(caught.value)
        assert f"{name}: {getattr(IDENTITY, name)} here, {value} there" in message
        assert "'some model'" in message
        assert "'the other'" in message
        assert not [other for other in changes if other != name and f"{other}: " in message]
    with pytest.raises(GateError) as caught:
        gate.check_model(dataclasses.replace(IDENTITY, **changes))
    assert all(f"{name}: " in str(caught.value) for name in changes)


def test_raised_thresholds_move_all_alike():
    gate = make()
    raised = gate.raised(0.5)
    assert dict(raised.thresholds) == {x: t + 0.5 for x, t in gate.thresholds.items()}
    assert raised.default_threshold == gate.default_threshold + 0.5
    assert torch.equal(raised.weight, gate.weight)
    assert gate.raised(0.0) is gate
