"""Whatever is wrong with a run folder, the error is a StoreError that names the file."""

from __future__ import annotations

import json

import pytest
from synthetic_runs import FULL, SMALLEST

from babelgate.errors import StoreError
from babelgate.report import render_report

DAMAGE = {
    "empty": "",
    "half": '{"schema": 1, "model"',
    "list": "[]",
    "null": "null",
    "schema": '{"schema": 99}',
    "no rows": '{"schema": 1, "model": {}, "prompts": {}, "judge": {}}',
    "rows of text": '{"schema": 1, "model": {}, "prompts": {}, "judge": {}, "rows": ["x"], "macro": [], "comparisons": []}',
    "model a list": '{"schema": 1, "model": [], "prompts": {}, "judge": {}, "rows": [], "macro": [], "comparisons": []}',
    "rows null": '{"schema": 1, "model": {}, "prompts": {}, "judge": {}, "rows": null, "macro": [], "comparisons": []}',
}


def test_missing_results(tmp_path):
    with pytest.raises(StoreError, match=r"results\.json"):
        render_report(tmp_path)
    with pytest.raises(StoreError):
        render_report(tmp_path / "nowhere")


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_results(make_run, name):
    run = make_run(FULL)
    (run / "results.json").write_text(DAMAGE[name], encoding="utf-8")
    with pytest.raises(StoreError, match=r"results\.json"):
        render_report(run)


def test_binary_results(make_run):
    run = make_run(FULL)
    (run / "results.json").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(StoreError, match=r"results\.json"):
        render_report(run)


def _paths(value, path=()):
    """Yield the path of every value in a JSON document, one element of each list being enough."""
    yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _paths(item, (*path, key))
    elif isinstance(value, list) and value:
        yield from _paths(value[0], (*path, 0))


@pytest.mark.parametrize("name", ["results.json", "diagnosis.json"])
@pytest.mark.parametrize("wrong", ["x", {"a": []}, None, -5])
def test_one_wrong_value_anywhere_is_a_report_or_a_store_error(make_run, name, wrong):
    run = make_run(SMALLEST)
    whole = (run / name).read_text(encoding="utf-8")
    # Long lists are cut: their first element stands for all.
    document = json.loads(whole)
    for key, value in document.items():
        if isinstance(value, list):
            document[key] = value[:1]
    text = json.dumps(document)
    refused = unnamed = 0
    paths = [p for p in _paths(document) if p]
    for path in paths:
        changed = json.loads(text)
        node = changed
        for step in path[:-1]:
            node = node[step]
        node[path[-1]] = wrong
        (run / name).write_text(json.dumps(changed), encoding="utf-8")
        try:
            assert render_report(run).startswith("<!doctype html>")
        except StoreError as error:
            refused += name in str(error)
            unnamed += name not in str(error)
    assert len(paths) > 20
    assert refused > 0
    assert unnamed == 0


@pytest.mark.parametrize("name", ["diagnosis.json", "run.json", "verdicts.jsonl"])
@pytest.mark.parametrize("text", ["{", "[]", '"x"'])
def test_other_damaged_files(make_run, name, text):
    run = make_run(FULL)
    (run / name).write_text(text, encoding="utf-8")
    with pytest.raises(StoreError, match=name.replace(".", r"\.")):
        render_report(run)


def test_a_damaged_completion_names_its_line(make_run):
    run = make_run(FULL)
    path = run / "completions.jsonl"
    path.write_text(path.read_text(encoding="utf-8") + '{"language": "en"}\n', encoding="utf-8")
    render_report(run)  # replies are not read unless they are shown
    with pytest.raises(StoreError, match=r"completions\.jsonl, line 73"):
        render_report(run, show_replies=True)


def test_a_results_file_without_rows_says_so(make_run):
    run = make_run(FULL)
    (run / "diagnosis.json").unlink()
    empty = {
        "schema": 1,
        "model": {},
        "prompts": {},
        "judge": {},
        "rows": [],
        "macro": [],
        "comparisons": [],
    }
    (run / "results.json").write_text(json.dumps(empty), encoding="utf-8")
    html = render_report(run)
    assert "nothing was measured" in html
    assert 'id="gap"' not in html
