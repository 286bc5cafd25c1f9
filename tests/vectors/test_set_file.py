"""A set of directions comes back as it was, or as one UserError."""

import dataclasses
import json
import random

import pytest
import torch
from safetensors.torch import load_file, save
from test_direction_set import MODEL, make

from babelgate.errors import UserError
from babelgate.vectors import load_directions, save_directions
from babelgate.vectors.set_file import is_set_file


@pytest.fixture
def path(tmp_path):
    save_directions(make(), tmp_path / "directions.safetensors")
    return tmp_path / "directions.safetensors"


def document(path):
    return json.loads(path.with_suffix(".json").read_text())


def rewrite(path, changed):
    path.with_suffix(".json").write_text(json.dumps(changed))


def rewrite_vectors(path, tensors):
    """Change vectors and the hash of their file, as somebody would who knows the format."""
    import hashlib

    data = save(tensors, metadata={"format": "babelgate directions"})
    path.write_bytes(data)
    rewrite(path, document(path) | {"sha256": hashlib.sha256(data).hexdigest()})


def same(a, b):
    def plain(entry):
        d = entry.direction
        return (
            entry.name, entry.scale, entry.scale_is, entry.language, entry.examples,
            d.layer, d.position, d.method, d.source, d.vector.tolist(),
        )  # fmt: skip

    return (
        [plain(e) for e in a.directions] == [plain(e) for e in b.directions]
        and a.model == b.model
        and a.provenance == b.provenance
    )


def test_a_set_comes_back_as_it_was(path):
    assert same(load_directions(path), make())
    assert same(load_directions(path, MODEL), make())
    assert sorted(p.name for p in path.parent.iterdir()) == [
        "directions.json",
        "directions.safetensors",
    ]
    assert is_set_file(path)


def test_a_set_without_a_model_comes_back(tmp_path):
    save_directions(make(model=None), tmp_path / "x.safetensors")
    assert load_directions(tmp_path / "x.safetensors", MODEL).model is None


def test_saving_again_writes_the_same_bytes(path):
    before = {p.name: p.read_bytes() for p in path.parent.iterdir()}
    save_directions(load_directions(path), path)
    assert {p.name: p.read_bytes() for p in path.parent.iterdir()} == before


def test_the_json_is_for_people(path):
    found = document(path)
    assert found["schema"] == 1
    assert found["model"]["weights"] == "weigh"
    assert found["provenance"]["prompts"] == "f00d"
    assert found["provenance"]["seed"] == 7
    first = found["directions"][0]
    assert first["name"] == "refusal/en"
    assert first["layer"] == 1
    assert first["scale"] == pytest.approx(3.0)
    assert first["examples"] == {"harmful": 8, "harmless": 9}
    # Units in the vectors' file, lengths in the JSON.
    tensors = load_file(path)
    assert set(tensors) == {"refusal/en@1", "refusal/en@3", "harmfulness/de@2"}
    assert all(float(t.norm()) == pytest.approx(1, abs=1e-6) for t in tensors.values())


def test_another_model_is_refused(path):
    with pytest.raises(UserError, match="weights: weigh here, other there"):
        load_directions(path, dataclasses.replace(MODEL, weights="other"))


def test_a_missing_file_is_named(path, tmp_path):
    with pytest.raises(UserError, match=r"nothing\.json does not exist"):
        load_directions(tmp_path / "nothing.safetensors")
    with pytest.raises(UserError, match=r"ends in \.safetensors"):
        load_directions(tmp_path / "directions.gguf")
    path.unlink()
    with pytest.raises(UserError, match=r"directions\.safetensors does not exist"):
        load_directions(path)


def test_files_of_two_sets_are_not_mixed(path, tmp_path):
    other = tmp_path / "other.safetensors"
    save_directions(make(model=None).select("harmfulness/de"), other)
    path.write_bytes(other.read_bytes())
    with pytest.raises(UserError, match="do not belong together"):
        load_directions(path)


def nan(tensors):
    tensors["refusal/en@1"][2] = float("nan")


def shorter(tensors):
    vector = tensors["refusal/en@1"][:4]
    tensors["refusal/en@1"] = vector / vector.norm()


def two_axes(tensors):
    tensors["refusal/en@1"] = tensors["refusal/en@1"][None].contiguous()


def doubled(tensors):
    tensors["refusal/en@1"] *= 2


def other_type(tensors):
    tensors["refusal/en@1"] = tensors["refusal/en@1"].double()


def gone(tensors):
    del tensors["refusal/en@1"]


@pytest.mark.parametrize("change", [nan, shorter, two_axes, doubled, other_type, gone])
def test_vectors_that_are_none_are_refused(path, change):
    tensors = {k: v.clone() for k, v in load_file(path).items()}
    change(tensors)
    rewrite_vectors(path, tensors)
    with pytest.raises(UserError, match=r"directions\.json"):
        load_directions(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema": 2}, "schema 2; this version reads schema 1"),
        ({"schema": None}, "schema None"),
        ({"d_model": 7}, "width 6, not 7"),
        ({"directions": []}, "at least one"),
        ({"directions": None}, "damaged"),
        ({"model": {}}, "damaged"),
        ({"provenance": {"origin": "measured"}}, "damaged"),
        ({"sha256": None}, "do not belong together"),
    ],
)
def test_a_damaged_json_is_refused(path, changes, words):
    rewrite(path, document(path) | changes)
    with pytest.raises(UserError, match=words):
        load_directions(path)


@pytest.mark.parametrize("field", ["name", "layer", "position", "scale", "scale_is", "examples"])
@pytest.mark.parametrize("value", [[], {}, "x", 10**400, -1, True, 1.5])
def test_a_field_of_another_kind_is_refused(path, field, value):
    if (field, repr(value)) in {("scale", "1.5"), ("examples", "{}")}:
        pytest.skip("a value that it may have")
    found = document(path)
    found["directions"][0][field] = value
    rewrite(path, found)
    with pytest.raises(UserError, match=r"directions\.json"):
        load_directions(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"schema": NaN}', "\x00"])
def test_a_json_that_is_none_is_refused(path, text):
    path.with_suffix(".json").write_text(text)
    with pytest.raises(UserError, match=r"directions\.json"):
        load_directions(path)


def test_cut_off_and_changed_bytes_are_refused(path):
    whole = path.read_bytes()
    text = path.with_suffix(".json").read_bytes()
    draw = random.Random(3)
    for _ in range(150):
        path.write_bytes(whole[: draw.randrange(len(whole))])
        with pytest.raises(UserError):
            load_directions(path)
    path.write_bytes(whole)
    refused = 0
    for _ in range(300):
        changed = bytearray(text)
        changed[draw.randrange(len(text))] = draw.randrange(256)
        path.with_suffix(".json").write_bytes(bytes(changed))
        try:
            load_directions(path)
        except UserError:
            refused += 1
    assert refused > 100  # the rest changed a letter of a text, or nothing


def test_vectors_on_shared_memory_are_saved(tmp_path):
    from babelgate.directions import Direction
    from babelgate.vectors import DirectionSet, NamedDirection, Provenance

    both = torch.nn.functional.normalize(torch.ones(2, 4), dim=1)
    entries = tuple(
        NamedDirection(n, Direction(both[i], 0, "t_post", "m", "s"), 1.0, "unit")
        for i, n in enumerate("ab")
    )
    made = DirectionSet(entries, None, Provenance("measured"))
    save_directions(made, tmp_path / "x.safetensors")
    assert same(load_directions(tmp_path / "x.safetensors"), made)
