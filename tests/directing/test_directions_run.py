"""Refusal directions of a tiny model: selection, transfer, files, resuming, what is left out."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import contextmanager

import numpy as np
import pytest

from babelgate import capture
from babelgate.cli import main
from babelgate.config import DiagnoseSettings, DirectionsSettings
from babelgate.diagnosing.run import diagnose
from babelgate.directing import run as directing_run
from babelgate.directing.run import find_directions
from babelgate.errors import LanguageError, PromptError, UserError
from babelgate.report import render_report
from babelgate.report.diagnosed import directed_page
from babelgate.report.load_studies import load_directed
from babelgate.vectors import load_directions
from comparing.made import MadeJudge, prompt_set
from report.synthetic_runs import MEASURED, write_run

# Four test prompts a class are what a transfer needs.
PROMPTS = prompt_set(("en", "de", "sw"))


def with_test_prompts():
    import dataclasses

    from babelgate.types import PromptSet

    moved = [
        dataclasses.replace(
            p, id=f"more-{p.id}", group_id=f"more-{p.group_id}", split="test", text=p.text + " too"
        )
        for p in PROMPTS
        if p.split == "val"
    ]
    return PromptSet("made", (*PROMPTS, *moved))


MORE = with_test_prompts()


class FirstJudge(MadeJudge):
    """Goes by a reply's first character alone, so that some token always tells refusals."""

    def outcome(self, reply):
        return "refused" if ord(reply.completion.text[:1] or "a") % 2 else "answered"


def settings(out, **changes):
    values = {
        "out": out,
        "sources": ("en", "de"),
        "targets": ("sw",),
        "reply_prompts": 5,
        "max_new_tokens": 4,
        "transfer_prompts": 4,
        "controls": 1,
    }
    return DirectionsSettings(**(values | changes))


def use(patch, made):
    @contextmanager
    def chosen(*_arguments, **_options):
        yield made

    patch.setattr(directing_run, "chosen_judge", chosen)


@pytest.fixture(scope="module")
def done(llama, tmp_path_factory):
    out = tmp_path_factory.mktemp("directions")
    with pytest.MonkeyPatch.context() as patch:
        use(patch, FirstJudge())
        found = find_directions(llama, MORE, settings(out, full_maps=True))
    return out, found


def test_every_language_is_selected_or_says_why(done):
    _, found = done
    assert list(found.selections) == ["en", "de", "sw"]
    for selection in found.selections.values():
        assert selection.words
        assert (selection.direction is None) == (selection.status != "selected")


def test_a_language_without_refusals_borrows_tokens_from_the_others(llama, tmp_path, monkeypatch):
    class NeverInSwahili(FirstJudge):
        def outcome(self, reply):
            return "answered" if reply.prompt.language == "sw" else super().outcome(reply)

    use(monkeypatch, NeverInSwahili())
    open_filters = {"min_induce": -1e6, "max_kl": 1e6, "transfer": "none"}
    found = find_directions(llama, MORE, settings(tmp_path, **open_filters)).selections
    assert found["sw"].tokens.borrowed
    assert set(found["sw"].tokens.ids) >= set(found["en"].tokens.ids) > set()
    assert found["sw"].tokens.n_refused == 0
    assert found["sw"].status == "selected"
    assert found["sw"].contrast == "harmful-harmless"


def test_vectors_are_the_differences_of_stored_means(done, llama):
    out, found = done
    states = capture.capture(
        llama,
        [p for p in MORE if p.language == "sw" and p.split == "train"],
        out / "again",
        layers=[2],
    )
    keys = {
        harmful: [
            p.key for p in MORE if (p.language, p.split, p.harmful) == ("sw", "train", harmful)
        ]
        for harmful in (True, False)
    }
    means = {h: states.select(k).layer(2).double().mean(0).numpy() for h, k in keys.items()}
    stored = load_directions(out / "vectors.safetensors", llama.identity)
    entry = stored.get("harmfulness/sw", 2)
    np.testing.assert_allclose(entry.scaled().numpy(), means[True] - means[False], atol=1e-5)
    assert entry.examples == {"positive": 5, "negative": 5}
    assert stored.names == found.vectors.names


def test_the_document_comes_back(done):
    out, found = done
    loaded = load_directed(out)
    selections, transfer = loaded.selections, loaded.transfer
    assert [s.language for s in selections] == list(found.selections)
    for view in selections:
        own = found.selections[view.language]
        assert (view.status, view.words) == (own.status, own.words)
        passed = sum(c.removed_by is None for c in own.candidates())
        assert sum(map(sum, view.kept)) == passed == own.n_passed
    assert (transfer is None) == (found.transfer is None)
    if transfer is not None:
        assert transfer.to_json() == found.transfer.to_json()


def test_a_second_run_computes_nothing(done, llama, monkeypatch):
    out, _ = done
    judge = FirstJudge()
    use(monkeypatch, judge)

    def never(*_arguments, **_options):
        raise AssertionError("computed again")

    monkeypatch.setattr(capture._Reader, "read", never)
    monkeypatch.setattr("babelgate.completions.generate", never)
    before = (out / "directions.json").read_text()
    find_directions(llama, MORE, settings(out, full_maps=True))
    assert (out / "directions.json").read_text() == before
    assert judge.asked == 0


def test_one_block_for_every_language_needs_no_selection_to_transfer(llama, tmp_path, monkeypatch):
    use(monkeypatch, FirstJudge())
    found = find_directions(llama, MORE, settings(tmp_path, transfer_layer=2, select=("en",)))
    assert list(found.selections) == ["en"]
    assert found.transfer is not None
    assert {s.layer for s in found.transfer.sources} == {2}
    targets = {c.target for c in found.transfer.cells}
    assert targets == {"en", "de", "sw"}
    kinds = {c.kind for cell in found.transfer.cells for c in cell.controls}
    assert any(np.isfinite(c.estimate.value) for c in found.transfer.cells)
    assert kinds == {"random", "shuffled", "identity"}


def test_the_page_holds_selection_and_transfer(llama, tmp_path, monkeypatch):
    use(monkeypatch, FirstJudge())
    found = find_directions(llama, MORE, settings(tmp_path, transfer_layer=2))
    html = directed_page(tmp_path).html
    assert "Transfer from each language to each" in html
    for language, selection in found.selections.items():
        if selection.direction is None:
            assert selection.words.split(";")[0][:30] in html, language


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"reply_prompts": 0}, UserError, "reply-prompts"),
        ({"select": ("fr",)}, LanguageError, "fr"),
        ({"reply_sources": ("fr",)}, LanguageError, "fr"),
    ],
)
def test_mistakes_are_said_before_anything_is_read(
    llama, tmp_path, monkeypatch, changes, error, said
):
    monkeypatch.setattr(directing_run, "capture_languages", None)
    with pytest.raises(error, match=said):
        find_directions(llama, MORE, settings(tmp_path, **changes))


def test_a_transfer_needs_test_prompts(llama, tmp_path, monkeypatch):
    monkeypatch.setattr(directing_run, "capture_languages", None)
    with pytest.raises(PromptError, match="test"):
        find_directions(llama, PROMPTS, settings(tmp_path))


def test_a_language_without_test_prompts_of_a_label_is_left_out_of_the_transfer(
    llama, tmp_path, monkeypatch
):
    use(monkeypatch, FirstJudge())
    some = MORE.select(where=lambda p: (p.language, p.split, p.harmful) != ("sw", "test", False))
    found = find_directions(llama, some, settings(tmp_path, transfer_layer=2))
    assert {c.target for c in found.transfer.cells} == {"en", "de"}
    assert "sw" in {s.language for s in found.transfer.sources}
    notes = json.loads((tmp_path / "run.json").read_text())["notes"]
    assert any("in sw" in note for note in notes)
    assert "No effects were measured in sw" in directed_page(tmp_path).html


def test_vectors_are_listed_and_converted_by_the_command_line(done, tmp_path, capsys):
    out, _ = done
    with pytest.raises(SystemExit) as stop:
        main(["vectors", str(out), "--name", "harmfulness/sw", "--json"])
    assert stop.value.code == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in rows} == {"harmfulness/sw"}
    target = tmp_path / "sw.gguf"
    with pytest.raises(SystemExit) as stop:
        main(
            [
                "vectors",
                str(out),
                "--name",
                "harmfulness/sw",
                "--layers",
                "1,2",
                "--to",
                str(target),
            ]
        )
    assert stop.value.code == 0
    with pytest.raises(SystemExit) as stop:
        main(["vectors", str(target), "--json"])
    assert [row["layer"] for row in json.loads(capsys.readouterr().out)] == [1, 2]
    with pytest.raises(SystemExit) as stop:
        main(["vectors", str(out), "--name", "harmfulness/xx"])
    assert stop.value.code != 0
    assert "harmfulness/sw" in capsys.readouterr().err


@pytest.fixture(scope="module")
def both(done, llama, tmp_path_factory):
    """A folder with a diagnosis and directions."""
    out = tmp_path_factory.mktemp("both")
    shutil.copytree(done[0], out, dirs_exist_ok=True)
    wanted = DiagnoseSettings(out=out, sources=("en", "de"), targets=("sw",), reply_prompts=0)
    diagnose(llama, PROMPTS, wanted)
    return out


def sections_of(html):
    return re.findall(r'<section id="([^"]+)"', html)


def test_one_report_holds_both_studies(both, run):
    code, printed, said = run("report", str(both), "--figures", str(both / "figures"))
    assert code == 0, said
    assert "What breaks where" in printed
    assert "Report: " in said
    found = sections_of((both / "report.html").read_text())
    assert len(set(found)) == len(found)
    assert found[0] == "breaks"
    assert {"cosines", "selection", "skipped", "about"} <= set(found)
    assert len(list((both / "figures").glob("*.svg"))) > 3
    assert run("report", str(both), "--markdown")[0] != 0


def test_a_measured_run_shows_its_studies_too(both, tmp_path):
    measured = write_run(tmp_path / "measured", MEASURED)
    plain = sections_of(render_report(measured))
    for name in ("breaks.json", "geometry.json", "directions.json"):
        shutil.copy(both / name, measured / name)
    found = sections_of(render_report(measured))
    assert len(set(found)) == len(found)
    assert found[0] == "breaks"
    assert [x for x in found if x in plain] == plain
    assert set(found) > {*plain, "selection", "cosines"}
