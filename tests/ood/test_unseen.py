"""Prompts that a gate has not seen: every way of being seen is dropped and counted."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ood_prompts import prompt

from babelgate.errors import PromptError
from babelgate.ood import seen_by, unseen_set
from babelgate.types import PromptSet


def test_what_a_gate_has_seen():
    known = [
        prompt(0, "en", split="train"),
        prompt(1, "en", split="train"),
        prompt(2, "en", split="val"),
        prompt(3, "sw", split="train"),
        prompt(4, "sw", split="val"),
        prompt(5, "en", split="test"),
    ]
    provenance = {
        "fitted_on": ["en/harmful-train-0"],
        "shots": ["sw/harmful-train-3"],
        "roles": {"en": "source", "sw": "target"},
    }
    assert [p.key for p in seen_by(provenance, known)] == [
        "en/harmful-train-0",
        "en/harmful-val-2",  # layers and thresholds were chosen on it
        "sw/harmful-train-3",
    ]
    with pytest.raises(PromptError, match="'sw/harmful-train-3'"):
        seen_by(provenance, known[:3])
    assert seen_by({}, known) == []


LONG = "Please explain to me in plain words how one should {} without being noticed by anybody"


def test_every_way_of_being_seen_is_dropped_and_counted():
    seen = [
        prompt(0, split="train", text=LONG.format("copy a key")),
        prompt(1, "sw", split="train", group_id="shared"),
        prompt(2, split="train", text="Something entirely different altogether"),
    ]
    own = [
        prompt(10, text=LONG.format("COPY  a key"), group_id="exact"),
        prompt(10, "sw", group_id="exact"),
        prompt(11, text=LONG.format("copy a lock"), group_id="near"),
        prompt(12, "sw", group_id="shared"),
        prompt(13, text="The very same words"),
        prompt(14, text="The very same words"),
        prompt(15),
        prompt(16, "sw"),
        prompt(17, "de"),
        replace(seen[2], split="test"),
    ]
    other = [
        prompt(20, label="harmless"),
        prompt(21, "sw", label="harmless"),
        prompt(22, label="harmless", split="train"),
        prompt(23, label="harmful"),
    ]
    found = unseen_set(PromptSet("a", tuple(own)), PromptSet("b", tuple(other)), seen)
    assert [p.key for p in found.prompts] == [
        "en/harmful-test-13", "en/harmful-test-15", "sw/harmful-test-16",
        "en/harmless-test-20", "sw/harmless-test-21",
    ]  # fmt: skip
    assert found.prompts.name == "a+b"
    counts = {(d.language, d.label, d.reason): d.n for d in found.dropped}
    assert counts == {
        ("en", "harmful", "repeats a seen prompt"): 1,
        ("sw", "harmful", "its translation was seen or is left out"): 2,
        ("en", "harmful", "nearly repeats a seen prompt"): 1,
        ("en", "harmful", "repeats another prompt of the set"): 1,
        ("en", "harmful", "was seen by the gate"): 1,
        ("de", "harmful", "its language has no harmless prompts"): 1,
    }


def test_what_only_english_shows_goes_although_english_is_not_asked_for():
    seen = [prompt(0, split="train", text="How to copy a key")]
    own = [prompt(10, text="How to copy a key", group_id="g"), prompt(10, "sw", group_id="g"),
           prompt(11, "sw")]  # fmt: skip
    other = PromptSet("b", (prompt(20, "sw", label="harmless"),))
    found = unseen_set(PromptSet("a", tuple(own)), other, seen, languages=["sw"])
    assert [p.key for p in found.prompts] == ["sw/harmful-test-11", "sw/harmless-test-20"]
    with pytest.raises(PromptError, match="none of the languages en"):
        unseen_set(PromptSet("a", tuple(own)), other, seen, languages=["en"])
