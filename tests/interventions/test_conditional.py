"""Decisions and actions in generation against one prompt at a time under plain hooks."""

from __future__ import annotations

import pytest
import torch

from babelgate.directions import Direction
from babelgate.generate import generate
from babelgate.interventions import (
    AddDirection,
    ConditionalIntervention,
    Decision,
    GateDecider,
    Nothing,
    ProjectOut,
    Say,
    Together,
    Ungated,
    everywhere,
)
from gates import random_gate, reference_score
from tiny import TEXTS, tiny_model
from uncached import uncached_tokens

N = 8


def run(model, texts, intervention=None, **options):
    found = {}
    for batch in generate(model, texts, max_new_tokens=N, intervention=intervention, **options):
        found |= {reply.index: reply for reply in batch}
    return [found[i] for i in range(len(texts))]


def direction(layer, seed=3, d=32):
    vector = torch.randn(d, generator=torch.Generator().manual_seed(seed))
    return Direction(vector / vector.norm(), layer, "t_post", "random", "test")


def slow_tokens(model, text, edit, *, forced=()):
    return uncached_tokens(model, text, edit, N, forced=forced)


def projected(v, layers, share=1.0):
    def edit(layer, h, length):
        if layer not in layers:
            return h
        for t in range(len(h)):
            h[t] = h[t] - share * (h[t] @ v) * v
        return h

    return edit


def added(v, at, alpha):
    def edit(layer, h, length):
        if layer == at:
            for t in range(length - 1, len(h)):
                h[t] = h[t] + alpha * v
        return h

    return edit


def untouched(layer, h, length):
    return h


ACTIONS = {
    "nothing": (Nothing(), untouched),
    "add early": (
        AddDirection(direction=direction(0), alpha=5.0),
        added(direction(0).vector, 0, 5.0),
    ),
    "add late": (
        AddDirection(direction=direction(3), alpha=-4.0),
        added(direction(3).vector, 3, -4.0),
    ),
    "project one": (
        ProjectOut(layers=(2,), direction=direction(1)),
        projected(direction(1).vector, (2,)),
    ),
    "project half": (
        ProjectOut(layers=(2, 3), direction=direction(1), share=0.5),
        projected(direction(1).vector, (2, 3), 0.5),
    ),
    "project everywhere": (
        ProjectOut(layers=everywhere(4), direction=direction(1)),
        projected(direction(1).vector, (-1, 0, 1, 2, 3)),
    ),
}


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
@pytest.mark.parametrize("name", ACTIONS)
def test_ungated_actions_equal_one_prompt_at_a_time(family, name):
    model = tiny_model(family)
    action, edit = ACTIONS[name]
    replies = run(model, TEXTS, Ungated(action))
    for text, reply in zip(TEXTS, replies):
        assert list(reply.tokens) == slow_tokens(model, text, edit)
        assert reply.decision is None


@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen3"])
@pytest.mark.parametrize(
    ("fired", "silent"),
    [
        ("add early", "nothing"),
        ("nothing", "project everywhere"),
        ("project one", "project everywhere"),
        ("project everywhere", "add late"),
        ("add late", "project one"),
        ("project half", "add early"),
    ],
)
@pytest.mark.parametrize("rows", [2, 64])
def test_each_row_gets_its_side_only(family, fired, silent, rows):
    model = tiny_model(family)
    gate = random_gate(model, TEXTS)
    both = ACTIONS[fired], ACTIONS[silent]
    intervention = ConditionalIntervention(
        GateDecider(gate), both[0][0], both[1][0], language_of=lambda _: None
    )
    assert intervention.reads_first == ("early" in fired + silent or "everywhere" in fired + silent)
    replies = run(model, TEXTS, intervention, rows=rows)
    sides = [reference_score(model, gate, text) >= gate.default_threshold for text in TEXTS]
    assert set(sides) == {True, False}
    for text, reply, side in zip(TEXTS, replies, sides):
        assert reply.decision.fired is side
        assert list(reply.tokens) == slow_tokens(model, text, both[0 if side else 1][1])


def test_actions_change_replies(llama):
    base = [r.tokens for r in run(llama, TEXTS)]
    for name, (action, _) in ACTIONS.items():
        same = [r.tokens for r in run(llama, TEXTS, Ungated(action))] == base
        assert same == (name == "nothing"), name


def test_strength_zero_is_the_untouched_model(llama):
    base = [r.tokens for r in run(llama, TEXTS)]
    for action in (
        AddDirection(direction=direction(1), alpha=0.0),
        ProjectOut(layers=everywhere(4), direction=direction(1), share=0.0),
    ):
        assert [r.tokens for r in run(llama, TEXTS, Ungated(action))] == base


def test_opening_words_are_said_and_gone_on_from(llama):
    said = Say(texts={"en": "No. ", "de": "Nein"})
    languages = ["en", "de", "sw", "de", "en", "de", "sw"]
    replies = run(llama, TEXTS, Ungated(said), languages=languages)
    for text, language, reply in zip(TEXTS, languages, replies):
        forced = llama.template.bare_tokens({"de": "Nein"}.get(language, "No. "))
        assert list(reply.tokens) == slow_tokens(llama, text, untouched, forced=forced)
        assert reply.text.startswith({"de": "Nein"}.get(language, "No. "))
        assert not reply.fixed


def test_fixed_replies_generate_nothing(llama):
    gate = random_gate(llama, TEXTS)
    said = Say("refuse", texts={"en": "I cannot help with that."}, final=True)
    replies = run(
        llama,
        TEXTS,
        ConditionalIntervention(GateDecider(gate), said, language_of=lambda _: None),
    )
    base = run(llama, TEXTS)
    assert {r.decision.fired for r in replies} == {True, False}
    for reply, plain in zip(replies, base):
        if reply.decision.fired:
            assert reply.fixed
            assert reply.text == "I cannot help with that."
            assert not reply.tokens
        else:
            assert not reply.fixed
            assert reply.tokens == plain.tokens


def test_actions_together_are_applied_in_order(llama):
    one, two = ACTIONS["add late"], ACTIONS["project everywhere"]
    replies = run(llama, TEXTS, Ungated(Together(parts=[two[0], one[0]])))
    for text, reply in zip(TEXTS, replies):
        expected = slow_tokens(
            llama, text, lambda layer, h, n: one[1](layer, two[1](layer, h, n), n)
        )
        assert list(reply.tokens) == expected


class TextDecider:
    """Fires on texts with a question mark: reads no block."""

    layers = ()
    whole_prompt = False

    def start(self, batch):
        self.texts = batch.texts
        self.languages = batch.languages
        return self

    def decide(self):
        return [
            Decision(float("?" in text), 0.5, "?" in text, language)
            for text, language in zip(self.texts, self.languages)
        ]


def test_a_decision_from_the_text_alone_comes_before_prefill(llama):
    name = "project everywhere"
    intervention = ConditionalIntervention(
        TextDecider(), ACTIONS[name][0], language_of=lambda _: None
    )
    assert not intervention.reads_first
    for text, reply in zip(TEXTS, run(llama, TEXTS, intervention)):
        edit = ACTIONS[name][1] if "?" in text else untouched
        assert list(reply.tokens) == slow_tokens(llama, text, edit)


def test_keys_tell_actions_apart():
    keys = [action.key for action, _ in ACTIONS.values()]
    keys += [Say(texts={"en": "No"}).key, Say(texts={"en": "No"}, final=True).key]
    assert len(set(keys)) == len(keys)
    again = ProjectOut("other name", layers=(2,), direction=direction(1))
    assert again.key == ACTIONS["project one"][0].key
