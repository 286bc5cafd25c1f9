"""The page: self-contained, complete, escaped, and silent about what was not measured."""

from __future__ import annotations

import dataclasses
import errno
import json
import re
from pathlib import Path
from xml.dom.minidom import parseString

import pytest
from synthetic_runs import EXTREME, FULL, JUDGE_NOTE, MEASURED, RUN_INFO, SMALLEST, build_results

from babelgate.report import render_report, write_report
from babelgate.report.names import language_name
from babelgate.report.numbers import percent, points

EVIL = "<script>alert('x')</script>\"'>"
GATE_SECTIONS = ("change", "ceiling", "scores", "separability", "choices")


def test_every_language_and_rate_is_in_the_page(make_run):
    html = render_report(make_run(FULL))
    rows = build_results(FULL).rows
    assert len(rows) == 24
    for row in rows:
        assert language_name(row.language) in html
        assert f">{percent(row.harmful_refusal.value)}</td>" in html
        assert f">{percent(row.harmless_refusal.value)}</td>" in html
        assert f">{points(row.selectivity.value)}</td>" in html
    assert JUDGE_NOTE in html
    for text in (
        "babelgate evaluate --model demo",
        "1d9614638d18024d",
        "0123456789abcdef",
        "318.77",
    ):
        assert text in html


@pytest.mark.parametrize(
    "spec", [FULL, MEASURED, EXTREME, SMALLEST], ids=["full", "measured", "extreme", "smallest"]
)
def test_the_page_needs_nothing_from_outside(make_run, extreme_page, spec):
    html = extreme_page if spec is EXTREME else render_report(make_run(spec))
    assert not re.search(r"(?:src|href|action|data)\s*=\s*[\"']?\s*(?:https?:)?//", html)
    assert not re.search(r"@import|<link|<img|<iframe|url\((?!#)", html)
    urls = set(re.findall(r"https?://[^\"'<> ]+", html))
    assert urls == {"http://www.w3.org/2000/svg"}
    assert len(html) < 4_000_000


def test_the_script_is_the_only_one_that_may_run(make_run):
    html = render_report(make_run(FULL))
    assert html.count("<script") == 1
    assert re.search(r"script-src &#39;sha256-|script-src 'sha256-", html)
    assert "default-src 'none'" in html


def test_ids_are_unique_and_every_link_has_its_target(extreme_page):
    html = extreme_page
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids)) > 20
    links = re.findall(r'href="#([^"]+)"', html) + re.findall(r"url\(#([^)]+)\)", html)
    assert links
    assert set(links) <= set(ids)


def test_a_measured_run_has_no_gate_sections(make_run):
    html = render_report(make_run(MEASURED))
    for key in GATE_SECTIONS:
        assert f'id="{key}"' not in html
    for key in ("gap", "outcomes", "about"):
        assert f'id="{key}"' in html
    full = render_report(make_run(FULL))
    assert all(f'id="{key}"' in full for key in GATE_SECTIONS)


def test_missing_is_shown_as_missing(make_run):
    run = make_run(FULL)
    html = render_report(run)
    assert "Rates are missing, not zero, for Bashkir (base)." in html
    row = re.search(r"<tr><th scope=\"row\">Bashkir \(ba\)</th>.*?</tr>", html)
    assert row is not None
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", row[0])
    # tier, role, then rate, interval and n of both labels, Δ and its interval, unscored
    assert cells == ["Low-resource", "target", "–", "–", "0", "–", "–", "0", "–", "–", "200"]
    assert "nan" not in re.sub(r"<style>.*?</style>|<script>.*?</script>", "", html, flags=re.S)


def test_names_and_replies_are_escaped(make_run):
    spec = dataclasses.replace(
        FULL, languages=("en", "<script>l</script>"), model=EVIL, methods=("base", "<b>m</b>")
    )
    run = make_run(spec)
    (run / "run.json").write_text(
        json.dumps({EVIL: {EVIL: [EVIL]}, "command": [EVIL]}), encoding="utf-8"
    )
    reply = {
        "language": "en",
        "prompt_id": EVIL,
        "method": "base",
        "text": EVIL + "\ud800\x00",
        "n_tokens": 1,
        "stop_reason": "eos",
    }
    (run / "completions.jsonl").write_text(json.dumps(reply), encoding="utf-8")
    path = write_report(run, figures=run / "figures", show_replies=True)
    html = path.read_text(encoding="utf-8")
    assert html.count("<script") == 1
    assert "<b>m" not in html
    assert "&lt;script&gt;alert" in html
    for figure in (run / "figures").glob("*.svg"):
        parseString(figure.read_bytes())
        assert "<script" not in figure.read_text(encoding="utf-8")


def test_replies_are_hidden_unless_asked_for(make_run):
    run = make_run(FULL)
    assert "secret-text" not in render_report(run)
    html = render_report(run, show_replies=True)
    n = len(FULL.languages) * len(FULL.methods) * 3
    # Every reply once, and those whose verdict is unparsed once more, among the unparsed.
    assert html.count("secret-text") == n + n // 3
    assert html.count('<details class="reply">') == n + n // 3
    assert "<details open" not in html


def test_ids_of_unparsed_verdicts_are_listed_without_texts(make_run):
    html = render_report(make_run(FULL))
    listed = html[html.index('id="unparsed"') : html.index('id="about"')]
    rows = re.findall(r'<th scope="row">(.*?)</th><td>(.*?)</td><td>(.*?)</td>', listed)
    assert len(rows) == len(FULL.languages) * len(FULL.methods)
    assert {(prompt, method) for prompt, code, method in rows if code == "Yoruba (yo)"} == {
        ("p2", "base"),
        ("p2", "gate"),
    }


def test_figures_are_saved_as_xml_with_plain_colours(make_run):
    run = make_run(FULL)
    write_report(run, figures=run / "figures")
    saved = sorted(p.name for p in (run / "figures").iterdir())
    assert saved == [
        "before-after.svg",
        "ceiling-gate.svg",
        "gate-scores.svg",
        "harm-or-form.svg",
        "outcomes.svg",
        "refusal-gap.svg",
        "separability.svg",
        "thresholds.svg",
    ]
    for name in saved:
        text = (run / "figures" / name).read_text(encoding="utf-8")
        root = parseString(text).documentElement
        assert root.tagName == "svg"
        assert root.getElementsByTagName("title")[0].firstChild.data
        assert root.getElementsByTagName("desc")[0].firstChild.data
        assert "var(" not in text


def test_coordinates_are_numbers(extreme_page):
    html = extreme_page
    values = re.findall(r'\b(?:x|y|x1|x2|y1|y2|width|height|r|cx|cy)="([^"]*)"', html)
    assert len(values) > 1000
    assert all(re.fullmatch(r"-?\d+(\.\d)?%?", v) for v in values)


def test_files_are_replaced_whole(make_run, monkeypatch):
    run = make_run(MEASURED)
    (run / "report.html").write_text("old", encoding="utf-8")

    def fail(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    from babelgate.errors import StoreError

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", fail)
        with pytest.raises(StoreError, match="is full"):
            write_report(run)
    assert (run / "report.html").read_text(encoding="utf-8") == "old"
    before = {p.name for p in run.iterdir()}
    assert write_report(run) == run / "report.html"
    assert {p.name for p in run.iterdir()} == before
    assert (run / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_another_path_and_folder_are_made(make_run, tmp_path):
    path = write_report(make_run(MEASURED), tmp_path / "deep" / "r.html")
    assert path == tmp_path / "deep" / "r.html"
    assert path.exists()


def test_any_shape_of_run_json_is_shown(make_run):
    run = make_run(MEASURED)
    deep: dict = {}
    node = deep
    for _ in range(12):
        node["down"] = node = {}
    odd = {
        **RUN_INFO,
        "deep": deep,
        "list": [{"a": 1}, [2, "three"]],
        "empty": {},
        "many": list(range(500)),
        "none": None,
    }
    (run / "run.json").write_text(json.dumps(odd), encoding="utf-8")
    html = render_report(run)
    assert "three" in html
    assert "… 440 more" in html
    (run / "run.json").unlink()
    assert 'id="about"' in render_report(run)
