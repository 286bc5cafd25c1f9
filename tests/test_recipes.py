"""The jobs end to end on a tiny random model: files, resumption, staleness, refusals to run."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import babelgate
from babelgate import recipes
from babelgate.config import CalibrateSettings, EvaluateSettings, MeasureSettings
from babelgate.errors import GateError, PromptError
from babelgate.gate_file import load_gate
from babelgate.prompts import load_prompts, take
from babelgate.recipes import calibrate, evaluate, measure, score
from babelgate.report import write_report
from babelgate.results import load_diagnosis, load_results
from babelgate.types import PromptSet
from tiny import tiny_model

LANGUAGES = ("en", "de", "es", "ar", "sw")


@pytest.fixture(scope="module")
def model():
    return tiny_model("llama")


@pytest.fixture(scope="module")
def prompts():
    return take(load_prompts("starter", languages=LANGUAGES), 12)


def settings(kind, out, **more):
    return kind(out=out, max_new_tokens=4, per_cell=4, **more)


@pytest.fixture(scope="module")
def run(model, prompts, tmp_path_factory):
    """A finished run: calibrate, evaluate, report."""
    out = tmp_path_factory.mktemp("run")
    fit = CalibrateSettings(
        out=out, sources=("en", "de", "es"), targets=("sw", "ar"), shots=2, curve=(0, 1, 2), draws=5,
        action="paper",
    )  # fmt: skip
    calibrated = calibrate(model, prompts, fit)
    evaluate(model, prompts, settings(EvaluateSettings, out), {"gate": calibrated.gate})
    write_report(out)
    return out


def test_a_run_leaves_every_file(run):
    names = {p.name for p in run.iterdir()}
    assert names >= {
        "run.json", "activations", "gate", "completions.jsonl", "verdicts.jsonl", "results.json",
        "diagnosis.json", "report.html", "prompts.jsonl",
    }  # fmt: skip
    record = json.loads((run / "run.json").read_text())
    assert set(record["stages"]) == {"capture", "fit", "generate", "judge"}
    assert record["model"]["weights"]
    assert record["versions"]["torch"]
    assert record["seed"] == 0
    assert record["hardware"]["cores"] >= 1
    assert not [p for p in run.rglob("*") if "partial" in p.name]


def test_results_count_every_prompt_once_per_method(run):
    results = load_results(run)
    assert [(r.method, r.language) for r in results.rows] == [
        (m, x) for m in ("base", "gate") for x in LANGUAGES
    ]
    for row in results.rows:
        for label in ("harmful", "harmless"):
            assert sum(row.outcomes[label].values()) == 4
        estimate = row.harmful_refusal
        assert estimate.n + estimate.n_unscored == 4
    assert {r.role for r in results.rows if r.language in ("sw", "ar")} == {"target"}
    assert {c.metric for c in results.comparisons} == {
        "harmful_refusal", "harmless_refusal", "selectivity",
    }  # fmt: skip


def test_diagnosis_covers_languages_layers_and_shots(run):
    diagnosis = load_diagnosis(run)
    assert diagnosis is not None
    cells = {(s.language, s.contrast, s.layer) for s in diagnosis.separability}
    assert cells == {
        (x, c, layer) for x in LANGUAGES for c in ("topic", "twins") for layer in (1, 2, 3)
    }
    ks = {(t.language, t.rule, t.k) for t in diagnosis.thresholds if not t.used}
    assert ks == {(x, r, k) for x in ("sw", "ar") for r in ("paper", "shrunken") for k in (0, 1, 2)}
    scored = {s.language: len(s.harmful) for s in diagnosis.gate_scores}
    assert scored == dict.fromkeys(LANGUAGES, 4)


def test_running_again_generates_and_captures_nothing(run, model, prompts, monkeypatch):
    def never(*_args, **_kwargs):
        raise AssertionError("the model was run again")

    monkeypatch.setattr(type(model.model), "forward", never)
    gate = load_gate(run / "gate")
    before = (run / "results.json").read_bytes()
    evaluate(model, prompts, settings(EvaluateSettings, run), {"gate": gate})
    assert (run / "results.json").read_bytes() == before


def test_calibrating_again_keeps_the_gate_unless_something_changed(
    model, prompts, tmp_path, monkeypatch
):
    fit = CalibrateSettings(
        out=tmp_path, sources=("en", "de"), targets=("sw",), shots=1, curve=(0,), draws=2,
        action="paper",
    )  # fmt: skip
    first = calibrate(model, prompts, fit)
    files = [tmp_path / "gate" / name for name in ("gate.json", "gate.safetensors")]
    before = [f.read_bytes() for f in files]
    fits = []
    run_fit = recipes.calibration.run
    monkeypatch.setattr(recipes.calibration, "run", lambda *a: fits.append(1) or run_fit(*a))
    again = calibrate(model, prompts, fit)
    assert not fits
    assert [f.read_bytes() for f in files] == before
    assert again.gate.provenance["key"] == first.gate.provenance["key"]
    calibrate(model, prompts, fit.model_copy(update={"shots": 2}))
    assert len(fits) == 1
    files[0].write_text("{}")
    calibrate(model, prompts, fit.model_copy(update={"shots": 2}))
    assert len(fits) == 2
    assert load_gate(tmp_path / "gate").provenance["k"] == 2


def test_another_threshold_makes_only_the_gated_replies_stale(run, model, prompts, tmp_path):
    import shutil

    out = tmp_path / "copy"
    shutil.copytree(run, out)
    lines = (out / "completions.jsonl").read_text().splitlines()
    gate = replace(load_gate(out / "gate"), default_threshold=1e6, thresholds={})
    evaluate(model, prompts, settings(EvaluateSettings, out), {"gate": gate})
    rows = [json.loads(x) for x in (out / "completions.jsonl").read_text().splitlines()]
    assert not any(r["fired"] for r in rows if r["method"] == "gate")
    kept = [x for x in lines if json.loads(x)["method"] == "base"]
    assert set(kept) <= set((out / "completions.jsonl").read_text().splitlines())


def test_gate_of_another_model_is_refused_before_anything_is_written(run, prompts, tmp_path):
    other = tiny_model("llama", seed=1)
    with pytest.raises(GateError, match="weights"):
        evaluate(other, prompts, settings(EvaluateSettings, tmp_path / "x", gate=run / "gate"))
    assert not (tmp_path / "x").exists()


def test_evaluating_on_the_training_split_is_refused(run, model, prompts):
    with pytest.raises(PromptError, match="used to fit this gate"):
        evaluate(model, prompts, settings(EvaluateSettings, run, split="train"))


def test_measure_alone(model, prompts, tmp_path):
    results = measure(model, prompts, settings(MeasureSettings, tmp_path, languages=("en", "sw")))
    assert {r.method for r in results.rows} == {"base"}
    assert all(r.gate is None for r in results.rows)
    assert not results.comparisons
    assert not (tmp_path / "diagnosis.json").exists()
    assert "<html" in write_report(tmp_path).read_text()


def test_adding_a_language_keeps_the_others(model, prompts, tmp_path):
    measure(model, prompts, settings(MeasureSettings, tmp_path, languages=("en",)))
    first = (tmp_path / "completions.jsonl").read_text()
    measure(model, prompts, settings(MeasureSettings, tmp_path, languages=("en", "sw")))
    second = (tmp_path / "completions.jsonl").read_text()
    assert second.startswith(first)
    assert len(second.splitlines()) == 2 * len(first.splitlines())


def test_test_prompts_that_leak_are_left_out_and_counted(model, tmp_path):
    prompts = take(load_prompts("starter", languages=["en"]), 8)
    source = next(p for p in prompts if p.split == "train" and p.label == "harmless")
    leak = replace(source, id="leak", group_id="leak", split="test", pair_id=None)
    leaky = PromptSet("leaky", (*prompts.prompts, leak))
    results = measure(model, leaky, MeasureSettings(out=tmp_path, max_new_tokens=2))
    assert results.rows[0].harmless_refusal.n + results.rows[0].harmless_refusal.n_unscored == 8
    notes = json.loads((tmp_path / "run.json").read_text())["notes"]
    assert any("1 test prompts were left out" in note for note in notes)


def test_prompts_longer_than_the_context_are_left_out_and_counted(model, prompts, tmp_path):
    long = replace(prompts.prompts[0], id="long", group_id="long", split="test", text="x" * 600)
    results = measure(
        model,
        PromptSet("long", (*prompts.prompts, long)),
        MeasureSettings(out=tmp_path, max_new_tokens=2, languages=("en",)),
    )
    assert sum(results.rows[0].outcomes["harmful"].values()) == 12
    notes = json.loads((tmp_path / "run.json").read_text())["notes"]
    assert any("longer than the model's context" in note for note in notes)


def test_a_language_without_train_prompts_is_named(model, prompts, tmp_path):
    broken = prompts.select(where=lambda p: not (p.language == "sw" and p.split == "train"))
    with pytest.raises(PromptError, match="sw train harmful: have 0"):
        calibrate(
            model,
            broken,
            CalibrateSettings(out=tmp_path, sources=("en", "de"), targets=("sw",)),
        )


def test_scores_outside_a_run_equal_those_in_generation(run, model, prompts, tmp_path):
    gate = load_gate(run / "gate")
    test = prompts.select(split="test", languages=("sw",))
    apart = score(model, gate, test, tmp_path)
    rows = [json.loads(x) for x in (run / "completions.jsonl").read_text().splitlines()]
    compared = 0
    for row in rows:
        if row["method"] == "gate" and row["language"] == "sw":
            assert row["gate_score"] == pytest.approx(apart[f"sw/{row['prompt_id']}"], abs=1e-3)
            compared += 1
    assert compared == 8


def test_the_python_api_does_it_in_few_lines(model, prompts, tmp_path):
    found = babelgate.calibrate(
        model, prompts, sources=["en", "de"], targets=["sw"], shots=1, curve=[0, 1], draws=2,
        action="fixed", out=tmp_path,
    )  # fmt: skip
    results = babelgate.evaluate(
        model, prompts, found, languages=["sw"], per_cell=2, max_new_tokens=2, out=tmp_path
    )
    assert {r.method for r in results.rows} == {"base", "gate"}
    assert babelgate.write_report(tmp_path).exists()
