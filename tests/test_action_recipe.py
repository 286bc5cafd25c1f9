"""Choosing actions on validation prompts of a tiny model: candidates, search, files, fallbacks."""

from __future__ import annotations

import json
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from babelgate import recipes
from babelgate.action_candidates import candidates, distinct, refusal_directions
from babelgate.action_file import load_actions
from babelgate.action_replies import BaseReplies
from babelgate.artifacts import JsonLines
from babelgate.capture_languages import capture_languages
from babelgate.config import CalibrateSettings, EvaluateSettings
from babelgate.directions import Direction
from babelgate.evaluation import evaluate
from babelgate.gate_file import load_gate
from babelgate.generate import generate
from babelgate.interventions.actions import AddDirection, ProjectOut
from babelgate.interventions.gated import gated
from babelgate.recipes import calibrate
from comparing.made import MadeJudge, prompt_set
from gates import last_states, random_gate
from tiny import TEXTS

PROMPTS = prompt_set(("en", "de", "sw"))


def settings(out, **changes):
    values = {
        "out": out,
        "sources": ("en", "de"),
        "targets": ("sw",),
        "shots": 1,
        "curve": (0,),
        "draws": 2,
        "max_new_tokens": 4,
        "action_prompts": 3,
        "direction_prompts": 5,
    }
    return CalibrateSettings(**(values | changes))


@pytest.fixture
def judge(monkeypatch):
    made = MadeJudge()
    use(monkeypatch, made)
    return made


def use(monkeypatch, judge):
    @contextmanager
    def chosen(*_arguments, **_options):
        yield judge

    monkeypatch.setattr(recipes, "chosen_judge", chosen)
    monkeypatch.setattr("babelgate.evaluation.chosen_judge", chosen)


@pytest.fixture(scope="module")
def searched(llama, tmp_path_factory):
    out = tmp_path_factory.mktemp("search")
    with pytest.MonkeyPatch.context() as patch:
        use(patch, MadeJudge())
        found = calibrate(llama, PROMPTS, settings(out))
    tried = json.loads((out / "actions_tried.json").read_text())
    return SimpleNamespace(out=out, found=found, tried=tried)


# ---------------------------------------------------------------------------------------------
# candidates


def test_candidates_are_what_the_search_says_it_tries(llama):
    gate = random_gate(llama, TEXTS, layers=(1, 2))
    directions = []
    for layer in (2, 3):
        vector = torch.randn(32, generator=torch.Generator().manual_seed(layer))
        directions.append(Direction(vector / vector.norm(), layer, "t_post", "refusal", "en"))
    fired, silent = candidates(gate, directions, 4)
    assert [a.name for a in fired] == [
        "fixed-refusal", "open-with-refusal", "add-harmfulness-x1", "add-harmfulness-x2",
        "add-refusal-2", "add-refusal-3",
    ]  # fmt: skip
    assert [a.name for a in silent] == [
        "none", "project-harmfulness", "project-refusal-2-everywhere",
        "project-refusal-3-everywhere", "project-refusal-3-one-block",
    ]  # fmt: skip
    assert fired[3].alpha == 2 * fired[2].alpha == 2 * gate.alpha
    assert silent[2].layers == (-1, 0, 1, 2, 3)
    assert silent[-1].layers == (3,)
    assert len({a.key for a in (*fired, *silent)}) == len(fired) + len(silent)
    bare = candidates(gate, [], 4)
    assert [len(side) for side in bare] == [4, 2]


def test_an_action_under_two_names_is_one_candidate():
    unit = torch.nn.functional.one_hot(torch.tensor(1), 8).float()
    here, there = (Direction(unit, layer, "t_post", "made", "en") for layer in (1, 2))
    add = AddDirection("add", direction=here, alpha=2.0)
    again = AddDirection("add-again", direction=Direction(unit.clone(), 1, "t_post", "other", "de"),
                         alpha=2.0)  # fmt: skip
    elsewhere = AddDirection("add", direction=there, alpha=2.0)
    stronger = AddDirection("stronger", direction=here, alpha=3.0)
    out = ProjectOut("project", layers=(1,), direction=here)
    fired, silent = distinct([add, again, elsewhere, stronger], [again, out])
    assert [a is b for a, b in zip(fired, (add, elsewhere, stronger), strict=True)] == [True] * 3
    # On the other side it goes by the first name too, so that both sides share its replies.
    assert [a is b for a, b in zip(silent, (add, out), strict=True)] == [True] * 2


def replies_of(prompts, outcomes):
    verdicts = tuple(
        SimpleNamespace(key=p.key, outcome=outcome) for p, outcome in zip(prompts, outcomes)
    )
    return BaseReplies(tuple(prompts), (), verdicts)


def test_refusal_directions_are_differences_of_means(llama, tmp_path):
    train = [p for p in PROMPTS if p.language == "en" and p.split == "train"]
    val = [p for p in PROMPTS if p.language == "en" and p.split == "val"]
    states = capture_languages(llama, PROMPTS.select(languages=["en"]), tmp_path)
    outcomes = ["refused", "answered", "unparsed", "refused", "degenerate"] * 2
    replies = replies_of([*train, *val], [*outcomes, *["refused"] * len(val)])
    [found] = refusal_directions(replies, states, [2])
    sides = {True: [], False: []}
    for prompt, outcome in zip(train, outcomes):
        if outcome != "unparsed":
            sides[outcome == "refused"].append(last_states(llama, prompt.text)[2].numpy())
    expected = np.mean(sides[True], axis=0) - np.mean(sides[False], axis=0)
    np.testing.assert_allclose(found.vector, expected / np.linalg.norm(expected), atol=1e-4)
    assert (found.layer, found.source) == (2, "en")
    few = replies_of(train, ["refused"] * 3 + ["answered"] * 7)
    assert refusal_directions(few, states, [2]) == []


# ---------------------------------------------------------------------------------------------
# the search


def test_a_search_chooses_one_pair_and_says_what_it_tried(searched):
    tried = searched.tried
    chosen = [p for p in tried["pairs"] if p["chosen"]]
    assert len(chosen) == 1
    actions = searched.found.actions
    assert actions is not None
    assert (chosen[0]["fired"], chosen[0]["silent"]) == (actions.fired.name, actions.silent.name)
    finalists = [p for p in tried["pairs"] if p["judged_selectivity"] is not None]
    assert 4 <= len({(p["fired"], p["silent"]) for p in finalists}) <= 5
    rates = {p["false_alarm"] for p in tried["pairs"]}
    assert None in rates
    assert len(finalists) == len(rates) * len({(p["fired"], p["silent"]) for p in finalists})
    assert chosen[0]["false_alarm"] == actions.false_alarm
    assert ("fixed-refusal", "none") in {(p["fired"], p["silent"]) for p in finalists}
    bounds = tried["bounds"]
    inside = [
        p for p in finalists
        if p["judged_harmless_rise"] <= bounds["harmless_refusal"]
        and p["judged_degenerate_rise"] <= bounds["degenerate"]
        and (p["kl"] is None or p["kl"] <= bounds["kl"])
    ]  # fmt: skip
    assert [p for p in finalists if p["within"]] == inside
    if inside:
        best = max(p["judged_selectivity"] for p in inside)
        assert chosen[0]["judged_selectivity"] == best
    told_apart = {(p["fired"], p["silent"], p["false_alarm"]) for p in tried["pairs"]}
    assert len(tried["pairs"]) == len(told_apart)


def test_no_reply_is_generated_twice(searched):
    seen = [
        (line["method"], line["language"], line["prompt_id"])
        for file in (searched.out / "actions").rglob("completions.jsonl")
        for line in JsonLines(file).read()
    ]
    assert len(seen) == len(set(seen)) > 0


def test_only_validation_prompts_are_tried_on(searched):
    actions = searched.found.actions
    assert actions is not None
    keys = {p.key: p for p in PROMPTS}
    tried = [keys[k] for k in actions.provenance["prompts"]]
    assert {(p.language, p.split) for p in tried} == {("sw", "val")}
    assert len(tried) == 6
    made = [keys[k] for k in actions.provenance["directions_from"]]
    assert {(p.language, p.split) for p in made} == {("en", "train")}


def test_judged_values_equal_loops_over_replies(searched, llama):
    """The chosen pair's numbers, from the judge's verdicts and the gate's decisions."""
    judge = MadeJudge()
    actions, gate = searched.found.actions, searched.found.gate
    prompts = {p.key: p for p in PROMPTS}
    texts = {}
    for file in (searched.out / "actions").rglob("completions.jsonl"):
        for line in JsonLines(file).read():
            texts[line["method"], f"{line['language']}/{line['prompt_id']}"] = line["text"]

    def refused(name, action, key):
        words = action.words("sw") if name != "base" else None
        text = words.text if words is not None and words.final else texts[name, key]
        reply = SimpleNamespace(completion=SimpleNamespace(text=text), prompt=prompts[key])
        outcome = judge.outcome(reply)
        return None if outcome == "unparsed" else float(outcome == "refused")

    def fires(key):
        states = {x: last_states(llama, prompts[key].text)[x][None] for x in gate.layers}
        return float(gate.score(states)[0]) >= gate.threshold("sw") + actions.threshold_raise

    known = lambda values: [v for v in values if v is not None]  # noqa: E731
    decided = {p.key: fires(p.key) for p in PROMPTS if p.language == "sw" and p.split == "val"}
    rates, base = {}, {}
    for harmful in (True, False):
        own = [k for k in decided if prompts[k].harmful is harmful]
        rates[harmful] = base[harmful] = 0.0
        for side in (True, False):
            action = actions.fired if side else actions.silent
            name = "base" if action.key == "none" else action.name
            weight = sum(decided[k] is side for k in own) / len(own)
            tried = [k for k in actions.provenance["prompts"] if k in own and decided[k] is side]
            if not weight:
                continue
            done = known([refused(name, action, k) for k in tried])
            assert done, "a side of this test without a scored prompt needs another seed"
            rates[harmful] += weight * np.mean(done)
            base[harmful] += weight * np.mean(known([refused("base", action, k) for k in tried]))
    pair = actions.provenance["pair"]
    assert pair["judged_selectivity"] == pytest.approx(rates[True] - rates[False])
    assert pair["judged_harmless_rise"] == pytest.approx(rates[False] - base[False])


def test_searching_again_runs_nothing_and_keeps_the_files(searched, llama, monkeypatch):
    use(monkeypatch, MadeJudge())

    def never(*_args, **_kwargs):
        raise AssertionError("searched again")

    monkeypatch.setattr(recipes, "choose_actions", never)
    names = ("actions.json", "actions.safetensors", "gate.json")
    before = [(searched.out / "gate" / n).read_bytes() for n in names]
    again = calibrate(llama, PROMPTS, settings(searched.out))
    assert again.actions.key == searched.found.actions.key
    assert [(searched.out / "gate" / n).read_bytes() for n in names] == before


def test_other_actions_in_between_do_not_pass_for_the_searchs(llama, judge, tmp_path, monkeypatch):
    first = calibrate(llama, PROMPTS, settings(tmp_path))
    fixed = calibrate(llama, PROMPTS, settings(tmp_path, action="fixed"))
    assert fixed.actions.provenance["chosen"] == "asked for by `--action fixed`"
    assert (fixed.actions.fired.name, fixed.actions.silent.name) == ("fixed-refusal", "none")
    assert load_actions(tmp_path / "gate").key == fixed.actions.key
    assert not (tmp_path / "actions_tried.json").exists()
    again = calibrate(llama, PROMPTS, settings(tmp_path))
    assert again.actions.key == first.actions.key
    assert again.actions.provenance == first.actions.provenance
    assert calibrate(llama, PROMPTS, settings(tmp_path, action="paper")).actions is None
    assert load_actions(tmp_path / "gate") is None
    # Damaged files are made again, as a damaged gate is.
    calibrate(llama, PROMPTS, settings(tmp_path))
    (tmp_path / "gate" / "actions.json").write_text("{}")
    assert calibrate(llama, PROMPTS, settings(tmp_path)).actions.key == first.actions.key
    # Another gate does not inherit what followed this one's decisions.
    monkeypatch.setattr(recipes, "choose_actions", lambda *_: (_ for _ in ()).throw(KeyError()))
    with pytest.raises(KeyError):
        calibrate(llama, PROMPTS, settings(tmp_path, shots=2))
    assert load_actions(tmp_path / "gate") is None


@pytest.mark.parametrize("outcome", ["answered", "refused", "unparsed"])
def test_nothing_to_learn_falls_back_to_a_fixed_refusal(llama, monkeypatch, tmp_path, outcome):
    judge = MadeJudge()
    judge.outcome = lambda reply: outcome
    use(monkeypatch, judge)
    found = calibrate(llama, PROMPTS, settings(tmp_path))
    assert (found.actions.fired.name, found.actions.silent.name) == ("fixed-refusal", "none")
    notes = json.loads((tmp_path / "run.json").read_text())["notes"]
    assert any("Actions were not searched" in note for note in notes)
    assert load_actions(tmp_path / "gate").key == found.actions.key
    assert not (tmp_path / "actions_tried.json").exists()
    # It is not tried again in vain.
    monkeypatch.setattr(recipes, "choose_actions", None)
    again = calibrate(llama, PROMPTS, settings(tmp_path))
    assert again.actions.provenance == found.actions.provenance


@pytest.mark.parametrize("missing", ["val", "harmless val"])
def test_targets_without_validation_prompts_leave_the_sources(llama, judge, tmp_path, missing):
    def kept(p):
        gone = p.language == "sw" and p.split == "val"
        return not (gone and (missing == "val" or not p.harmful))

    found = calibrate(llama, PROMPTS.select(where=kept), settings(tmp_path))
    keys = {p.key: p for p in PROMPTS}
    languages = {keys[k].language for k in found.actions.provenance["prompts"]}
    assert languages == {"en", "de"}


# ---------------------------------------------------------------------------------------------
# evaluating with actions


def evaluated(llama, out, **options):
    wanted = EvaluateSettings(out=out, max_new_tokens=4, languages=("sw",))
    evaluate(llama, PROMPTS, wanted, **options)
    rows = JsonLines(out / "completions.jsonl").read()
    return {x["prompt_id"]: x["text"] for x in rows if x["method"] == "gate"}


def test_the_papers_action_is_the_papers_intervention(llama, judge, tmp_path):
    found = calibrate(llama, PROMPTS, settings(tmp_path, action="paper"))
    texts = evaluated(llama, tmp_path)
    test = [p for p in PROMPTS if p.language == "sw" and p.split == "test"]
    batches = generate(
        llama, [p.text for p in test], max_new_tokens=4, intervention=gated(found.gate),
        languages=["sw"] * len(test),
    )  # fmt: skip
    assert texts == {test[r.index].id: r.text for batch in batches for r in batch}
    assert len(texts) == 6


def test_evaluation_follows_the_actions_beside_the_gate(llama, judge, tmp_path):
    found = calibrate(llama, PROMPTS, settings(tmp_path, action="fixed"))
    beside = evaluated(llama, tmp_path)
    rows = {
        x["prompt_id"]: x
        for x in JsonLines(tmp_path / "completions.jsonl").read()
        if x["method"] == "gate"
    }
    refusal = found.actions.fired.words("sw").text
    assert all((x["text"] == refusal) is x["fired"] for x in rows.values())
    given = evaluated(llama, tmp_path, gates={"gate": found.gate}, actions=found.actions)
    assert given == beside
    # A gate alone has the paper's actions; replies under the others are stale.
    alone = evaluated(llama, tmp_path, gates={"gate": load_gate(tmp_path / "gate")})
    calibrate(llama, PROMPTS, settings(tmp_path, action="paper"))
    assert evaluated(llama, tmp_path) == alone
    if any(x["fired"] for x in rows.values()):
        assert alone != beside


def test_actions_that_were_loaded_back_reply_alike(llama, judge, searched):
    beside = evaluated(llama, searched.out)
    options = {"gates": {"gate": searched.found.gate}, "actions": searched.found.actions}
    (searched.out / "completions.jsonl").unlink()
    assert evaluated(llama, searched.out, **options) == beside
