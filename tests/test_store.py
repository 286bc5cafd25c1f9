"""Activation stores: what is written is what is read, and damage is found and named."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from babelgate import store as store_module
from babelgate.errors import StoreError
from babelgate.store import ActivationStore, StoreSpec
from babelgate.types import ModelIdentity

MODEL = ModelIdentity("tiny", "", "float32", "template", "weights", n_layers=8, d_model=16)
LAYERS = (1, 4, 6)
N = 7
BATCHES = (0, 2, 5, 7)
KEYS = [f"en/{i}" for i in range(N)]


def spec(**changes) -> StoreSpec:
    base = StoreSpec(
        model=MODEL,
        layers=LAYERS,
        positions=("t_post", "t_inst"),
        dtype="float32",
        prompts=tuple((key, f"text {key}") for key in KEYS),
        batches=BATCHES,
    )
    return replace(base, **changes)


def values(seed: int = 0) -> torch.Tensor:
    """``[n_layers, n_positions, N, d]`` with another value in every cell."""
    return torch.randn(3, 2, N, 16, generator=torch.Generator().manual_seed(seed)) * 50


def filled(folder, data=None, *, batches=(0, 1, 2), excluded=None, **changes) -> ActivationStore:
    store = ActivationStore.create_or_resume(folder, spec(**changes))
    data = values() if data is None else data
    for b in batches:
        start, stop = BATCHES[b], BATCHES[b + 1]
        gone = {k: v for k, v in (excluded or {}).items() if k in KEYS[start:stop]}
        store.write_batch(b, data[:, :, start:stop], gone)
    return store


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_round_trip_per_layer_position_and_order(tmp_path, dtype):
    data = values()
    filled(tmp_path, data, dtype=dtype, batches=(2, 0, 1))
    store = ActivationStore.open(tmp_path)
    assert store.complete
    expected = data.to(getattr(torch, dtype)).float()  # the stored type's rounding, once
    for order in (list(range(N)), [6, 0, 3], [2, 2], []):
        for i, layer in enumerate(LAYERS):
            for j, position in enumerate(("t_post", "t_inst")):
                got = store.layer(layer, position, [KEYS[k] for k in order])
                assert got.dtype == torch.float32
                assert got.shape == (len(order), 16)
                assert torch.equal(got, expected[i, j][order])


def test_reading_one_layer_reads_only_that_slice(tmp_path):
    """The slice is 1/3 of the file; the kernel counts what the process read."""
    if not os.path.exists("/proc/self/io"):
        pytest.skip("this system does not count the bytes that a process reads")
    n, d = 64, 4096
    big = replace(MODEL, d_model=d)
    keys = [f"en/{i}" for i in range(n)]
    given = spec(
        model=big, prompts=tuple((k, k) for k in keys), batches=(0, n), positions=("t_post",)
    )
    store = ActivationStore.create_or_resume(tmp_path, given)
    store.write_batch(0, torch.randn(3, 1, n, d), {})
    store = ActivationStore.open(tmp_path)

    def bytes_read() -> int:
        with open("/proc/self/io") as file:
            return int(file.readline().split()[1])

    before = bytes_read()
    store.layer(4, "t_post", keys[:1])
    slice_ = n * d * 4
    assert slice_ <= bytes_read() - before < 1.2 * slice_


def test_excluded_rows_are_nan_and_keep_their_reason(tmp_path):
    filled(tmp_path, excluded={"en/1": "too long", "en/5": "not finite"})
    store = ActivationStore.open(tmp_path)
    assert store.excluded == {"en/1": "too long", "en/5": "not finite"}
    got = store.layer(4, "t_inst", KEYS)
    assert got.isnan().all(1).tolist() == [False, True, False, False, False, True, False]
    assert not got[[0, 2, 3, 4, 6]].isnan().any()


def test_a_short_write_is_finished_not_taken_for_whole(tmp_path, monkeypatch):
    """``pwrite`` may write less than it was given, near a full disk for one."""
    real = os.pwrite
    monkeypatch.setattr(
        store_module.os, "pwrite", lambda f, data, at: real(f, data[: max(1, len(data) // 3)], at)
    )
    filled(tmp_path)
    got = ActivationStore.open(tmp_path)
    for i, layer in enumerate(LAYERS):
        assert torch.equal(got.layer(layer, "t_inst", KEYS), values()[i, 1])


def test_asking_for_what_is_not_stored_names_it(tmp_path):
    store = filled(tmp_path)
    with pytest.raises(StoreError, match=r"holds layers \[1, 4, 6\].* not layer 2"):
        store.layer(2, "t_post", KEYS)
    with pytest.raises(StoreError, match="lacks 2 prompts, such as sw/9"):
        store.layer(1, "t_post", [*KEYS, "sw/9", "sw/8"])
    only = filled(tmp_path / "b", values()[:, :1], positions=("t_post",))
    with pytest.raises(StoreError, match="not layer 1 at t_inst"):
        only.layer(1, "t_inst", KEYS)


def test_a_batch_of_another_shape_is_refused_before_it_is_written(tmp_path):
    store = ActivationStore.create_or_resume(tmp_path, spec())
    with pytest.raises(ValueError, match="batch 0 has values of shape"):
        store.write_batch(0, values()[:, :, :3], {})
    assert store.done_batches == frozenset()


# -- damage ------------------------------------------------------------------------------------------


def flip(path, at):
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)


def test_one_flipped_bit_is_found_in_its_layer_and_the_others_stay_readable(tmp_path):
    filled(tmp_path)
    layer_bytes = 2 * N * 16 * 4
    checked = 0
    # Both positions, each batch, the first and the last byte of the layer.
    for at in (0, N * 16 * 4 + 3, 3 * 16 * 4, layer_bytes - 1):
        flip(tmp_path / "values.bin", layer_bytes + at)
        store = ActivationStore.open(tmp_path)
        for position in ("t_post", "t_inst"):
            with pytest.raises(StoreError, match=r"of layer 4 does not match its checksum; remove"):
                store.layer(4, position, KEYS[:1])
        assert torch.equal(store.layer(1, "t_post", KEYS), values()[0, 0])
        assert torch.equal(store.layer(6, "t_inst", KEYS), values()[2, 1])
        flip(tmp_path / "values.bin", layer_bytes + at)
        checked += 1
    assert checked == 4
    assert torch.equal(ActivationStore.open(tmp_path).layer(4, "t_post", KEYS), values()[1, 0])


def test_the_checksum_error_names_the_batch(tmp_path):
    filled(tmp_path)
    flip(tmp_path / "values.bin", 3 * 16 * 4)  # layer 1, row 3: batch 1
    with pytest.raises(StoreError, match="batch 1 of layer 1"):
        ActivationStore.open(tmp_path).layer(1, "t_post", KEYS)


@pytest.mark.parametrize("size", [0, 100, 3 * 2 * N * 16 * 4 - 1, 3 * 2 * N * 16 * 4 + 1])
def test_values_of_another_size(tmp_path, size):
    filled(tmp_path)
    os.truncate(tmp_path / "values.bin", size)
    for reopen in (ActivationStore.open, lambda f: ActivationStore.create_or_resume(f, spec())):
        with pytest.raises(
            StoreError, match=rf"values.bin has {size} bytes, 2688 expected; remove"
        ):
            reopen(tmp_path)


def test_missing_values(tmp_path):
    filled(tmp_path)
    (tmp_path / "values.bin").unlink()
    with pytest.raises(StoreError, match=r"damaged .*remove the folder"):
        ActivationStore.open(tmp_path)


def test_missing_manifest_is_no_store_to_read_and_a_fresh_one_to_write(tmp_path):
    filled(tmp_path)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(StoreError, match=r"no activation store: it has no manifest\.json"):
        ActivationStore.open(tmp_path)
    assert ActivationStore.create_or_resume(tmp_path, spec()).done_batches == frozenset()
    with pytest.raises(StoreError, match=r"no manifest\.json"):
        ActivationStore.open(tmp_path / "nowhere")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"{}", b'{"schema": 99}'])
def test_garbage_manifest(tmp_path, content):
    filled(tmp_path)
    (tmp_path / "manifest.json").write_bytes(content)
    for reopen in (ActivationStore.open, lambda f: ActivationStore.create_or_resume(f, spec())):
        with pytest.raises(StoreError, match=r"manifest"):
            reopen(tmp_path)
    # Somebody's data is not thrown away on a guess.
    assert (tmp_path / "values.bin").stat().st_size == 2688


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("layers", None), ("layers", 3), ("dtype", "int4"), ("dtype", None), ("batches", "abc"),
        ("batches", [0, "x"]), ("batches", []), ("prompts", 5), ("positions", ["t_last", "t_post"]),
        ("d_model", "wide"), ("d_model", 17), ("model", None),
    ],
)  # fmt: skip
def test_a_manifest_with_one_wrong_or_missing_field(tmp_path, name, value):
    filled(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    for broken in ({**manifest, name: value}, {k: v for k, v in manifest.items() if k != name}):
        (tmp_path / "manifest.json").write_text(json.dumps(broken))
        if name == "model" and value is None and name in broken:
            continue  # for people to read; nothing is computed from it
        with pytest.raises(StoreError, match="is damaged"):
            ActivationStore.open(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "garbage",
        "{}",
        '{"batch": 7, "rows": [7, 9], "crc32": [1, 2, 3], "excluded": {}}',
        '{"batch": -1, "rows": [5, 7], "crc32": [1, 2, 3], "excluded": {}}',
        '{"batch": "x", "rows": [0, 2], "crc32": [1, 2, 3], "excluded": {}}',
        '{"batch": 0, "rows": [0, 3], "crc32": [1, 2, 3], "excluded": {}}',
        '{"batch": 0, "rows": 5, "crc32": [1, 2, 3], "excluded": {}}',
        '{"batch": 0, "rows": [0, 2], "crc32": [1], "excluded": {}}',
        '{"batch": 0, "rows": [0, 2], "crc32": [1, 2, 3], "excluded": null}',
        '{"batch": 0, "rows": [0, 2], "crc32": [1, 2, 3]}',
    ],
)
def test_garbage_journal(tmp_path, line):
    filled(tmp_path, batches=(1, 2))
    with (tmp_path / "journal.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(StoreError, match="damaged"):
        ActivationStore.open(tmp_path)


def test_a_torn_journal_line_costs_one_batch(tmp_path):
    filled(tmp_path)
    path = tmp_path / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    store = ActivationStore.create_or_resume(tmp_path, spec())
    assert store.done_batches == {0, 1}
    store.write_batch(2, values()[:, :, 5:], {})
    again = ActivationStore.open(tmp_path)
    assert again.complete
    assert torch.equal(again.layer(6, "t_post", KEYS), values()[2, 0])


def test_values_are_on_the_disk_before_the_journal_counts_them(tmp_path, monkeypatch):
    """After a power cut a journal line without its values would be worse than no line."""
    store = ActivationStore.create_or_resume(tmp_path, spec())
    journal, synced, real = tmp_path / "journal.jsonl", [], os.fsync

    def recording(file):
        lines = journal.read_bytes().count(b"\n") if journal.exists() else 0
        names = {(tmp_path / n).stat().st_ino: n for n in os.listdir(tmp_path)}
        synced.append((names[os.fstat(file).st_ino], lines))
        real(file)

    monkeypatch.setattr(store_module.os, "fsync", recording)
    store.write_batch(0, values()[:, :, :2], {})
    assert synced == [("values.bin", 0), ("journal.jsonl", 1)]


# -- keys and resuming -------------------------------------------------------------------------------

OTHER = replace(MODEL, weights="others")


@pytest.mark.parametrize(
    "change",
    [
        {"model": OTHER},
        {"model": replace(MODEL, template="other")},
        {"model": replace(MODEL, dtype="bfloat16")},
        {"layers": (1, 4, 5)},
        {"positions": ("t_inst", "t_post")},
        {"dtype": "bfloat16"},
        {"prompts": tuple((k, "another text") for k in KEYS)},
        {"prompts": tuple((f"de/{k}", f"text {k}") for k in KEYS)},
    ],
    ids=lambda c: next(iter(c)),
)
def test_a_store_of_another_capture_is_started_afresh(tmp_path, change):
    filled(tmp_path)
    store = ActivationStore.create_or_resume(tmp_path, spec(**change))
    assert store.done_batches == frozenset()
    assert not store.complete
    assert spec(**change).key() != spec().key()
    raw = np.fromfile(tmp_path / "values.bin", dtype=np.uint8)
    assert raw.size == int(np.prod(store.shape)) * (2 if change.get("dtype") else 4)
    assert not raw.any()  # nothing of the old values can be mistaken for new ones


def test_the_models_name_is_not_part_of_the_key(tmp_path):
    filled(tmp_path)
    moved = spec(model=replace(MODEL, name="/elsewhere/tiny", revision="abc"))
    assert ActivationStore.create_or_resume(tmp_path, moved).complete


def test_batching_is_not_part_of_the_key_and_the_plan_on_disk_stays(tmp_path):
    filled(tmp_path, batches=(0, 2))
    store = ActivationStore.create_or_resume(tmp_path, spec(batches=(0, 7)))
    assert store.batches == BATCHES
    assert store.done_batches == {0, 2}
    store.write_batch(1, values()[:, :, 2:5], {})
    assert torch.equal(ActivationStore.open(tmp_path).layer(4, "t_post", KEYS), values()[1, 0])


def no_space(*_args):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_too_small_for_the_values_shows_at_once_and_leaves_no_store(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(store_module.os, "posix_fallocate", no_space)
        with pytest.raises(StoreError, match=r"disk that holds .*values\.bin is full"):
            ActivationStore.create_or_resume(tmp_path / "s", spec())
    assert os.listdir(tmp_path / "s") == []
    with pytest.raises(StoreError, match=r"no manifest\.json"):
        ActivationStore.open(tmp_path / "s")
    assert filled(tmp_path / "s").complete


def test_a_stale_store_that_cannot_be_replaced_is_not_left_half_valid(tmp_path, monkeypatch):
    filled(tmp_path)
    monkeypatch.setattr(store_module.os, "posix_fallocate", no_space)
    with pytest.raises(StoreError, match="is full"):
        ActivationStore.create_or_resume(tmp_path, spec(model=OTHER))
    with pytest.raises(StoreError, match=r"no manifest\.json"):
        ActivationStore.open(tmp_path)


def test_a_disk_that_fills_while_writing_keeps_the_finished_batches(tmp_path, monkeypatch):
    store = filled(tmp_path, batches=(0,))
    with monkeypatch.context() as patch:
        patch.setattr(store_module.os, "pwrite", no_space)
        with pytest.raises(StoreError, match="is full.*finished work is kept"):
            store.write_batch(1, values()[:, :, 2:5], {})
    assert store.done_batches == {0}
    again = ActivationStore.create_or_resume(tmp_path, spec())
    assert again.done_batches == {0}
    assert torch.equal(again.layer(4, "t_post", KEYS[:2]), values()[1, 0, :2])
