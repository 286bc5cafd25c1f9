"""Deciders of the rivals' readouts in generation: the same scores as one prompt at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from babelgate.errors import BabelgateError
from babelgate.generate import generate
from babelgate.interventions import Batch, ConditionalIntervention, Phase, Say
from babelgate.interventions.omniguard import OmniGuardDecider
from babelgate.interventions.readouts import LinearDecider
from babelgate.rivals.omniguard import fit_omniguard
from babelgate.rivals.probes import LinearReadout
from tiny import TEXTS, tiny_model
from uncached import token_states

FIXED = Say("fixed", texts={"en": "No."}, final=True)


def run(model, decider, **options):
    found = {}
    steered = ConditionalIntervention(decider, fired=FIXED, language_of=lambda _: None)
    for batch in generate(model, TEXTS, max_new_tokens=4, intervention=steered, **options):
        found |= {reply.index: reply for reply in batch}
    return [found[i] for i in range(len(TEXTS))]


def linear(model, layer=2):
    weight = np.random.default_rng(0).standard_normal(32)
    states = [token_states(model, text)[layer][-1].numpy() for text in TEXTS]
    scores = [float(weight @ state) + 0.7 for state in states]
    return LinearReadout("random", weight, 0.7, float(np.median(scores))), scores


def guard(model, layer=2):
    states = torch.stack([token_states(model, text)[layer].mean(0) for text in TEXTS])
    made = fit_omniguard(states, np.arange(len(TEXTS)) % 2 == 0, layer=layer, seed=0, epochs=3)
    return made, made.score(states).tolist()


@pytest.mark.parametrize(("family", "rows"), [("llama", 1), ("llama", 3), ("gemma2", 64)])
def test_linear_decider_scores_the_last_prompt_token(family, rows):
    model = tiny_model(family)
    readout, scores = linear(model)
    replies = run(model, LinearDecider(readout, 2), rows=rows)
    assert [r.decision.score for r in replies] == pytest.approx(scores, abs=1e-3)
    # The median itself is a score: which side it falls on is left to rounding.
    checked = 0
    for reply, score in zip(replies, scores):
        if abs(score - readout.threshold) > 1e-2:
            assert reply.decision.fired is (score > readout.threshold)
            assert (reply.text == "No.") is reply.decision.fired
            checked += 1
    assert checked >= 5


@pytest.mark.parametrize(("family", "rows"), [("llama", 1), ("llama", 3), ("gemma2", 64)])
def test_omniguard_scores_the_mean_over_all_prompt_tokens(family, rows):
    model = tiny_model(family)
    made, scores = guard(model)
    threshold = float(np.mean(sorted(scores)[2:4]))
    replies = run(model, OmniGuardDecider(made, threshold), rows=rows)
    assert [r.decision.score for r in replies] == pytest.approx(scores, abs=1e-3)
    assert [r.decision.fired for r in replies] == [s >= threshold for s in scores]
    assert [r.fixed for r in replies] == [r.decision.fired for r in replies]


def test_thresholds_are_of_the_language(llama):
    readout, _ = linear(llama)
    made, _ = guard(llama)
    given = {"de": 1e9, "sw": -1e9}
    languages = ["de", "sw", None, "fr", "de", "sw", None]
    for decider, other in (
        (LinearDecider(readout, 2, given), readout.threshold),
        (OmniGuardDecider(made, 0.25, given), 0.25),
    ):
        replies = run(llama, decider, languages=languages)
        assert [r.decision.threshold for r in replies] == [
            given.get(language, other) if language else other for language in languages
        ]
        assert [r.decision.fired for r in replies[:2]] == [False, True]


def test_scores_that_are_not_finite_are_an_error(llama):
    readout, _ = linear(llama)
    made, _ = guard(llama)
    hidden, mask = torch.full((1, 3, 32), torch.inf), torch.ones(1, 3, dtype=torch.bool)
    for decider in (LinearDecider(readout, 2), OmniGuardDecider(made)):
        reading = decider.start(Batch(("a",), ("en",)))
        reading.read(2, hidden, Phase("prefill", mask))
        with pytest.raises(BabelgateError, match="at block 2 is NaN or infinite"):
            reading.decide()
