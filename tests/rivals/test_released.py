"""Reading released files: arrays and nothing else; our own files go there and back."""

from __future__ import annotations

import json
import os
import pickle

import numpy as np
import pytest
import torch

from babelgate.errors import UserError
from babelgate.rivals.adasteer import AdaSteer, Coefficient
from babelgate.rivals.array_pickle import array_from_pickle
from babelgate.rivals.omniguard import fit_omniguard
from babelgate.rivals.released import (
    load_adasteer,
    load_cast,
    load_omniguard,
    load_saved_adasteer,
    save_adasteer,
    save_omniguard,
)


@pytest.mark.parametrize("dtype", ["<f2", ">f4", "f8", "i4", "u1", "?"])
@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_arrays_come_back_as_numpy_would_read_them(dtype, protocol):
    for array in (
        np.arange(24).reshape(2, 3, 4).astype(dtype),
        np.asfortranarray(np.arange(6).reshape(2, 3)).astype(dtype, order="F"),
        np.zeros((0, 3), dtype),
    ):
        found = array_from_pickle(pickle.dumps(array, protocol), "x")
        assert found.dtype == array.dtype.newbyteorder("=")
        assert np.array_equal(found, array)
    number = array_from_pickle(pickle.dumps(np.dtype(dtype).type(1), protocol), "x")
    assert (number.shape, number) == ((), 1)


def test_both_homes_of_numpy_core_are_known():
    data = pickle.dumps(np.arange(3.0), 4)
    here, there = b"numpy._core.multiarray", b"numpy.core.multiarray"
    old = data.replace(b"\x8c\x16" + here, b"\x8c\x15" + there)
    # The frame's length, which changes by one, is the little-endian number after \x80\x04\x95.
    if old != data:
        old = old[:3] + (int.from_bytes(old[3:11], "little") - 1).to_bytes(8, "little") + old[11:]
        assert there in old
    assert array_from_pickle(old, "x").tolist() == [0, 1, 2]


class Malicious:
    def __init__(self, call, *args):
        self.call, self.args = call, args

    def __reduce__(self):
        return self.call, self.args


@pytest.mark.parametrize("protocol", range(6))
def test_a_malicious_pickle_is_named_and_never_run(tmp_path, protocol):
    mark = tmp_path / "mark"
    for bad, named in (
        (Malicious(os.mkdir, str(mark)), "mkdir"),
        (Malicious(eval, f"__import__('os').mkdir({str(mark)!r})"), "eval"),
        ([np.arange(3), Malicious(os.mkdir, str(mark))], "mkdir"),
        (Malicious(np.fromfile, str(tmp_path / "x")), "fromfile"),
    ):
        data = pickle.dumps(bad, protocol)
        # Protocols before 3 write an array's bytes through another name, refused as well.
        named = "encode" if isinstance(bad, list) and protocol < 3 else named
        with pytest.raises(UserError, match=f"file.pkl is refused: it names .*{named}") as error:
            array_from_pickle(data, "file.pkl")
        assert "\n" not in str(error.value)
        assert not mark.exists()
    pickle.loads(pickle.dumps(Malicious(os.mkdir, str(mark)), protocol))  # noqa: S301
    assert mark.exists()  # the pickle would have done it


def test_object_arrays_records_and_other_things_are_refused():
    objects = np.array([{}, []], dtype=object)
    records = np.zeros(2, dtype=[("a", "f4"), ("b", "O")])
    for value, reason in (
        (objects, "type 'O8'"),
        (records, "records"),
        (np.array(["a"]), "type 'U1'"),
        (np.array([1j]), "type 'c16'"),
        (np.array(["2020"], dtype="M8[D]"), "M8|refused"),
        ([1, 2], "holds list"),
        ({"a": 1}, "holds dict"),
        (np.ndarray, "not an array"),
    ):
        with pytest.raises(UserError, match=reason):
            array_from_pickle(pickle.dumps(value, 4), "x")


def test_truncated_or_altered_pickles_are_an_error_and_never_another():
    array = np.arange(300, dtype="f2").reshape(3, 100)
    data = pickle.dumps(array, 4)
    for length in range(len(data)):
        with pytest.raises(UserError, match="not a whole pickle|is refused"):
            array_from_pickle(data[:length], "x")
    rng = np.random.default_rng(0)
    failed = 0
    for _ in range(2000):
        changed = bytearray(data)
        for place in rng.integers(0, 160, 3):
            changed[place] = rng.integers(256)
        try:
            array_from_pickle(bytes(changed), "x")
        except UserError:
            failed += 1
    assert failed > 500


def test_a_pickle_cannot_change_what_its_names_stand_for():
    """BUILD on a name would set attributes of a class or function that others use."""
    opcodes = b"cnumpy\ndtype\n}(Vcode\nVf8\nub."
    with pytest.raises(UserError, match="changes what its names"):
        array_from_pickle(b"\x80\x02" + opcodes, "x")
    assert array_from_pickle(pickle.dumps(np.ones(2), 4), "x").tolist() == [1, 1]


def released(folder, *, layers=3, d=4, change=()):
    """Write pickles as the authors do; ``change`` replaces some."""
    rng = np.random.default_rng(0)
    arrays = {}
    for kind in ("RD", "HD"):
        for name in ("class_a", "class_b"):
            arrays[f"{kind}/{name}"] = rng.standard_normal((layers, 5, d)).astype("f2")
        a, b = (arrays[f"{kind}/class_{x}"].mean(1) for x in "ab")
        arrays[f"{kind}/mean_diff"] = a - b
    arrays["HD/proj"] = arrays["HD/mean_diff"] * np.float16(0.5)
    arrays |= dict(change)
    for name, array in arrays.items():
        path = folder / f"{name}.pkl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(array, 4))
    return arrays


def test_released_vectors_and_anchors(tmp_path):
    arrays = released(tmp_path)
    vectors = load_adasteer(tmp_path)
    assert vectors.refusal.numpy() == pytest.approx(arrays["RD/mean_diff"], abs=1e-6)
    assert vectors.harmfulness.numpy() == pytest.approx(arrays["HD/proj"], abs=1e-6)
    for anchors, kind in ((vectors.refusal_anchors, "RD"), (vectors.harmfulness_anchors, "HD")):
        for mean, name in ((anchors.start, "class_a"), (anchors.end, "class_b")):
            expected = arrays[f"{kind}/{name}"].astype("f8").mean(1)
            assert mean.numpy() == pytest.approx(expected, abs=1e-6)
    assert len(vectors.provenance["sha256"]) == 6


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("HD/proj", np.zeros((3, 5), "f2")),
        ("HD/class_b", np.zeros((3, 4), "f2")),
        ("RD/class_a", np.zeros((2, 5, 4), "f2")),
        ("RD/class_a", np.zeros((3, 0, 4), "f2")),
        ("RD/mean_diff", np.zeros(3, "f2")),
    ],
)
def test_wrong_shapes_are_named(tmp_path, name, array):
    released(tmp_path, change={name: array})
    with pytest.raises(UserError, match="holds an array of shape"):
        load_adasteer(tmp_path)


def test_missing_and_not_finite_files(tmp_path):
    released(tmp_path, change={"HD/proj": np.full((3, 4), np.inf, "f2")})
    with pytest.raises(UserError, match="harmfulness holds values"):
        load_adasteer(tmp_path)
    (tmp_path / "HD" / "proj.pkl").unlink()
    with pytest.raises(UserError, match="proj.pkl cannot be read: No such file"):
        load_adasteer(tmp_path)


def test_adasteer_there_and_back(tmp_path):
    released(tmp_path)
    a, b = Coefficient(1, 0.1, -140, 0, -0.2, 0), Coefficient(2, -0.05, 5, -0.5, -0.75, None)
    made = AdaSteer(load_adasteer(tmp_path), a, b)
    path = tmp_path / "new" / "adasteer.safetensors"
    save_adasteer(made, path)
    found = load_saved_adasteer(path)
    assert (found.a, found.b) == (a, b)
    assert found.vectors.provenance == made.vectors.provenance
    for name, tensor in made.vectors.tensors().items():
        assert torch.equal(found.vectors.tensors()[name], tensor)
    first = path.read_bytes()
    save_adasteer(made, path)
    assert path.read_bytes() == first
    assert [x.name for x in path.parent.iterdir()] == [path.name]


def test_omniguard_there_and_back(tmp_path):
    x = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    guard = fit_omniguard(x, np.arange(20) % 2 == 0, layer=3, seed=0, epochs=1)
    save_omniguard(guard, tmp_path / "g.safetensors", {"seed": 0})
    found = load_omniguard(tmp_path / "g.safetensors")
    assert found.layer == 3
    assert torch.equal(found.score(x), guard.score(x))
    with pytest.raises(UserError, match="not a file of adasteer"):
        load_saved_adasteer(tmp_path / "g.safetensors")


def test_damaged_files_of_ours(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(UserError, match="cannot be read"):
        load_saved_adasteer(path)
    path.write_bytes(b"\x08" + b"\0" * 20)
    with pytest.raises(UserError, match="cannot be read"):
        load_saved_adasteer(path)


def write_cast(folder, **change):
    files = {
        "alpaca": {"train": [{"question": "a"}], "test": [{"question": "b"}]},
        "behavior_refusal": {"compliant_responses": ["c"], "non_compliant_responses": ["d"]},
        "condition_harmful": {"train": [{"harmful": "e", "harmless": "f"}] * 2,
                              "test": [{"harmful": "g", "harmless": "h"}]},
    } | change  # fmt: skip
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value))


def test_cast_data(tmp_path):
    write_cast(tmp_path)
    data = load_cast(tmp_path)
    assert (data.questions, data.complying, data.refusing) == (("a",), ("c",), ("d",))
    assert data.pairs == (("e", "f"), ("e", "f"))
    for change in (
        {"alpaca": {"train": []}},
        {"alpaca": []},
        {"alpaca": {"train": [{"question": 1}], "test": []}},
        {"behavior_refusal": {}},
        {"condition_harmful": {"train": [{"harmful": "x"}], "test": []}},
    ):
        write_cast(tmp_path, **change)
        with pytest.raises(UserError, match="does not hold CAST"):
            load_cast(tmp_path)


def test_the_real_releases(shared_data):
    folder = shared_data / "adasteer" / "qwen25-7b-instruct"
    if not folder.is_dir():
        pytest.skip("the released vectors are not here")
    vectors = load_adasteer(folder)
    assert vectors.refusal.shape == (28, 3584)
    anchors = vectors.refusal_anchors
    assert torch.allclose(vectors.refusal, anchors.start - anchors.end, atol=0.1)
    # HD is the difference of its classes projected onto RD, and so parallel to it.
    w = vectors.harmfulness_anchors.start - vectors.harmfulness_anchors.end
    r = vectors.refusal
    projected = ((w * r).sum(-1) / (r * r).sum(-1))[:, None] * r
    error = (vectors.harmfulness - projected).norm(dim=-1) / projected.norm(dim=-1)
    assert float(error.max()) < 0.01
    assert torch.equal(vectors.harmfulness_anchors.start, anchors.start)
    data = load_cast(shared_data / "cast")
    assert (len(data.questions), len(data.pairs), len(data.test_pairs)) == (700, 4050, 450)
    assert (len(data.refusing), len(data.complying)) == (100, 100)
