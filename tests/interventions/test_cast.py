"""CAST in generation against its formulas, one prompt at a time under plain hooks."""

from __future__ import annotations

import pytest
import torch

from babelgate.errors import BabelgateError, UserError
from babelgate.generate import generate
from babelgate.interventions import Batch, ConditionalIntervention, Phase, Ungated
from babelgate.interventions.cast import BehaviourVectors, CastCondition
from babelgate.rivals.cast import ConditionPoint
from tiny import TEXTS, tiny_model
from uncached import token_states, uncached_tokens

N = 6


def run(model, intervention=None, texts=TEXTS, **options):
    found = {}
    options = {"languages": ["en"] * len(texts), **options}
    for batch in generate(model, texts, max_new_tokens=N, intervention=intervention, **options):
        found |= {reply.index: reply for reply in batch}
    return [found[i] for i in range(len(texts))]


def unit(*shape, seed):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return x / x.norm(dim=-1, keepdim=True)


def reference_score(model, vector, layer, text):
    """Return ``cos(h, tanh(P h))`` of one prompt, ``h`` the mean over all its tokens."""
    h = token_states(model, text)[layer].mean(0)
    p = torch.tanh(torch.outer(vector, vector) / (vector @ vector) @ h)
    return float(h @ p / (h.norm() * p.norm()))


def condition(model, vector, layer, side):
    """Return a condition that some of the texts meet and some do not."""
    scores = sorted(reference_score(model, vector, layer, text) for text in TEXTS)
    middle = (scores[2] + scores[3]) / 2
    return CastCondition(vector, ConditionPoint(layer, middle, side, 1.0))


def reference_tokens(model, behaviour, text, fired):
    def edit(layer, h, length):
        if fired and layer in behaviour.layers:
            h += behaviour.strength * behaviour.vectors[layer]
        return h

    return uncached_tokens(model, text, edit, N)


@pytest.mark.parametrize(
    ("family", "layers", "side"),
    [
        ("llama", (3,), "larger"),
        ("llama", (0, 2, 3), "smaller"),
        ("gemma2", (0, 2, 3), "larger"),
        ("gpt2", (3,), "smaller"),
    ],
)
def test_every_row_has_its_own_condition_in_any_batch(family, layers, side):
    model = tiny_model(family)
    decider = condition(model, unit(32, seed=1), 2, side)
    behaviour = BehaviourVectors(vectors=unit(4, 32, seed=2) * 4, layers=layers)
    expected, fired, scores = [], [], []
    for text in TEXTS:
        score = reference_score(model, decider.vector, 2, text)
        above = score >= decider.point.threshold
        fired.append(above if side == "smaller" else not above)
        scores.append(score if side == "smaller" else -score)
        expected.append(reference_tokens(model, behaviour, text, fired[-1]))
    assert len(set(fired)) == 2
    assert expected != [list(r.tokens) for r in run(model)]
    steered = ConditionalIntervention(decider, fired=behaviour, name="cast")
    for rows in (1, 3):
        replies = run(model, steered, rows=rows)
        assert [r.decision.fired for r in replies] == fired
        assert [r.decision.score for r in replies] == pytest.approx(scores, abs=1e-4)
        assert [list(r.tokens) for r in replies] == expected


def test_the_condition_sees_every_prompt_token_and_no_padding(llama):
    """The opening's states count, so it is not shared; padding of any content does not."""
    decider = condition(llama, unit(32, seed=1), 2, "smaller")
    assert decider.whole_prompt
    states = [token_states(llama, text)[2] for text in TEXTS]
    width = max(len(s) for s in states) + 3
    hidden = torch.full((len(states), width, 32), torch.nan)
    mask = torch.zeros(len(states), width, dtype=torch.bool)
    for row, s in enumerate(states):
        hidden[row, -len(s) :], mask[row, -len(s) :] = s, True
    reading = decider.start(Batch(TEXTS, (None,) * len(TEXTS)))
    reading.read(2, hidden, Phase("prefill", mask))
    for decision, text in zip(reading.decide(), TEXTS):
        expected = reference_score(llama, decider.vector, 2, text)
        assert decision.score == pytest.approx(expected, abs=1e-5)
    replies = run(llama, ConditionalIntervention(decider))
    for reply, text in zip(replies, TEXTS):
        expected = reference_score(llama, decider.vector, 2, text)
        assert reply.decision.score == pytest.approx(expected, abs=1e-5)


def test_behaviour_without_condition_shares_the_edited_opening(llama):
    behaviour = BehaviourVectors(vectors=unit(4, 32, seed=2), layers=(1, 2), strength=5.0)
    expected = [reference_tokens(llama, behaviour, text, True) for text in TEXTS]
    for share in (True, False):
        replies = run(llama, Ungated(behaviour), share_opening=share)
        assert [list(r.tokens) for r in replies] == expected
    assert expected != [list(r.tokens) for r in run(llama)]


def test_strength_zero_and_a_condition_never_met_are_the_unchanged_model(llama):
    base = [r.tokens for r in run(llama)]
    vectors = unit(4, 32, seed=2)
    nothing = BehaviourVectors(vectors=vectors, layers=(1, 2), strength=0.0)
    assert [r.tokens for r in run(llama, Ungated(nothing))] == base
    never = CastCondition(unit(32, seed=1), ConditionPoint(1, 2.0, "smaller", 1.0))
    strong = BehaviourVectors(vectors=vectors, layers=(1, 2), strength=9.0)
    assert [r.tokens for r in run(llama, ConditionalIntervention(never, fired=strong))] == base


def test_only_real_tokens_of_marked_rows_change_by_the_strength():
    behaviour = BehaviourVectors(vectors=unit(4, 32, seed=2), layers=(1, 2), strength=2.5)
    hidden = torch.randn(3, 4, 32)
    mask = torch.tensor([[False, True, True, True], [True] * 4, [True] * 4])
    rows = torch.tensor([True, False, True])
    changed = behaviour.edit(1, hidden, rows, Phase("prefill", mask))
    where = mask & rows[:, None]
    assert torch.equal(changed[~where], hidden[~where])
    assert (changed - hidden)[where].norm(dim=-1) == pytest.approx([2.5] * 7, abs=1e-5)
    assert behaviour.edit(3, hidden, rows, Phase("prefill", mask)) is None
    assert behaviour.edit_opening(0, hidden) is None


def test_keys_tell_behaviours_apart():
    one = {"vectors": unit(4, 32, seed=2), "layers": (1, 2)}
    keys = {
        BehaviourVectors(**one).key,
        BehaviourVectors(**one, strength=1.0).key,
        BehaviourVectors(**{**one, "layers": (1,)}).key,
        BehaviourVectors(**{**one, "vectors": unit(4, 32, seed=3)}).key,
    }
    assert len(keys) == 4
    assert BehaviourVectors(**one).key in keys


def test_what_cannot_be_used_is_said():
    with pytest.raises(UserError, match="for 4 blocks"):
        BehaviourVectors(vectors=unit(4, 32, seed=2), layers=(3, 4))
    decider = CastCondition(unit(32, seed=1), ConditionPoint(1, 0.0, "smaller", 1.0))
    reading = decider.start(Batch(("a",), ("en",)))
    reading.read(1, torch.full((1, 2, 32), torch.nan), Phase("prefill", torch.ones(1, 2).bool()))
    with pytest.raises(BabelgateError, match="CAST's condition at block 1"):
        reading.decide()
