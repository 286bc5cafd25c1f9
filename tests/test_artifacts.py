"""Files that survive failures: atomic writes, JSONL logs, run folders, fingerprints, the cache."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from babelgate import artifacts
from babelgate.artifacts import (
    JsonLines,
    RunFolder,
    atomic_path,
    cache_dir,
    fingerprint,
    write_json,
    write_text,
)
from babelgate.errors import StoreError


def disk_full(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# -- atomic writes -----------------------------------------------------------------------------------


def test_write_replaces_the_whole_file_and_makes_missing_folders(tmp_path):
    path = tmp_path / "a" / "b" / "x.txt"
    write_text(path, "a long first version")
    write_text(path, "短い")
    assert path.read_text(encoding="utf-8") == "短い"
    assert os.listdir(path.parent) == ["x.txt"]


@pytest.mark.parametrize("failure", [RuntimeError("bug"), KeyboardInterrupt()])
def test_failure_inside_the_block_leaves_the_old_file_and_no_temporary(tmp_path, failure):
    path = tmp_path / "x.txt"
    write_text(path, "old")

    def fail():
        with atomic_path(path) as work:
            work.write_text("half of the n")
            raise failure

    with pytest.raises(type(failure)):
        fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x.txt"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_full_disk_at_any_step_leaves_the_old_file(tmp_path, monkeypatch, step):
    path = tmp_path / "x.txt"
    write_text(path, "old")
    monkeypatch.setattr(artifacts.os, step, disk_full)
    with pytest.raises(StoreError, match=r"disk that holds .*x\.txt is full.*free some space"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x.txt"]


def test_full_disk_while_writing_the_text(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    write_json(path, {"old": 1})
    monkeypatch.setattr(Path, "write_text", disk_full)
    with pytest.raises(StoreError, match="is full"):
        write_json(path, {"new": 1})
    assert json.loads(path.read_text()) == {"old": 1}
    assert os.listdir(tmp_path) == ["x.json"]


def test_other_write_errors_say_what_the_system_said(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreError, match=r"cannot write .*run\.json: "):
        write_text(tmp_path / "file" / "run.json", "x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match="cannot write .*folder: "):
        write_text(tmp_path / "folder", "x")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_json_refuses_nan_before_touching_the_file(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1.5, "ж": None})
    before = path.read_bytes()
    with pytest.raises(ValueError, match="nan"):
        write_json(path, {"a": float("nan")})
    assert path.read_bytes() == before
    assert "ж" in before.decode()  # readable by people, not escaped
    assert before.endswith(b"\n")


# -- JSON lines --------------------------------------------------------------------------------------

ROWS = [{"id": "1", "text": "Báwo ni?\nline two"}, {"id": "2", "text": "\u2028 如何"}, {"id": "3"}]


def test_lines_round_trip_and_a_missing_file_is_empty(tmp_path):
    log = JsonLines(tmp_path / "deep" / "log.jsonl")
    assert log.read() == []
    log.append([])
    assert not log.path.exists()
    log.append(ROWS[:1])
    log.append(ROWS[1:])
    assert log.read() == ROWS
    assert log.path.read_bytes().count(b"\n") == 3


def test_every_cut_of_the_last_line_is_dropped_on_read_and_on_the_next_append(tmp_path):
    """Whatever byte a kill stops the write at, the finished lines are intact and stay so."""
    log = JsonLines(tmp_path / "log.jsonl")
    log.append(ROWS)
    whole = log.path.read_bytes()
    start = whole[:-1].rfind(b"\n") + 1
    second = whole[: start - 1].rfind(b"\n") + 1
    checked = 0
    for cut in range(second, len(whole)):
        log.path.write_bytes(whole[:cut])
        before = log.read()
        # Every finished line, and none that is cut; a line that lacks only its end is whole.
        full = [json.loads(x) for x in whole[:cut].split(b"\n")[:-1]]
        assert before in (full, ROWS[: len(full) + 1])
        log.append([{"id": "new"}])
        assert log.read() == [*before, {"id": "new"}]  # what was read once is never lost later
        checked += 1
    assert checked > 30


def test_a_full_disk_in_the_middle_of_an_append_loses_nothing_written_before(tmp_path, monkeypatch):
    log = JsonLines(tmp_path / "log.jsonl")
    log.append(ROWS[:1])
    with monkeypatch.context() as patch:
        patch.setattr(artifacts.os, "fsync", disk_full)
        with pytest.raises(StoreError, match="is full"):
            log.append(ROWS[1:2])
    assert log.read()[:1] == ROWS[:1]


@pytest.mark.parametrize(
    ("damaged", "complaint"),
    [
        (b'{"id": "1"}\n{"id": \n{"id": "3"}\n', r"log\.jsonl, line 2 is damaged"),
        (b'{"id": "1"}\n\xff\xfe\n{"id": "3"}\n', r"log\.jsonl, line 2 is damaged"),
        (b'{"id": "1"}\n\n[1, 2]\n', r"log\.jsonl, line 3 should hold a JSON object"),
        (b'{"id": "1"}\n{"id": "2"\n', r"log\.jsonl, line 2 is damaged"),  # ended, so not torn
    ],
)
def test_a_damaged_line_is_named(tmp_path, damaged, complaint):
    log = JsonLines(tmp_path / "log.jsonl")
    log.path.write_bytes(damaged)
    with pytest.raises(StoreError, match=complaint):
        log.read()


def test_rewrite_replaces_everything_atomically(tmp_path, monkeypatch):
    log = JsonLines(tmp_path / "log.jsonl")
    log.append(ROWS)
    log.rewrite(row for row in ROWS[1:])
    assert log.read() == ROWS[1:]
    monkeypatch.setattr(artifacts.os, "replace", disk_full)
    with pytest.raises(StoreError, match="is full"):
        log.rewrite([])
    assert log.read() == ROWS[1:]
    assert os.listdir(tmp_path) == ["log.jsonl"]


# -- run folders -------------------------------------------------------------------------------------


def open_run(path, command="measure", **config):
    return RunFolder.open(path, command=command, config=config)


def test_a_stage_is_done_only_under_its_own_key(tmp_path):
    run = open_run(tmp_path / "run", n=1)
    assert not run.is_done("generate", "k1")
    run.set_done("generate", "k1", 1.23456, replies=7)
    again = open_run(tmp_path / "run", n=2)
    assert again.is_done("generate", "k1")
    assert not again.is_done("generate", "k2")
    assert not again.is_done("judge", "k1")
    again.set_done("generate", "k2", 1.0)
    assert not open_run(tmp_path / "run").is_done("generate", "k1")


def test_run_json_says_what_was_run_with_what(tmp_path):
    run = open_run(tmp_path, "measure", seed=3)
    run.set("model", {"name": "tiny"})
    run.note("read me")
    run.note("read me")
    open_run(tmp_path, "evaluate", seed=4)
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["config"] == {"measure": {"seed": 3}, "evaluate": {"seed": 4}}
    assert record["stage"] == "evaluate"
    assert record["model"] == {"name": "tiny"}
    assert record["notes"] == ["read me"]
    assert {"babelgate", "python", "torch", "transformers"} <= set(record["versions"])
    assert os.uname().nodename not in (tmp_path / "run.json").read_text().split('"')


@pytest.mark.parametrize(
    "content", [b"", b'{"stages": ', b"\xff\xfe\x00", b"[]", b'"x"', b'{"stages": []}', b"null"]
)
def test_damaged_run_json_is_an_error_with_a_way_out_and_is_not_overwritten(tmp_path, content):
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"run\.json is damaged .*remove the folder"):
        open_run(tmp_path)
    assert (tmp_path / "run.json").read_bytes() == content


def test_an_out_folder_that_is_a_file_is_an_error_of_ours(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(StoreError, match=r"cannot write .*README\.md"):
        open_run(tmp_path / "README.md")
    assert (tmp_path / "README.md").read_text() == "mine"


# -- fingerprints and the cache ----------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


def reversed_keys(value):
    if isinstance(value, dict):
        return {k: reversed_keys(v) for k, v in reversed(value.items())}
    return [reversed_keys(v) for v in value] if isinstance(value, list) else value


@given(JSON)
def test_fingerprint_does_not_depend_on_key_order(value):
    assert fingerprint(value) == fingerprint(reversed_keys(value))
    assert len(fingerprint(value)) == 16


def test_fingerprint_depends_on_values_and_on_the_order_of_lists():
    values = [{"a": 1}, {"a": 2}, {"b": 1}, {"a": "1"}, {"a": None}, [1, 2], [2, 1], [[1], 2], {}]
    assert len({fingerprint(v) for v in values}) == len(values)
    # By hand: a change of the form would make every stored stage and activation stale.
    text = '{"a": null, "b": [1, "é"]}'.encode()
    assert fingerprint({"b": [1, "é"], "a": None}) == hashlib.sha256(text).hexdigest()[:16]


def test_cache_dir_precedence(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("BABELGATE_CACHE", str(tmp_path / "own"))
    assert cache_dir() == tmp_path / "own"
    monkeypatch.setenv("BABELGATE_CACHE", "")
    assert cache_dir() == tmp_path / "xdg" / "babelgate"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == tmp_path / "home" / ".cache" / "babelgate"
