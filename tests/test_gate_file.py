"""A gate on disk comes back as it was, or not at all: nothing but a Gate or a GateError."""

import copy
import dataclasses
import json
import math
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from babelgate.errors import GateError
from babelgate.gate import Gate
from babelgate.gate_file import _tensor_hash, load_gate, save_gate
from test_gate import IDENTITY, D, make, noise


@pytest.fixture
def folder(tmp_path):
    save_gate(make(), tmp_path / "gate")
    return tmp_path / "gate"


def meta(folder):
    return json.loads((folder / "gate.json").read_text())


def write_meta(folder, document):
    (folder / "gate.json").write_text(json.dumps(document))


def same(a: Gate, b: Gate) -> bool:
    tensors = ("mean", "scale", "weight", "direction")
    plain = ("layers", "position", "bias", "thresholds", "default_threshold", "alpha", "model",
             "provenance")  # fmt: skip
    assert {*tensors, *plain, "bases"} == {f.name for f in dataclasses.fields(Gate)}
    return (
        all(torch.equal(getattr(a, n), getattr(b, n)) for n in tensors)
        and all(getattr(a, n) == getattr(b, n) for n in plain)
        and set(a.bases) == set(b.bases)
        and all(torch.equal(a.bases[x], b.bases[x]) for x in a.bases)
    )


def test_a_gate_comes_back_as_it_was(folder):
    back = load_gate(folder)
    assert same(back, make())
    states = {layer: noise(layer, 5, D) for layer in (1, 3)}
    assert torch.equal(back.score(states), make().score(states))
    assert sorted(p.name for p in folder.iterdir()) == ["gate.json", "gate.safetensors"]


def test_saving_again_replaces_and_writes_the_same_bytes(folder):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    save_gate(load_gate(folder), folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    save_gate(make(bias=7.0), folder)
    assert load_gate(folder).bias == 7.0


def test_the_json_is_for_people(folder):
    document = meta(folder)
    assert document["fires"] == "score >= threshold"
    assert document["layers"] == [1, 3]
    assert document["steer_layer"] == 3
    assert document["rank"] == {"1": 2, "3": 3}
    assert document["thresholds"] == {"sw": 0.25, "yo": -1.5}
    assert document["model"]["name"] == "some model"


def test_a_threshold_may_be_edited_by_hand(folder):
    write_meta(folder, meta(folder) | {"thresholds": {"sw": 1}})
    assert load_gate(folder).thresholds == {"sw": 1.0}


def test_bases_that_are_not_contiguous_are_saved(tmp_path):
    gate = make(bases={x: b.T.contiguous().T for x, b in make().bases.items()})
    assert not gate.bases[3].is_contiguous()
    save_gate(gate, tmp_path)
    assert same(load_gate(tmp_path), gate)


# ---------------------------------------------------------------------------------------------
# refusals


def test_what_is_missing_is_named(folder, tmp_path):
    with pytest.raises(GateError, match=r"gate\.json does not exist; make a gate with `babelgate"):
        load_gate(tmp_path / "nowhere")
    (folder / "gate.safetensors").unlink()
    with pytest.raises(GateError, match=r"gate\.safetensors cannot be read"):
        load_gate(folder)


def test_files_of_two_gates_are_not_mixed(folder, tmp_path):
    save_gate(make(weight=make().weight + 1), tmp_path / "other")
    shutil.copy(tmp_path / "other" / "gate.safetensors", folder)
    with pytest.raises(GateError, match="do not belong together"):
        load_gate(folder)


@pytest.mark.parametrize("name", ["basis.1", "basis.3", "mean", "scale", "weight", "direction"])
def test_one_changed_number_is_noticed(folder, name):
    tensors = load_file(folder / "gate.safetensors")
    tensors[name].view(-1)[0] += 1e-3
    save_file(tensors, folder / "gate.safetensors")
    with pytest.raises(GateError, match="do not belong together"):
        load_gate(folder)


def forge(folder, **tensors):
    """Change tensors and the hash with them, as someone would who edits on purpose."""
    found = load_file(folder / "gate.safetensors") | tensors
    found = {k: v for k, v in found.items() if v is not None}
    save_file(found, folder / "gate.safetensors")
    try:
        digest = _tensor_hash(found)
    except ValueError:  # NaN has no hash
        digest = meta(folder)["tensors"]
    write_meta(folder, meta(folder) | {"tensors": digest})


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"scale": -torch.ones(5)}, "not positive"),
        ({"scale": torch.zeros(5)}, "not positive"),
        ({"mean": torch.full((5,), math.nan)}, "damaged"),
        ({"weight": torch.full((5,), math.inf)}, "damaged"),
        ({"weight": torch.ones(4)}, "do not fit"),
        ({"direction": torch.ones(D + 1)}, "do not fit"),
        ({"direction": None}, "direction"),
        ({"basis.3": None}, "basis.3"),
        ({"mean": torch.ones(5).double()}, "float32"),
        ({"mean": torch.ones(5, dtype=torch.complex64)}, "float32"),
        ({"mean": torch.ones(5).to(torch.float8_e4m3fn)}, "float32"),
        ({"direction": torch.ones(D, dtype=torch.bool)}, "float32"),
    ],
    ids=str,
)
def test_forged_tensors_are_refused_for_what_they_are(folder, tensors, words):
    forge(folder, **tensors)
    with pytest.raises(GateError, match=words):
        load_gate(folder)


@pytest.mark.parametrize("key", sorted(
    ["schema", "layers", "position", "bias", "alpha", "default_threshold", "thresholds", "model",
     "tensors", "provenance"]
))  # fmt: skip
def test_a_missing_key_is_named(folder, key):
    document = meta(folder)
    del document[key]
    write_meta(folder, document)
    with pytest.raises(GateError, match=key):
        load_gate(folder)


@pytest.mark.parametrize("key", [f.name for f in dataclasses.fields(IDENTITY)])
def test_a_missing_property_of_the_model_is_named(folder, key):
    document = meta(folder)
    del document["model"][key]
    write_meta(folder, document)
    with pytest.raises(GateError, match=key):
        load_gate(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema": 2}, "schema 2"),
        ({"position": "last"}, "'last'"),
        ({"position": []}, "position"),
        ({"layers": [1.0, 3]}, "layers should be a whole number, not 1.0"),
        ({"layers": [True, 3]}, "layers should be a whole number"),
        ({"layers": "13"}, "layers should be a whole number"),
        ({"layers": [3, 1]}, "do not fit"),
        ({"layers": [10**30]}, "damaged"),
        ({"layers": 3}, "damaged"),
        ({"bias": "0.5"}, "bias should be a number"),
        ({"bias": True}, "bias should be a number"),
        ({"alpha": None}, "alpha should be a number"),
        ({"alpha": math.nan}, "NaN or infinite"),
        ({"bias": -math.inf}, "NaN or infinite"),
        ({"bias": 10**400}, "bias is too large"),
        ({"default_threshold": [0]}, "default_threshold should be a number"),
        ({"thresholds": {"sw": "low"}}, "thresholds.sw should be a number"),
        ({"thresholds": {"sw": math.nan}}, "NaN or infinite"),
        ({"thresholds": 5}, "damaged"),
        ({"model": []}, "damaged"),
        ({"model": None}, "damaged"),
        ({"provenance": 5}, "damaged"),
        ({"tensors": None}, "do not belong together"),
    ],
    ids=str,
)
def test_wrong_values_are_named(folder, changes, words):
    write_meta(folder, meta(folder) | changes)
    with pytest.raises(GateError, match=words):
        load_gate(folder)


@pytest.mark.parametrize(
    ("name", "value"), [("n_layers", 5.0), ("n_layers", "5"), ("d_model", True)]
)
def test_wrong_shapes_of_the_model_are_named(folder, name, value):
    document = meta(folder)
    document["model"][name] = value
    write_meta(folder, document)
    with pytest.raises(GateError, match=f"model.{name} should be a whole number"):
        load_gate(folder)


# ---------------------------------------------------------------------------------------------
# anything at all


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gate")
    save_gate(make(), folder)
    return folder, meta(folder), (folder / "gate.safetensors").read_bytes()


def gate_or_error(folder):
    try:
        found = load_gate(folder)
    except GateError:
        return None
    assert isinstance(found, Gate)
    return found


@settings(max_examples=150, deadline=None)
@given(
    content=st.binary(max_size=80) | st.text(max_size=80).map(lambda s: s.encode("utf-8", "ignore"))
)
def test_any_bytes_as_json(scratch, content):
    folder, _, tensors = scratch
    (folder / "gate.safetensors").write_bytes(tensors)
    (folder / "gate.json").write_bytes(content)
    assert gate_or_error(folder) is None


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"a":' * 100_000, b"1" * 5000, b"\x00"])
def test_json_that_is_hard_to_read(scratch, content):
    test_any_bytes_as_json.hypothesis.inner_test(scratch, content)


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from([10**400, -1, 1e308, "t_post", "sw"])
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


def places(value, path=()):
    """Yield the path of every value in a document."""
    yield path
    items = value.items() if isinstance(value, dict) else ()
    for key, item in enumerate(value) if isinstance(value, list) else items:
        yield from places(item, (*path, key))


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_any_value_in_any_field(scratch, data):
    folder, document, tensors = scratch
    (folder / "gate.safetensors").write_bytes(tensors)
    changed = copy.deepcopy(document)
    *parents, last = data.draw(st.sampled_from([p for p in places(document) if p]))
    at = changed
    for key in parents:
        at = at[key]
    at[last] = data.draw(values)
    write_meta(folder, changed)
    found = gate_or_error(folder)
    if found is not None:
        numbers = [found.bias, found.alpha, found.default_threshold, *found.thresholds.values()]
        assert all(type(x) is float and math.isfinite(x) for x in numbers)
        assert found.layers == (1, 3)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_tensors_cut_short_or_with_a_changed_byte(scratch, data):
    folder, document, tensors = scratch
    write_meta(folder, document)
    at = data.draw(st.integers(0, len(tensors) - 1))
    if data.draw(st.booleans()):
        content = tensors[:at]
    else:
        byte = data.draw(st.integers(0, 255).filter(lambda b: b != tensors[at]))
        content = tensors[:at] + bytes([byte]) + tensors[at + 1 :]
    (folder / "gate.safetensors").write_bytes(content)
    found = gate_or_error(folder)
    if found is not None:  # only what names or pads the header may change unnoticed
        assert same(found, make())


@settings(max_examples=100, deadline=None)
@given(
    header=st.binary(max_size=40) | values.map(lambda v: json.dumps(v).encode()),
    rest=st.binary(max_size=20),
)
def test_any_bytes_as_tensors(scratch, header, rest):
    folder, document, _ = scratch
    write_meta(folder, document)
    content = len(header).to_bytes(8, "little") + header + rest
    (folder / "gate.safetensors").write_bytes(content)
    assert gate_or_error(folder) is None


@pytest.mark.parametrize(
    "dtype", ["F64", "F16", "BF16", "I64", "I8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F4",
              "F6_E2M3", "C64", "U16", "U64", "X", ""],
)  # fmt: skip
def test_tensors_of_any_kind_of_number(scratch, dtype):
    folder, document, _ = scratch
    write_meta(folder, document)
    sizes = {"F64": 8, "I64": 8, "C64": 8, "U64": 8, "F16": 2, "BF16": 2, "U16": 2}
    size = 4 if dtype == "F4" else 6 if dtype == "F6_E2M3" else 8 * sizes.get(dtype, 1)
    header = json.dumps({"mean": {"dtype": dtype, "shape": [8], "data_offsets": [0, size]}})
    content = len(header).to_bytes(8, "little") + header.encode() + bytes(size)
    (folder / "gate.safetensors").write_bytes(content)
    assert gate_or_error(folder) is None
