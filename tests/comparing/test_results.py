"""``compare.json`` there and back, and files that are damaged."""

from __future__ import annotations

import json

import pytest

from babelgate.comparing.results import load_comparison
from babelgate.errors import StoreError


def test_there_and_back(finished):
    loaded = load_comparison(finished.out)
    assert loaded is not None
    written = json.loads((finished.out / "compare.json").read_text())
    assert json.loads(json.dumps(loaded.to_json())) == written
    assert written["schema"] == 1
    row = loaded.row("gate", "all")
    assert row is not None
    assert row.values["selectivity"].n > 0
    assert loaded.row("gate", "en") is None
    assert loaded.row("nobody", "all") is None


def test_no_file_is_no_comparison(tmp_path):
    assert load_comparison(tmp_path) is None


@pytest.mark.parametrize(
    "change", ["", "{", "[]", '{"schema": 1}', {"schema": 9}, {"methods": [{"name": "x"}]},
               {"rows": ["x"]}, {"rows": None}, {"seeds": 3}],
)  # fmt: skip
def test_damaged_files_are_one_error(finished, tmp_path, change):
    text = change
    if isinstance(change, dict):
        written = json.loads((finished.out / "compare.json").read_text())
        text = json.dumps(written | change)
    (tmp_path / "compare.json").write_text(text)
    with pytest.raises(StoreError, match=r"compare\.json"):
        load_comparison(tmp_path)
