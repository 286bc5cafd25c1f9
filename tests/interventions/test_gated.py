"""The fused gate against the two-pass way, and its laws."""

from __future__ import annotations

import pytest
import torch

from babelgate.errors import BabelgateError
from babelgate.generate import generate
from babelgate.interventions import Batch, Phase, gated
from babelgate.models import ChatModel
from gates import random_gate, reference_score, two_pass_tokens
from tiny import TEXTS, raw_model, tiny_model, tokenizer

N = 10


def run(model, texts, intervention=None, **options):
    """Return replies in the order of the texts."""
    found = {}
    for batch in generate(model, texts, max_new_tokens=N, intervention=intervention, **options):
        found |= {reply.index: reply for reply in batch}
    return [found[i] for i in range(len(texts))]


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "qwen3"])
@pytest.mark.parametrize("rows", [1, 3, 64])
def test_fused_gate_equals_two_passes(family, rows):
    model = tiny_model(family)
    gate = random_gate(model, TEXTS)
    replies = run(model, TEXTS, gated(gate, language_of=lambda _: None), rows=rows)
    fired = []
    for text, reply in zip(TEXTS, replies):
        score = reference_score(model, gate, text)
        assert reply.decision.score == pytest.approx(score, abs=1e-3)
        fired.append(score >= gate.default_threshold)
        assert reply.decision.fired is fired[-1]
        expected = two_pass_tokens(model, gate, text, fired=fired[-1], max_new_tokens=N)
        assert list(reply.tokens) == expected
    assert any(fired)
    assert not all(fired)


def test_one_token_prompts():
    bare = tokenizer()
    bare.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    model = ChatModel.wrap(raw_model("llama"), bare)
    texts = ["a", "b", "c", "d", "e", "f"]
    assert model.encode(texts).lengths == [1] * 6
    gate = random_gate(model, texts)
    replies = run(model, texts, gated(gate, language_of=lambda _: None))
    for text, reply in zip(texts, replies):
        fired = reference_score(model, gate, text) >= gate.default_threshold
        assert reply.decision.fired is fired
        expected = two_pass_tokens(model, gate, text, fired=fired, max_new_tokens=N)
        assert list(reply.tokens) == expected
    assert {r.decision.fired for r in replies} == {True, False}


def test_gate_changes_replies_and_strength_zero_does_not(llama):
    gate = random_gate(llama, TEXTS, alpha=8.0)
    base = [r.tokens for r in run(llama, TEXTS)]
    nothing = gated(gate, alpha=0.0, ablate=False, language_of=lambda _: None)
    assert [r.tokens for r in run(llama, TEXTS, nothing)] == base
    steered = gated(gate, language_of=lambda _: None)
    assert [r.tokens for r in run(llama, TEXTS, steered)] != base


def test_strength_zero_leaves_states_bit_for_bit(llama):
    gate = random_gate(llama, TEXTS)
    for dtype in (torch.float32, torch.bfloat16):
        steering = gated(gate, alpha=0.0, ablate=False).start(Batch(("a", "b"), ("en", "en")))
        hidden = torch.randn(2, 5, 32).to(dtype)
        phase = Phase("prefill", torch.ones(2, 5, dtype=torch.bool))
        for layer in gate.layers:
            steering.at_block(layer, hidden, phase)
        changed = steering.at_block(gate.steer_layer, hidden, phase)
        # Nothing to do where no row fires.
        assert changed is None or torch.equal(changed, hidden)


def test_norm_of_the_change_is_the_strength(llama):
    gate = random_gate(llama, TEXTS, alpha=2.5)
    steering = gated(gate).start(Batch(("a", "b"), ("en", "en")))
    hidden = torch.randn(2, 4, 32)
    mask = torch.tensor([[False, True, True, True], [True, True, True, True]])
    for layer in gate.layers:
        changed = steering.at_block(layer, hidden, Phase("prefill", mask))
    for row, decision in enumerate(steering.decisions()):
        change = (changed - hidden)[row]
        if decision.fired:
            assert change[-1].norm() == pytest.approx(2.5, abs=1e-4)
            assert not change[:-1].any()
        else:
            inside = changed[row][mask[row]] @ gate.direction
            assert inside.abs().max() < 1e-5
            assert not change[~mask[row]].any()


def test_each_row_uses_its_own_language(llama):
    text = TEXTS[1]
    score = reference_score(llama, random_gate(llama, TEXTS), text)
    gate = random_gate(llama, TEXTS, thresholds={"low": score - 1.0, "high": score + 1.0})
    replies = run(llama, [text] * 3, gated(gate), languages=["low", "high", "unheard-of"])
    assert [r.decision.fired for r in replies[:2]] == [True, False]
    assert replies[2].decision.threshold == gate.default_threshold


def test_unknown_languages_are_identified_row_by_row(llama):
    asked = []

    def guess(text):
        asked.append(text)
        return "ru" if "я" in text else None

    gate = random_gate(llama, TEXTS, thresholds={"ru": 123.0, "en": -123.0})
    texts = ["как я живу?", "hello you", "hi"]
    replies = run(llama, texts, gated(gate, language_of=guess), languages=[None, None, "en"])
    assert sorted(asked) == sorted(texts[:2])
    assert [r.decision.threshold for r in replies] == [123.0, gate.default_threshold, -123.0]
    assert [r.decision.language for r in replies] == ["ru", None, "en"]


def test_finished_rows_leave_without_disturbing_the_others(llama):
    gate = random_gate(llama, TEXTS, alpha=4.0)
    steered = gated(gate, language_of=lambda _: None)
    limits = [1, 12, 2, 12, 3, 12, 4]
    together, alone = {}, {}
    for batch in generate(llama, TEXTS, max_new_tokens=limits, intervention=steered, rows=7):
        together |= {r.index: r.tokens for r in batch}
    for i, text in enumerate(TEXTS):
        for batch in generate(llama, [text], max_new_tokens=limits[i], intervention=steered):
            alone[i] = batch[0].tokens
    assert together == alone


def test_scores_that_are_not_finite_are_an_error(llama):
    gate = random_gate(llama, TEXTS)
    steering = gated(gate).start(Batch(("a",), ("en",)))
    hidden = torch.full((1, 3, 32), torch.nan)
    phase = Phase("prefill", torch.ones(1, 3, dtype=torch.bool))
    steering.at_block(gate.layers[0], hidden, phase)
    with pytest.raises(BabelgateError, match="not finite"):
        steering.at_block(gate.layers[1], hidden, phase)


def test_decisions_agree_between_fitting_and_deployment_in_bfloat16():
    model = tiny_model("llama", dtype=torch.bfloat16)
    gate = random_gate(model, TEXTS)
    replies = run(model, TEXTS, gated(gate, language_of=lambda _: None), rows=1)
    for text, reply in zip(TEXTS, replies):
        assert reply.decision.score == pytest.approx(reference_score(model, gate, text), abs=0.05)
