"""Actions on disk: back as they were, and every damage is one clear error."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from babelgate.action_file import Actions, fixed_actions, load_actions, remove_actions, save_actions
from babelgate.directions import Direction
from babelgate.errors import GateError
from babelgate.generate import generate
from babelgate.interventions.actions import (
    AddDirection,
    Nothing,
    ProjectOut,
    Say,
    Together,
    everywhere,
)
from babelgate.interventions.cast import BehaviourVectors
from babelgate.interventions.conditional import ConditionalIntervention
from babelgate.interventions.gated import GateDecider
from gates import random_gate
from tiny import TEXTS


def direction(layer, seed):
    vector = torch.randn(32, generator=torch.Generator().manual_seed(seed))
    return Direction(vector / vector.norm(), layer, "t_post", "refused - not refused", "en,de")


ADD = AddDirection("add", direction=direction(2, 0), alpha=2.0 / 3)
OUT = ProjectOut("out", layers=everywhere(4), direction=direction(1, 1), share=0.3)
SAY = Say("say", texts={"sw": "Hapana.", "en": "No."}, default="sw", final=True)
PAIRS = {
    "directions": (ADD, OUT),
    "words": (SAY, Nothing()),
    "one direction": (ADD, ProjectOut("out", layers=(2,), direction=ADD.direction)),
    "together": (Together("both", parts=[ADD, Say("open", texts={"en": "No"})]), OUT),
}


@pytest.mark.parametrize("name", PAIRS)
def test_there_and_back_with_equal_replies(llama, tmp_path, name):
    fired, silent = PAIRS[name]
    actions = Actions(fired, silent, {"chosen": "here", "prompts": ["en/1"]}, 0.05, 1 / 3)
    save_actions(actions, tmp_path)
    loaded = load_actions(tmp_path)
    assert loaded is not None
    assert loaded.key == actions.key
    assert (loaded.false_alarm, loaded.threshold_raise) == (0.05, 1 / 3)
    assert (loaded.fired.name, loaded.silent.name) == (fired.name, silent.name)
    assert (loaded.fired.layers, loaded.silent.layers) == (fired.layers, silent.layers)
    assert loaded.provenance == actions.provenance
    gate = random_gate(llama, TEXTS)
    texts = []
    for pair in (actions, loaded):
        way = ConditionalIntervention(GateDecider(gate), pair.fired, pair.silent)
        options = {"max_new_tokens": 5, "intervention": way, "languages": ["en"] * len(TEXTS)}
        made = [r for batch in generate(llama, TEXTS, **options) for r in batch]
        texts.append([(r.index, r.text, r.decision.fired) for r in made])
    assert texts[0] == texts[1]
    assert len({fired for _, _, fired in texts[0]}) == 2


def test_directions_keep_where_they_come_from(tmp_path):
    save_actions(Actions(ADD, OUT, {}), tmp_path)
    loaded = load_actions(tmp_path)
    assert loaded is not None
    for action, original in ((loaded.fired, ADD), (loaded.silent, OUT)):
        assert torch.equal(action.direction.vector, original.direction.vector)
        assert action.direction.method == "refused - not refused"
        assert action.direction.source == "en,de"


def test_no_file_means_no_actions(tmp_path):
    assert load_actions(tmp_path) is None
    save_actions(fixed_actions("asked for"), tmp_path)
    fixed = load_actions(tmp_path)
    assert fixed is not None
    assert fixed.fired.words("sw").final
    assert fixed.silent.key == "none"
    remove_actions(tmp_path)
    remove_actions(tmp_path)
    assert load_actions(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def document(folder, change):
    path = folder / "actions.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


DAMAGE = {
    "empty": lambda f: (f / "actions.json").write_text(""),
    "a list": lambda f: (f / "actions.json").write_text("[]"),
    "no text": lambda f: (f / "actions.json").write_bytes(b"\xff\xfe\xff"),
    "schema": lambda f: document(f, lambda d: d.update(schema=2)),
    "no schema": lambda f: document(f, lambda d: d.pop("schema")),
    "no side": lambda f: document(f, lambda d: d.pop("silent")),
    "side is text": lambda f: document(f, lambda d: d.update(fired="add")),
    "kind": lambda f: document(f, lambda d: d["fired"].update(kind="subtract")),
    "alpha": lambda f: document(f, lambda d: d["fired"].update(alpha="much")),
    "layers": lambda f: document(f, lambda d: d["silent"].update(layers=3)),
    "vector": lambda f: document(f, lambda d: d["fired"].update(vector="vector.9")),
    "direction": lambda f: document(f, lambda d: d["fired"]["direction"].pop("layer")),
    "provenance": lambda f: document(f, lambda d: d.update(provenance=None)),
    "no vectors": lambda f: (f / "actions.safetensors").unlink(),
    "cut vectors": lambda f: (f / "actions.safetensors").write_bytes(
        (f / "actions.safetensors").read_bytes()[:-7]
    ),
    "no safetensors": lambda f: (f / "actions.safetensors").write_text("hello"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_one_error(tmp_path, damage):
    save_actions(Actions(ADD, OUT, {}), tmp_path)
    DAMAGE[damage](tmp_path)
    with pytest.raises(GateError) as caught:
        load_actions(tmp_path)
    assert "actions" in str(caught.value)


def test_words_without_the_default_language(tmp_path):
    save_actions(Actions(SAY, Nothing(), {}), tmp_path)
    document(tmp_path, lambda d: d["fired"].update(default="xx"))
    with pytest.raises(GateError, match="'xx'"):
        load_actions(tmp_path)


def test_vectors_of_another_pair_are_noticed(tmp_path):
    """A kill between the two files leaves new vectors beside old words."""
    save_actions(Actions(ADD, OUT, {}), tmp_path / "a")
    other = AddDirection("add", direction=direction(2, 9), alpha=2.0 / 3)
    save_actions(Actions(other, OUT, {}), tmp_path / "b")
    shutil.copy(tmp_path / "b" / "actions.safetensors", tmp_path / "a")
    with pytest.raises(GateError, match="do not belong together"):
        load_actions(tmp_path / "a")


def test_an_action_without_a_file_format(tmp_path):
    behaviour = BehaviourVectors("b", layers=(1,), vectors=torch.ones(4, 32))
    with pytest.raises(GateError, match="BehaviourVectors"):
        save_actions(Actions(behaviour, Nothing(), {}), tmp_path)
    assert list(tmp_path.iterdir()) == []
