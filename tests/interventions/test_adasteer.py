"""AdaSteer in generation against its formula, one prompt at a time under plain hooks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from babelgate.errors import BabelgateError
from babelgate.generate import generate
from babelgate.interventions import Batch, Phase
from babelgate.interventions.adasteer import AdaSteerIntervention
from babelgate.rivals.adasteer import AdaSteer, AdaSteerVectors, Anchors, Coefficient
from tiny import TEXTS, tiny_model
from uncached import EMBEDDING, token_states, uncached_tokens

N = 6


def run(model, intervention=None, texts=TEXTS, **options):
    found = {}
    for batch in generate(model, texts, max_new_tokens=N, intervention=intervention, **options):
        found |= {reply.index: reply for reply in batch}
    return [found[i] for i in range(len(texts))]


def random_adasteer(model, *, a_layer=2, b_layer=1, scale=0.02):
    """Random vectors, with anchors among the model's own states so that coefficients differ."""
    rng = torch.Generator().manual_seed(7)
    found = [token_states(model, text) for text in TEXTS]
    states = torch.stack([torch.stack([f[i][-1] for i in range(4)]) for f in found])
    r, h = (torch.randn(4, 32, generator=rng) for _ in range(2))
    first = Anchors(states[:3].mean(0), states[3:].mean(0))
    second = Anchors(states[::2].mean(0), states[1::2].mean(0))
    a = Coefficient(a_layer, scale, -20, 0.0, -0.6, 0.8)
    b = Coefficient(b_layer, -scale, 10, 0.1, -0.75, None)
    return AdaSteer(AdaSteerVectors(r, h, first, second), a, b)


def reference_coefficients(model, adasteer, text):
    """Return (a, b) of one prompt by the paper's formula, from its unsteered states."""
    states, found = token_states(model, text), []
    for c, anchors in (
        (adasteer.a, adasteer.vectors.refusal_anchors),
        (adasteer.b, adasteer.vectors.harmfulness_anchors),
    ):
        h = states[c.layer][-1].double().numpy()
        start, end = anchors.start[c.layer].numpy(), anchors.end[c.layer].numpy()
        u = (end - start) / np.linalg.norm(end - start)
        s = 100 * float((h - start) @ u) / np.linalg.norm(end - start)
        value = c.mult * (s + c.offset) + c.bias
        value = value if c.low is None else max(value, c.low)
        found.append(value if c.high is None else min(value, c.high))
    return found


def reference_tokens(model, adasteer, text, where):
    a, b = reference_coefficients(model, adasteer, text)

    def edit(layer, h, length):
        if layer == EMBEDDING:
            return h
        steered = {"prompt": slice(0, length), "generated": slice(length, None)}
        part = steered.get(where, slice(None))
        h[part] += a * adasteer.vectors.refusal[layer] + b * adasteer.vectors.harmfulness[layer]
        return h

    return uncached_tokens(model, text, edit, N)


@pytest.mark.parametrize(
    ("family", "where"),
    [("llama", "prompt"), ("llama", "generated"), ("gemma2", "prompt"), ("gpt2", "both")],
)
def test_each_row_gets_its_own_coefficients_in_any_batch(family, where):
    model = tiny_model(family)
    adasteer = random_adasteer(model)
    coefficients = [reference_coefficients(model, adasteer, text) for text in TEXTS]
    assert len({round(a, 4) for a, _ in coefficients}) > 2
    expected = [reference_tokens(model, adasteer, text, where) for text in TEXTS]
    assert expected != [list(r.tokens) for r in run(model)]
    steered = AdaSteerIntervention(adasteer, where)
    for rows in (1, 3):
        replies = run(model, steered, rows=rows)
        assert [list(r.tokens) for r in replies] == expected
        assert [r.decision for r in replies] == [None] * len(TEXTS)


def test_where_matters(llama):
    adasteer = random_adasteer(llama)
    ways = [
        [r.tokens for r in run(llama, AdaSteerIntervention(adasteer, where))]
        for where in ("prompt", "generated", "both")
    ]
    assert len({tuple(way) for way in ways}) == 3


@pytest.mark.parametrize(("a_layer", "b_layer"), [(0, 3), (3, 0), (1, 1)])
def test_both_coefficients_may_be_read_at_any_block(llama, a_layer, b_layer):
    adasteer = random_adasteer(llama, a_layer=a_layer, b_layer=b_layer)
    for where in ("prompt", "generated"):
        replies = run(llama, AdaSteerIntervention(adasteer, where))
        expected = [reference_tokens(llama, adasteer, text, where) for text in TEXTS]
        assert [list(r.tokens) for r in replies] == expected


def test_coefficients_are_read_once_from_the_unsteered_prompt(llama):
    """In the steered pass the states differ; reading them again would change the coefficients."""
    adasteer = random_adasteer(llama)
    intervention = AdaSteerIntervention(adasteer)
    steering = intervention.start(Batch(TEXTS, ("en",) * len(TEXTS)))
    states = [token_states(llama, text) for text in TEXTS]
    mask = torch.ones(len(TEXTS), 1, dtype=torch.bool)
    for kind, factor in (("decide", 1), ("prefill", 5)):
        for layer in intervention.reads:
            last = torch.stack([s[layer][-1:] for s in states]) * factor
            steering.at_block(layer, last, Phase(kind, mask))
    expected = [reference_coefficients(llama, adasteer, text) for text in TEXTS]
    assert steering.a.tolist() == pytest.approx([a for a, _ in expected], abs=1e-3)
    assert steering.b.tolist() == pytest.approx([b for _, b in expected], abs=1e-3)
    steering.keep_rows(torch.tensor([4, 1]))
    assert steering.a.tolist() == pytest.approx([expected[4][0], expected[1][0]], abs=1e-3)
    assert len(steering.decisions()) == len(steering.words()) == len(TEXTS)


def test_coefficients_of_zero_are_the_unchanged_model(llama):
    adasteer = random_adasteer(llama)
    zero = Coefficient(1, 0.0, 0.0, 0.0, None, None)
    base = [r.tokens for r in run(llama)]
    nothing = AdaSteer(adasteer.vectors, zero, zero)
    for where in ("prompt", "generated", "both"):
        assert [r.tokens for r in run(llama, AdaSteerIntervention(nothing, where))] == base


def test_padding_is_left_alone_and_dtype_kept(llama):
    intervention = AdaSteerIntervention(random_adasteer(llama))
    steering = intervention.start(Batch(("a", "b"), ("en", "en")))
    hidden = torch.randn(2, 5, 32).bfloat16()
    mask = torch.tensor([[False, False, True, True, True], [True] * 5])
    for layer in intervention.reads:
        assert steering.at_block(layer, hidden, Phase("decide", mask)) is None
    changed = steering.at_block(3, hidden, Phase("prefill", mask))
    assert changed.dtype == torch.bfloat16
    assert torch.equal(changed[~mask], hidden[~mask])
    assert (changed[mask] != hidden[mask]).any(-1).all()


def test_states_that_are_not_finite_are_an_error(llama):
    intervention = AdaSteerIntervention(random_adasteer(llama))
    steering = intervention.start(Batch(("a",), ("en",)))
    hidden, mask = torch.full((1, 3, 32), torch.nan), torch.ones(1, 3, dtype=torch.bool)
    steering.at_block(1, hidden, Phase("decide", mask))
    with pytest.raises(BabelgateError, match=r"blocks \[1, 2\] are not finite"):
        steering.at_block(2, hidden, Phase("decide", mask))
