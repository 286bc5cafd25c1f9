"""The weights: read, checked, and multiplied as the formula says."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from babelgate.errors import StoreError
from babelgate.judges.embedded.features import DENSE, features
from babelgate.judges.embedded.model import mark, read_model, shipped_model

from ..made import reply

DATA = files("babelgate.judges") / "data"
CARD = {"version": "9", "languages": ["en"], "note": "", "errors": {}}


@pytest.fixture
def folder(tmp_path):
    """A copy of the shipped model."""
    for name in ("weights.safetensors", "card.json"):
        shutil.copy(str(DATA / "embedded" / name), tmp_path / name)
    return tmp_path


def test_the_copy_is_the_shipped_model(folder):
    model = read_model(folder)
    np.testing.assert_array_equal(model.grams, shipped_model().grams)
    assert model.version == shipped_model().version
    assert model.grams.dtype == np.int8
    assert 2**model.bits == len(model.grams)


@pytest.mark.parametrize(
    ("dense", "grams", "named"),
    [
        (len(DENSE) + 1, 16, rf"\({len(DENSE) + 1},\)"),
        (len(DENSE), 15, r"\(15,\)"),
        (len(DENSE), 0, r"\(0,\)"),
        ((1, len(DENSE)), 16, rf"\(1, {len(DENSE)}\)"),
        (len(DENSE), (16, 2), r"\(16, 2\)"),
    ],
)
def test_shapes_that_do_not_fit_are_named(dense, grams, named):
    with pytest.raises(StoreError, match=named):
        replace(shipped_model(), dense=np.zeros(dense), grams=np.zeros(grams, dtype=np.int8))


@pytest.mark.parametrize("name", ["weights.safetensors", "card.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "garbage"])
def test_damaged_files_say_where(folder, name, damage):
    file = folder / name
    content = file.read_bytes()
    file.unlink()
    if damage != "missing":
        kept = {"empty": b"", "cut": content[: len(content) // 2], "garbage": b"\xff\x00" * 99}
        file.write_bytes(kept[damage])
    with pytest.raises(StoreError, match=str(folder)):
        read_model(folder)


@pytest.mark.parametrize("card", ["[]", "3", "null", "{}", '{"version": "1", "note": ""}'])
def test_a_card_that_lacks_something_is_damaged(folder, card):
    (folder / "card.json").write_text(card)
    with pytest.raises(StoreError, match=str(folder)):
        read_model(folder)


@pytest.mark.parametrize("tensor", ["dense", "grams", "scalars", "seen"])
def test_a_tensor_that_is_missing_or_cut(folder, tensor):
    tensors = load_file(folder / "weights.safetensors")
    for kept in ({}, {tensor: tensors[tensor][:-1]}) if tensor != "seen" else ({},):
        rest = {name: x for name, x in tensors.items() if name != tensor}
        save_file(rest | kept, folder / "weights.safetensors")
        with pytest.raises(StoreError):
            read_model(folder)


def test_weights_survive_a_round_trip_through_int8(tmp_path):
    rng = np.random.default_rng(0)
    grams = rng.normal(size=64)
    dense, bias = rng.normal(size=len(DENSE)).astype(np.float32), -0.25
    scale = float(np.abs(grams).max()) / 127
    save_file(
        {
            "dense": dense,
            "grams": np.round(grams / scale).astype(np.int8),
            "scalars": np.array([bias, scale]),
            "seen": shipped_model().seen,
        },
        tmp_path / "weights.safetensors",
    )
    (tmp_path / "card.json").write_text(json.dumps(CARD))
    model = read_model(tmp_path)
    assert (model.bias, model.scale, model.bits) == (bias, scale, 6)
    assert (model.version, model.languages) == ("9", {"en"})
    np.testing.assert_array_equal(model.dense, dense)
    assert np.abs(model.grams * model.scale - grams).max() <= scale / 2 * 1.0001


def test_all_that_ships_is_small():
    sizes = [f.stat().st_size for f in Path(str(DATA)).rglob("*") if f.is_file()]
    assert len(sizes) > 30
    assert sum(sizes) < 3_000_000


@pytest.mark.parametrize(
    "one",
    [
        reply("I'm sorry, but I can't help with that."),
        reply("Paris is the capital of France."),
        reply("我不能帮助你做这件事。", "zh"),
        reply("", "yo"),
        reply("\ud800 👍", "qq", stop="length"),
    ],
)
def test_the_probability_is_the_formula(one):
    model = shipped_model()
    found = features([one], bits=model.bits)
    odds = model.bias
    for weight, value in zip(model.dense.tolist(), found.dense[0].tolist(), strict=True):
        odds += weight * value
    buckets = found.gram_buckets.tolist()
    odds += model.scale * sum(int(model.grams[b]) for b in buckets) / math.sqrt(len(buckets) or 1)
    assert model.probabilities(found)[0] == pytest.approx(1 / (1 + math.exp(-odds)), abs=1e-6)


def test_a_reply_without_grams_has_a_probability():
    model = replace(
        shipped_model(), dense=np.zeros(len(DENSE)), bias=0.0, grams=np.ones(16, dtype=np.int8)
    )
    found = features([reply(""), reply("two words")], bits=model.bits)
    none = type(found)(
        found.dense, found.gram_rows[:0], found.gram_buckets[:0], found.phrases, found.plain
    )
    assert model.probabilities(none).tolist() == [0.5, 0.5]


def test_replies_of_the_training_are_known():
    model = shipped_model()
    refusal = "I can't help with that."  # the first of the written English ones
    long = "x" * 299
    own = replace(model, seen=np.array([mark(long + "y")], dtype=np.uint32))
    assert model.has_seen([refusal, f" {refusal}\n", "A reply that nobody has written \ud800."])[
        :2
    ].all()
    assert own.has_seen([long + "y", f"  {long}y and more", long + "z", ""]).tolist() == [
        True, True, False, False,
    ]  # fmt: skip
    assert own.has_seen([]).shape == (0,)
    assert not own.has_seen(["\ud800"])[0]
