"""Which methods there are, and what they read and route by."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from babelgate.action_file import load_actions
from babelgate.comparing import run as comparing_run
from babelgate.comparing import states as states_module
from babelgate.comparing.fitted import FittedGate
from babelgate.comparing.methods import METHODS, chosen_methods
from babelgate.comparing.suffixes import suffix_states
from babelgate.errors import UserError
from babelgate.gate_file import load_gate
from babelgate.language_id import identify
from babelgate.plan import States
from babelgate.rivals.cast import condition_score

from .made import prompt_set


def test_the_default_is_all_that_can_run():
    everything = chosen_methods(None, cast_data=True, guard=True)
    assert everything == list(METHODS)
    assert everything[0] == "base"
    bare = chosen_methods(None, cast_data=False, guard=False)
    assert set(everything) - set(bare) == {"cast-zero-shot", "cast-adapted", "guard"}


def test_the_docs_list_every_method():
    page = (Path(__file__).parents[2] / "docs" / "compare.md").read_text(encoding="utf-8")
    section = page.split("## The methods\n")[1].split("\n## ")[0]
    assert re.findall(r"^\| `([^`]+)` \| .*\S.* \|$", section, re.MULTILINE) == list(METHODS)


def test_methods_that_are_named_come_after_the_base():
    def chosen(*names):
        return chosen_methods(names, cast_data=False, guard=False)

    assert chosen("paper", "gate", "paper", "base") == ["base", "paper", "gate"]
    with pytest.raises(UserError, match="Did you mean 'omniguard'"):
        chosen("omnigard")


def test_identified_languages_choose_the_thresholds(finished):
    setting = finished.setting
    right = finished.contenders["gate"]
    found = finished.contenders["gate-identified-language"]
    actions = load_actions(finished.out / "gate")
    assert actions is not None
    default = load_gate(finished.out / "gate").default_threshold + actions.threshold_raise
    own = {p.language: right.routes.thresholds[:, i] for i, p in enumerate(setting.test)}
    np.testing.assert_array_equal(found.routes.scores, right.routes.scores)
    for i, prompt in enumerate(setting.test):
        code = identify(prompt.text).code
        expected = own.get(code, np.full(2, default))
        np.testing.assert_allclose(found.routes.thresholds[:, i], expected, atol=1e-4)


def test_raised_thresholds_keep_left_out_sources_within_the_rate(finished):
    own = finished.settings.calibration()
    plan = finished.setting.plan
    states = comparing_run._stored(finished.setting.model, plan, own)
    fitted = FittedGate.of(load_gate(finished.out / "gate"), plan, states, own)
    scores = fitted.fitter.scores(fitted.choice.layers, fitted.choice.l2, plan.sources)
    harmless = [
        scores[p.language][fitted.fitter.data.row[p.key]]
        for p in plan.prompts
        if p.language in plan.sources and p.split == "val" and not p.harmful
    ]
    assert len(harmless) == 8
    for rate in (0.0, 0.05, 0.25, 0.5):
        raised = fitted.raised(rate)
        assert raised.threshold >= fitted.statistics.threshold
        assert np.mean(np.array(harmless) >= raised.threshold) <= rate
    bounded = finished.contenders["gate-false-alarm-5"].routes
    gate = finished.contenders["gate"].routes
    assert (bounded.thresholds >= gate.thresholds - 1e-12).all()


def test_the_papers_gate_reads_one_block(finished):
    paper = finished.contenders["paper"]
    assert len(paper.facts["layers"]) == 1
    assert paper.fired.name == "add-harmfulness-paper"
    assert paper.silent.action.layers == (paper.layer,)


def mean_states(model, text, suffix=""):
    """Return the mean of every block's output over a prompt's (or its suffix's) tokens."""
    asked = model.encode([text]).ids[0]
    said = model.template.bare_tokens(suffix) if suffix else ()
    with torch.inference_mode():
        found = []
        handles = [
            b.register_forward_hook(
                lambda _m, _i, out: found.append(out[0] if isinstance(out, tuple) else out)
            )
            for b in model.blocks
        ]
        model.model(input_ids=torch.tensor([[*asked, *said]]))
        for handle in handles:
            handle.remove()
    start = len(asked) if suffix else 0
    return torch.stack([h[0, start:].mean(0) for h in found])


def test_casts_condition_is_the_one_of_highest_f1(finished, llama):
    """Over prompts and blocks, not over blocks and prompts."""
    contender = finished.contenders["cast-adapted"]
    setting = finished.setting
    train = [*setting.source_prompts("train"), *setting.all_shots(0)]
    vector, point = contender.decider.vector, contender.decider.point
    states = torch.stack([mean_states(llama, p.text)[point.layer] for p in train])
    scores = condition_score(states, vector).double().numpy()
    met = point.sign * scores >= point.sign * point.threshold
    harmful = np.array([p.harmful for p in train])
    f1 = 2 * (met & harmful).sum() / (met.sum() + harmful.sum())
    assert point.f1 == pytest.approx(f1, abs=0.05)
    assert point.f1 >= 2 / 3 - 1e-9  # what firing always achieves
    assert contender.layer == point.layer


def test_suffix_states_are_means_over_the_suffix_alone(llama):
    questions = ["Hi", "How do I bake bread without an oven?", "x"]
    suffixes = ["No, I cannot do that.", "Y", "Of course"]
    found = suffix_states(llama, questions, suffixes, rows=2)
    assert found.shape == (3, 4, 32)
    for i, (question, suffix) in enumerate(zip(questions, suffixes)):
        expected = mean_states(llama, question, suffix)
        torch.testing.assert_close(found[i], expected, atol=2e-5, rtol=2e-5)


def test_states_are_read_where_calibration_has_them_and_captured_once_otherwise(
    finished, llama, monkeypatch, tmp_path
):
    calls, captured = [], []
    real = states_module.capture

    def counting(model, prompts, *rest, **options):
        calls.append(options["positions"])
        captured.append([p.key for p in prompts])
        return real(model, prompts, *rest, **options)

    monkeypatch.setattr(states_module, "capture", counting)
    known = finished.setting.states.known
    reader = states_module.StateReader(llama, tmp_path, known)
    train = finished.setting.source_prompts("train")[::-1][:5]
    last = reader(train, 2, "t_post")
    assert calls == []
    torch.testing.assert_close(last, known.layer(2, [p.key for p in train]))
    test = [p for p in prompt_set(("sw",)) if p.split == "test"]
    mean = reader(test, 3, "mean")
    expected = torch.stack([mean_states(llama, p.text)[3] for p in test])
    torch.testing.assert_close(mean, expected, atol=2e-5, rtol=2e-5)
    turned = reader(test[::-1][:2], 3, "mean")
    torch.testing.assert_close(turned, mean.flip(0)[:2])
    assert calls == [("mean",)]
    mixed = [test[3], train[1], test[0], train[0]]
    expected = torch.stack([mean_states(llama, p.text)[3] for p in mixed])
    torch.testing.assert_close(reader(mixed, 3, "mean"), expected, atol=2e-5, rtol=2e-5)
    assert captured[1:] == [[train[1].key, train[0].key]]  # only what was not held
    other = replace(test[0], text=test[1].text)
    torch.testing.assert_close(reader([other], 3, "mean")[0], mean[1], atol=2e-5, rtol=2e-5)
    assert captured.pop() == [other.key]  # a key with another text
    assert calls.pop() == ("mean",)
    assert calls == [("mean",), ("mean",)]
    del calls[1:]
    reader(test, 0, "t_post")  # block 0 is not among calibration's
    assert calls == [("mean",), ("t_post",)]
    again = states_module.StateReader(llama, tmp_path, States(()))
    torch.testing.assert_close(again(test, 3, "mean"), mean)
