"""Diagnosing a tiny model: stages, files, resuming, what is said where something is missing."""

from __future__ import annotations

import json
from contextlib import contextmanager

import numpy as np
import pytest

from babelgate import capture
from babelgate.config import DiagnoseSettings
from babelgate.diagnosing import run as diagnosing_run
from babelgate.diagnosing.run import diagnose
from babelgate.errors import UserError
from babelgate.geometry.results import Geometry
from babelgate.report.diagnosed import diagnosed_page
from babelgate.report.load_studies import load_diagnosed
from babelgate.types import PromptSet
from comparing.made import MadeJudge, prompt_set

PROMPTS = prompt_set(("en", "de", "sw"))


def settings(out, **changes):
    values = {
        "out": out,
        "sources": ("en", "de"),
        "targets": ("sw",),
        "reply_prompts": 4,
        "max_new_tokens": 4,
    }
    return DiagnoseSettings(**(values | changes))


@pytest.fixture(autouse=True)
def judge(monkeypatch):
    made = MadeJudge()

    @contextmanager
    def chosen(*_arguments, **_options):
        yield made

    monkeypatch.setattr(diagnosing_run, "chosen_judge", chosen)
    return made


@pytest.fixture(scope="module")
def done(llama, tmp_path_factory):
    out = tmp_path_factory.mktemp("diagnosed")
    with pytest.MonkeyPatch.context() as patch:
        made = MadeJudge()

        @contextmanager
        def chosen(*_arguments, **_options):
            yield made

        patch.setattr(diagnosing_run, "chosen_judge", chosen)
        found = diagnose(llama, PROMPTS, settings(out))
    return out, found


def test_every_language_has_a_row_and_every_layer_its_geometry(done, llama):
    _, found = done
    assert [row.language for row in found.breaks.rows] == ["en", "de", "sw"]
    assert found.geometry.layers == tuple(range(llama.identity.n_layers))
    assert found.geometry.positions == ("t_inst", "t_post")
    for row in found.breaks.rows:
        assert row.step("representation").n == 8  # 4 + 4 val prompts
        assert row.sentence


def test_files_hold_what_was_returned(done):
    out, found = done
    loaded = load_diagnosed(out)
    assert loaded.breaks.to_json() == found.breaks.to_json()
    assert loaded.geometry.to_json() == found.geometry.to_json()
    document = json.loads((out / "geometry.json").read_text())
    assert Geometry.from_json(document).languages == ("en", "de", "sw")


def test_the_action_step_compares_decisions_and_replies_on_the_same_prompts(done, llama):
    """Written out: shares of the judged val replies that refuse, and of decisions that fire."""
    out, found = done
    outcomes = {}
    for line in (out / "actions" / "base_verdicts.jsonl").read_text().splitlines():
        one = json.loads(line)
        outcomes[f"{one['language']}/{one['prompt_id']}"] = one["outcome"]
    row = next(r for r in found.breaks.rows if r.language == "sw")
    shares = {}
    for label in ("harmful", "harmless"):
        own = [
            outcomes[p.key]
            for p in PROMPTS
            if p.language == "sw" and p.split == "val" and p.label == label
        ]
        scored = [o for o in own if o != "unparsed"]
        shares[label] = np.mean([o == "refused" for o in scored])
    expected = shares["harmful"] - shares["harmless"]
    evidence = row.step("action").evidence
    assert f"{round(abs(100 * expected))}" in evidence, evidence


def test_a_second_run_reads_no_states_and_generates_nothing(done, llama, monkeypatch, judge):
    out, found = done

    def never(*_arguments, **_options):
        raise AssertionError("computed again")

    monkeypatch.setattr(capture._Reader, "read", never)
    monkeypatch.setattr("babelgate.completions.generate", never)
    monkeypatch.setattr("babelgate.geometry.driver.layer_tables", never)
    again = diagnose(llama, PROMPTS, settings(out))
    assert again.geometry.to_json() == found.geometry.to_json()
    assert again.breaks.to_json() == found.breaks.to_json()
    assert judge.asked == 0


def test_a_layer_whose_file_is_torn_is_computed_again(done, llama, tmp_path, capsys):
    out, found = done
    file = next((out / "geometry").rglob("1.json"))
    whole = file.read_text()
    file.write_text(whole[: len(whole) // 2])
    again = diagnose(llama, PROMPTS, settings(out))
    assert again.geometry.to_json() == found.geometry.to_json()
    assert file.read_text() == whole


def test_the_page_opens_with_what_breaks_where(done):
    out, _ = done
    html = diagnosed_page(out).html
    assert html.index("What breaks where") < html.index("Cosines")
    for name in ("English", "German", "Swahili"):
        assert name in html
    assert "Parallelism" in html


def test_without_replies_the_action_is_unknown_and_says_so(llama, tmp_path, judge):
    found = diagnose(llama, PROMPTS, settings(tmp_path, reply_prompts=0, layers=(1, 2)))
    assert judge.asked == 0
    for row in found.breaks.rows:
        assert row.step("action").verdict == "unknown"
        assert "--reply-prompts" in row.step("action").why
    assert found.geometry.layers == (1, 2)
    assert not any(c.kind == "refusal" for c in found.geometry.tables.cosines)


def test_prompts_without_translations_skip_the_paired_analyses(llama, tmp_path):
    import dataclasses

    alone = PromptSet(
        "alone",
        tuple(dataclasses.replace(p, group_id=f"{p.language}-{p.id}") for p in PROMPTS),
    )
    found = diagnose(llama, alone, settings(tmp_path, reply_prompts=0, layers=(2,)))
    assert not found.geometry.tables.parallelism
    assert any("parallelism" in s.kind for s in found.geometry.tables.skipped)
    for row in found.breaks.rows:
        if row.language != "en":
            assert row.step("understanding").verdict == "unknown"
            assert row.step("understanding").why


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layers": (1, 99)}, "blocks 0 to"),
        ({"pivot": "fr"}, "the pivot language fr has no prompts"),
    ],
)
def test_mistakes_are_said_before_anything_is_read(llama, tmp_path, monkeypatch, changes, said):
    monkeypatch.setattr(diagnosing_run, "capture_languages", None)
    with pytest.raises(UserError, match=said):
        diagnose(llama, PROMPTS, settings(tmp_path, **changes))
