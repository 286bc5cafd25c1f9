"""Comparisons end to end on a tiny model: shared replies, resumption, errors told in time."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from babelgate import completions
from babelgate.action_file import load_actions
from babelgate.comparing import run as comparing_run
from babelgate.comparing.contenders import needed
from babelgate.comparing.replies import file_name, fixed_replies
from babelgate.comparing.results import load_comparison
from babelgate.comparing.run import compare
from babelgate.completions import reply_limits
from babelgate.errors import LanguageError, PromptError, UserError
from babelgate.gate_file import load_gate
from babelgate.generate import generate
from babelgate.types import PromptSet

from .made import MadeJudge, generated, prompt_set, recorded, settings, use_judge

ROUTED = (
    "gate", "gate-false-alarm-5", "gate-no-recalibration", "gate-paper-threshold",
    "gate-paper-actions", "gate-fixed-refusal", "gate-identified-language", "gate-wrong-language",
    "paper", "full-space-logistic", "mean-difference", "unsupervised-pca", "random-direction",
    "shuffled-labels", "cast-zero-shot", "cast-adapted", "omniguard", "guard",
)  # fmt: skip


def deployed(model, setting, contender, limits):
    """Return the replies of the method as it would be deployed, in the order of the prompts."""
    found = {}
    batches = generate(
        model,
        [p.text for p in setting.test],
        max_new_tokens=[limits[p.language] for p in setting.test],
        intervention=contender.intervention(),
        languages=[p.language for p in setting.test],
        rows=5,
    )
    for batch in batches:
        found |= {reply.index: reply for reply in batch}
    return [found[i] for i in range(len(setting.test))]


def put_together(finished, contender):
    """Return the texts that the comparison has: each prompt's from the treatment of its side."""
    texts = {}
    for treatment in (contender.fired, contender.silent):
        if treatment.fixed:
            made = [c.to_json() for c in fixed_replies(treatment, finished.setting.test)]
        else:
            file = finished.out / "replies" / file_name(treatment.name) / "completions.jsonl"
            made = map(json.loads, file.read_text().splitlines()) if file.exists() else []
        texts |= {(treatment.name, x["language"], x["prompt_id"]): x["text"] for x in made}
    side = contender.sides(len(finished.setting.test))[0]
    return [
        texts[(contender.fired if fired else contender.silent).name, p.language, p.id]
        for p, fired in zip(finished.setting.test, side)
    ]


@pytest.fixture(scope="module")
def limits(llama):
    return reply_limits(llama, prompt_set().prompts, 4)


def test_every_method_ran(finished):
    names = [m.name for m in finished.comparison.methods]
    assert names[0] == "base"
    assert set(names) == set(comparing_run.METHODS)
    assert finished.comparison.notes == ()
    loaded = load_comparison(finished.out)
    assert loaded is not None
    assert loaded.to_json() == json.loads(json.dumps(finished.comparison.to_json()))


@pytest.mark.parametrize("name", ROUTED)
def test_shared_replies_are_those_of_the_deployed_method(finished, llama, limits, name):
    contender = finished.contenders[name]
    replies = deployed(llama, finished.setting, contender, limits)
    fired = contender.routes.fired[0]
    assert [r.decision.fired for r in replies] == fired.tolist()
    scores = [r.decision.score for r in replies]
    np.testing.assert_allclose(scores, contender.routes.scores, atol=2e-3, rtol=1e-3)
    np.testing.assert_allclose(
        [r.decision.threshold for r in replies], contender.routes.thresholds[0], atol=1e-9
    )
    assert [r.text for r in replies] == put_together(finished, contender)


def test_the_deployed_methods_use_both_sides(finished):
    """Otherwise the test above would compare less than it seems to."""
    both = [n for n in ROUTED if len(set(finished.contenders[n].routes.fired[0].tolist())) == 2]
    assert len(both) >= 6
    assert {"gate", "full-space-logistic"} & set(both)


@pytest.mark.parametrize("name", ["add-harmfulness", "adasteer-adapted"])
def test_ungated_methods_are_the_same_everywhere(finished, llama, limits, name):
    contender = finished.contenders[name]
    replies = deployed(llama, finished.setting, contender, limits)
    assert [r.text for r in replies] == put_together(finished, contender)


def test_the_first_seeds_thresholds_are_the_calibrated_gates(finished):
    gate = load_gate(finished.out / "gate")
    own = finished.contenders["gate"].routes.thresholds
    actions = load_actions(finished.out / "gate")
    assert actions is not None
    gate = gate.raised(actions.threshold_raise)
    expected = [gate.threshold(p.language) for p in finished.setting.test]
    np.testing.assert_allclose(own[0], expected, atol=1e-4)
    assert own.shape == (2, len(finished.setting.test))


def test_another_languages_threshold_is_the_next_targets(finished):
    right = finished.contenders["gate"].routes.thresholds
    wrong = finished.contenders["gate-wrong-language"].routes.thresholds
    language = np.array([p.language for p in finished.setting.test])
    assert set(language) == {"sw", "yo"}
    for x, y in (("sw", "yo"), ("yo", "sw")):
        np.testing.assert_allclose(
            wrong[:, language == x][:, 0], right[:, language == y][:, 0], atol=1e-12
        )


def test_running_again_generates_and_judges_nothing(finished, llama, monkeypatch):
    judge = MadeJudge()
    use_judge(monkeypatch, judge)
    seen = generated(monkeypatch)
    before = (finished.out / "compare.json").read_bytes()
    compare(llama, prompt_set(), finished.settings)
    assert seen == []
    assert judge.asked == 0
    assert (finished.out / "compare.json").read_bytes() == before


def pairs_of(contenders, prompts):
    """Return the (treatment, text) pairs that must be generated, the slow way."""
    found = {("base", p.text) for p in prompts}
    for contender in contenders:
        for seed in contender.sides(len(prompts)):
            for prompt, fired in zip(prompts, seed):
                treatment = contender.fired if fired else contender.silent
                if not treatment.fixed:
                    found.add((treatment.name, prompt.text))
    return found


def test_adding_methods_generates_only_what_nobody_needed(llama, judge, monkeypatch, tmp_path):
    def run(*methods):
        seen.clear()
        compare(llama, prompt_set(), settings(tmp_path, methods=methods, action="paper"))
        assert len(seen) == len(set(seen))
        return {pair for pair in seen if " test" in pair[1]}

    seen, record = generated(monkeypatch), recorded(monkeypatch)
    first = run("gate")
    setting, contenders = record[-1]
    assert first == pairs_of(contenders, setting.test)
    # A fixed refusal is not generated, and the untouched model has replied already.
    assert run("gate", "gate-fixed-refusal") == set()
    second = run("gate", "mean-difference", "add-harmfulness", "system-prompt")
    wanted = pairs_of(record[-1][1], setting.test)
    assert second == wanted - first
    assert second
    # Fewer again, then all again: nothing was thrown away.
    assert run("gate") == set()
    assert run("gate", "mean-difference", "add-harmfulness", "system-prompt") == set()


def test_a_killed_comparison_goes_on_where_it_stopped(llama, judge, monkeypatch, tmp_path):
    methods = ("gate", "paper", "adasteer-adapted", "system-prompt", "omniguard")
    whole = compare(llama, prompt_set(), settings(tmp_path / "whole", methods=methods))
    seen = generated(monkeypatch)
    counting, left = completions.generate, [3]

    def killed(*arguments, **options):
        for batch in counting(*arguments, **options):
            yield batch
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt

    monkeypatch.setattr(completions, "generate", killed)
    stops = 0
    for after in (2, 3, 2, 3, 10_000):
        left[0] = after
        try:
            compare(llama, prompt_set(), settings(tmp_path / "cut", methods=methods))
        except KeyboardInterrupt:
            stops += 1
    assert stops >= 3
    assert len(seen) == len(set(seen))
    files = [json.loads((tmp_path / x / "compare.json").read_text()) for x in ("whole", "cut")]
    assert files[0] == files[1]
    assert whole.to_json()["rows"] == files[1]["rows"]


def test_the_base_alone_has_rows_and_no_differences(llama, judge, tmp_path):
    found = compare(llama, prompt_set(), settings(tmp_path, methods=("base",), action="fixed"))
    assert {r.method for r in found.rows} == {"base"}
    assert found.differences == ()
    assert {r.group for r in found.rows} == {"sw", "yo", "all"}


def test_actions_that_were_chosen_are_the_gates(finished):
    actions = load_actions(finished.out / "gate")
    contender = finished.contenders["gate"]
    assert actions is not None
    names = ["base" if a.key == "none" else a.name for a in (actions.fired, actions.silent)]
    assert [contender.fired.name, contender.silent.name] == names


# ---------------------------------------------------------------------------------------------
# mistakes


@pytest.fixture
def never_calibrated(monkeypatch):
    def never(*_arguments, **_options):
        raise AssertionError("calibrated before the mistake was told")

    monkeypatch.setattr(comparing_run, "calibrate", never)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"methods": ("gaet",)}, UserError, "'gaet' does not exist. Did you mean 'gate'"),
        ({"methods": ("cast-adapted",)}, UserError, "needs `--cast-data FOLDER`"),
        ({"methods": ("guard",)}, UserError, "needs `--guard MODEL`"),
    ],
)
def test_mistakes_are_told_before_anything_is_computed(
    llama, judge, never_calibrated, tmp_path, changes, error, words
):
    with pytest.raises(error, match=words):
        compare(llama, prompt_set(), settings(tmp_path, **changes))


def test_no_target_among_the_prompts_to_compare_on(llama, judge, never_calibrated, tmp_path):
    test = prompt_set(("en", "de"))
    with pytest.raises(LanguageError, match=r"none of the target languages sw, yo.*en, de"):
        compare(llama, prompt_set(), settings(tmp_path), test=test)


def test_prompts_seen_in_calibration_are_refused(llama, judge, finished, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished.out, out)
    own = prompt_set()
    for split in ("train", "val"):
        with pytest.raises(PromptError, match="used in calibration, such as sw/"):
            compare(llama, own, settings(out, split=split, methods=("gate",)))
    # The same texts under other ids, and other texts under the same ids.
    seen = [p for p in own if p.split == "train"]
    renamed = PromptSet("x", tuple(replace(p, id=f"n{p.id}", split="test") for p in seen))
    with pytest.raises(PromptError, match="used in calibration, such as sw/n"):
        compare(llama, own, settings(out, methods=("gate",)), test=renamed)
    other = tuple(replace(p, text=f"{p.text} {i}", split="test") for i, p in enumerate(seen))
    with pytest.raises(PromptError, match="ids of their own"):
        compare(llama, own, settings(out, methods=("gate",)), test=PromptSet("x", other))


def test_test_prompts_from_elsewhere(llama, judge, tmp_path):
    """Compared on a set of its own, in one of the targets."""
    test = PromptSet(
        "other",
        tuple(
            replace(p, id=f"o-{p.id}", group_id=f"o-{p.group_id}", text=f"now {p.text}", source="o")
            for p in prompt_set(("sw",))
        ),
    )
    wanted = settings(tmp_path, methods=("gate", "gate-wrong-language"), action="fixed")
    found = compare(llama, prompt_set(), wanted, test=test)
    assert found.prompts["languages"] == ["sw"]
    assert found.prompts["n"] == 6
    assert found.prompts["calibrated_on"] == "made"
    # The wrong threshold is Yoruba's although no prompt compared on is Yoruba.
    facts = {m.name for m in found.methods}
    assert facts == {"base", "gate", "gate-wrong-language"}


def test_what_cannot_be_fitted_is_left_out_and_noted_unless_asked_for(llama, monkeypatch, tmp_path):
    """A model that answers everything gives AdaSteer no refusals."""
    judge = MadeJudge()
    judge.outcome = lambda reply: "answered"
    use_judge(monkeypatch, judge)
    changes = {"sources": ("en",), "targets": ("sw",), "languages": ("sw",)}
    found = compare(llama, prompt_set(("en", "sw")), settings(tmp_path, **changes))
    names = {m.name for m in found.methods}
    assert {"base", "gate", "full-space-logistic", "paper"} <= names
    assert not {"adasteer-adapted", "omniguard", "gate-wrong-language"} & names
    assert any("'adasteer-adapted' was left out" in note for note in found.notes)
    assert any("Actions were not searched" in note for note in found.notes)
    with pytest.raises(UserError, match="AdaSteer needs"):
        compare(
            llama,
            prompt_set(("en", "sw")),
            settings(tmp_path, methods=("adasteer-adapted",), **changes),
        )


def test_needed_is_what_the_slow_way_finds(finished):
    prompts = finished.setting.test
    contenders = list(finished.contenders.values())
    found = needed(contenders, len(prompts))
    pairs = {
        (name, p.text)
        for name, (treatment, where) in found.items()
        for p, wanted in zip(prompts, where)
        if wanted and not treatment.fixed
    }
    assert pairs == pairs_of(contenders, prompts)
