"""Control vectors against readers written from llama.cpp's and repeng's rules, and against hooks."""

import os
import pickle
import random
import struct
import tracemalloc
import zipfile

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_direction_set import MODEL, D, entry, make, noise
from test_set_file import same

from babelgate.errors import UserError
from babelgate.generate import generate
from babelgate.interventions import AddDirection, Ungated
from babelgate.vectors import (
    FORMATS,
    DirectionSet,
    Provenance,
    export_vectors,
    import_vectors,
    named_direction,
)
from babelgate.vectors.gguf_file import read_control_vector, write_control_vector
from tiny import TEXTS, tiny_model

VECTORS = {1: noise(1).numpy() * 3, 3: noise(3).numpy() * 40}


# ---------------------------------------------------------------------------------------------
# the readers of others, written out slowly


def llama_cpp_buffer(path, strength=1.0):
    """What llama.cpp's loader makes of a file: one row per block, row 0 for block 1.

    Its rules: every tensor is ``direction.N`` with N > 0, float32, one-dimensional, of one width;
    ``strength * vector`` is added to row N - 1 (common/common.cpp, common_control_vector_load_one).
    """
    rows: list[np.ndarray] = []
    for tensor in gguf.GGUFReader(path).tensors:
        word, _, number = tensor.name.partition(".")
        assert word == "direction"
        n = int(number)
        assert n > 0
        assert tensor.tensor_type == gguf.GGMLQuantizationType.F32
        assert len(tensor.shape) == 1
        while len(rows) < n:
            rows.append(np.zeros(tensor.shape[0], np.float32))
        for i, value in enumerate(tensor.data):
            rows[n - 1][i] += value * np.float32(strength)
    return rows


def llama_cpp_block_of_row(row):
    """``cur = build_cvec(cur, il)`` adds row ``il - 1`` to block il's output (llama-adapter.cpp)."""
    return row + 1


def repeng_import(path):
    """What repeng's import makes of a file: a hint and ``{layer: vector}``, layers from 0."""
    reader = gguf.GGUFReader(path)
    text = lambda key: bytes(reader.get_field(key).parts[-1]).decode()  # noqa: E731
    assert text("general.architecture") == "controlvector"
    found = {int(t.name.split(".")[1]): t.data for t in reader.tensors if "direction." in t.name}
    return text("controlvector.model_hint"), found


def repeng_export(path, model_type, directions):
    """What repeng writes: arrays under their layers, in the dictionary's order, the number of them."""
    writer = gguf.GGUFWriter(path, "controlvector")
    writer.add_string("controlvector.model_hint", model_type)
    writer.add_uint32("controlvector.layer_count", len(directions))
    for layer, vector in directions.items():
        writer.add_tensor(f"direction.{layer}", vector)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# ---------------------------------------------------------------------------------------------
# writing


def test_llama_cpp_adds_what_we_would_add_after_the_same_block(tmp_path):
    made = make()
    written = export_vectors(made, tmp_path / "v.gguf", name="refusal/en")
    assert written == (1, 3)
    for strength in (1.0, 0.5, -2.0):
        rows = llama_cpp_buffer(tmp_path / "v.gguf", strength)
        found = {llama_cpp_block_of_row(i): row for i, row in enumerate(rows) if row.any()}
        assert set(found) == {1, 3}
        for block, row in found.items():
            ours = made.get("refusal/en", block)
            want = strength * ours.scale * ours.direction.vector.numpy()
            assert np.allclose(row, want, rtol=1e-6, atol=1e-7)


def test_repeng_reads_what_we_write(tmp_path):
    made = make()
    export_vectors(made, tmp_path / "v.gguf", name="refusal/en", model_hint="qwen2")
    hint, found = repeng_import(tmp_path / "v.gguf")
    assert hint == "qwen2"
    assert list(found) == [1, 3]
    for layer, vector in found.items():
        assert vector.dtype == np.float32
        assert np.array_equal(vector, made.get("refusal/en", layer).scaled().numpy())


def test_what_a_file_says_of_itself(tmp_path):
    export_vectors(make(), tmp_path / "v.gguf", name="refusal/en", layers=[3])
    reader = gguf.GGUFReader(tmp_path / "v.gguf")
    field = lambda key: reader.get_field(key).contents()  # noqa: E731
    assert field("general.architecture") == "controlvector"
    assert field("controlvector.layer_count") == 1
    assert field("controlvector.model_hint") == "some model"
    assert field("babelgate.name") == "refusal/en"
    assert field("babelgate.weights") == "weigh"
    assert field("babelgate.position") == "t_post"
    assert field("babelgate.scale_is") == "mean_difference"


def test_block_0_cannot_be_written_for_llama_cpp(tmp_path):
    made = make(entry(layer=0), entry(layer=2))
    with pytest.raises(UserError, match="after block 0"):
        export_vectors(made, tmp_path / "v.gguf")
    assert not list(tmp_path.iterdir())
    assert export_vectors(made, tmp_path / "v.gguf", layers=[2]) == (2,)
    assert export_vectors(made, tmp_path / "v.npz") == (0, 2)


def test_one_of_several_is_chosen_by_name(tmp_path):
    made = make()
    with pytest.raises(UserError, match=r"choose one.*'refusal/en', 'harmfulness/de'"):
        export_vectors(made, tmp_path / "v.gguf")
    with pytest.raises(UserError, match=r"no direction 'refusal/de'.*'harmfulness/de'"):
        export_vectors(made, tmp_path / "v.gguf", name="refusal/de")
    assert not list(tmp_path.iterdir())
    assert export_vectors(made, tmp_path / "v.gguf", name="harmfulness/de") == (2,)


def test_our_own_format_takes_all_or_one(tmp_path):
    made = make()
    assert export_vectors(made, tmp_path / "all.safetensors") == (1, 2, 3)
    assert same(import_vectors(tmp_path / "all.safetensors", model=MODEL), made)
    assert export_vectors(made, tmp_path / "one.safetensors", name="refusal/en", layers=[3]) == (3,)
    assert same(import_vectors(tmp_path / "one.safetensors"), made.select("refusal/en", [3]))
    os.rename(tmp_path / "one.safetensors", tmp_path / "x.safetensors")
    with pytest.raises(UserError, match=r"x\.json does not exist"):
        import_vectors(tmp_path / "x.safetensors")


def test_suffix_and_format(tmp_path):
    made = make().select("harmfulness/de")
    assert FORMATS == ("gguf", "npz", "safetensors")
    with pytest.raises(UserError, match=r"end in \.gguf, \.npz, \.safetensors"):
        export_vectors(made, tmp_path / "v.txt")
    with pytest.raises(UserError, match=r"end in \.gguf, \.npz, \.safetensors"):
        import_vectors(tmp_path / "v.txt")
    with pytest.raises(UserError, match="'onnx' is not one of gguf, npz, safetensors"):
        export_vectors(made, tmp_path / "v.gguf", format="onnx")
    export_vectors(made, tmp_path / "v.vec", format="gguf")
    assert (tmp_path / "v.vec").read_bytes()[:4] == b"GGUF"
    export_vectors(made, tmp_path / "V.GGUF")
    assert import_vectors(tmp_path / "V.GGUF").layers("harmfulness/de") == (2,)


def test_a_length_that_float32_cannot_hold_is_refused(tmp_path):
    for scale in (1e39, 1e-60):
        vector = noise(1).double() / noise(1).double().norm() * scale
        huge = named_direction("x", vector, layer=1, position="t_post", method="m", source="s")
        with pytest.raises(UserError, match="does not fit into float32"):
            export_vectors(make(huge), tmp_path / "v.gguf")


def test_the_same_set_gives_the_same_bytes(tmp_path):
    for suffix in FORMATS:
        export_vectors(make(), tmp_path / f"a.{suffix}", name="refusal/en")
        export_vectors(make(), tmp_path / f"b.{suffix}", name="refusal/en")
        first, second = ((tmp_path / f"{x}.{suffix}").read_bytes() for x in "ab")
        assert first == second


# ---------------------------------------------------------------------------------------------
# reading


@pytest.mark.parametrize("suffix", ["gguf", "npz"])
def test_what_was_written_comes_back(tmp_path, suffix):
    made = make()
    export_vectors(made, tmp_path / f"v.{suffix}", name="refusal/en")
    back = import_vectors(tmp_path / f"v.{suffix}", name="again", model=MODEL)
    assert back.model is None
    assert back.provenance.origin == "imported"
    assert back.layers("again") == (1, 3)
    for found in back.directions:
        ours = made.get("refusal/en", found.layer)
        assert torch.allclose(found.direction.vector, ours.direction.vector, atol=1e-6)
        assert found.scale == pytest.approx(ours.scale, rel=1e-6)
        assert found.scale_is == "imported"
        assert found.examples is None


def test_a_file_of_ours_brings_its_name_and_position(tmp_path):
    made = make().select("harmfulness/de")
    export_vectors(made, tmp_path / "v.gguf")
    back = import_vectors(tmp_path / "v.gguf", position="mean")
    assert back.names == ("harmfulness/de",)
    assert back.directions[0].language == "de"
    assert back.directions[0].direction.position == "t_post"
    assert back.provenance.notes["position"] == "stated by the file"


def test_repengs_files_are_read(tmp_path):
    order = {3: VECTORS[3], 1: VECTORS[1]}  # it counts layers down
    repeng_export(tmp_path / "happy.gguf", "mistral", order)
    back = import_vectors(tmp_path / "happy.gguf", position="t_inst")
    assert back.names == ("happy",)
    assert [e.layer for e in back.directions] == [1, 3]
    for found in back.directions:
        assert np.allclose(found.scaled().numpy(), VECTORS[found.layer], rtol=1e-6)
        assert found.direction.position == "t_inst"
    assert back.provenance.notes["metadata"] == {
        "controlvector.model_hint": "mistral",
        "controlvector.layer_count": 2,
    }
    assert back.provenance.notes["position"] == "given by the reader"


def test_dictionaries_are_read(tmp_path):
    np.savez(tmp_path / "v.npz", **{str(k): v for k, v in VECTORS.items()})
    np.savez_compressed(
        tmp_path / "w.npz", **{f"layer.{k}": v.astype(">f8") for k, v in VECTORS.items()}
    )
    half = {f"direction.{k}": torch.from_numpy(v).bfloat16() for k, v in VECTORS.items()}
    save_file(half, tmp_path / "x.safetensors")
    for name, tolerance in (("v.npz", 1e-6), ("w.npz", 1e-6), ("x.safetensors", 1e-2)):
        back = import_vectors(tmp_path / name)
        assert back.layers(name[0]) == (1, 3)
        for found in back.directions:
            assert np.allclose(found.scaled().numpy(), VECTORS[found.layer], rtol=tolerance)


def test_vectors_of_zeros_add_nothing_and_are_left_out(tmp_path):
    repeng_export(tmp_path / "v.gguf", "x", {1: np.zeros(D, np.float32), 3: VECTORS[3]})
    back = import_vectors(tmp_path / "v.gguf")
    assert back.layers("v") == (3,)
    assert back.provenance.notes["blocks_of_zeros"] == [1]
    repeng_export(tmp_path / "v.gguf", "x", {1: np.zeros(D, np.float32)})
    with pytest.raises(UserError, match="zeros alone"):
        import_vectors(tmp_path / "v.gguf")


def test_what_does_not_fit_the_model_is_refused(tmp_path):
    repeng_export(tmp_path / "v.gguf", "x", {4: VECTORS[3]})
    with pytest.raises(UserError, match=r"blocks \[4\] do not fit"):
        import_vectors(tmp_path / "v.gguf", model=MODEL)
    repeng_export(tmp_path / "v.gguf", "x", {1: np.ones(7, np.float32)})
    with pytest.raises(UserError, match="width 7 do not fit 'some model'"):
        import_vectors(tmp_path / "v.gguf", model=MODEL)


class _Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_pickles_are_refused_unopened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for suffix in ("pkl", "pickle", "pt", "bin"):
        (tmp_path / f"v.{suffix}").write_bytes(pickle.dumps(_Bomb()))
        with pytest.raises(UserError, match="can run code"):
            import_vectors(tmp_path / f"v.{suffix}")
    np.savez(tmp_path / "v.npz", **{"1": np.array([_Bomb()], dtype=object)})
    with pytest.raises(UserError, match="pickled objects are never read"):
        import_vectors(tmp_path / "v.npz")
    for suffix in FORMATS:
        (tmp_path / f"w.{suffix}").write_bytes(pickle.dumps(_Bomb()))
        with pytest.raises(UserError):
            import_vectors(tmp_path / f"w.{suffix}")
    torch.save({"1": torch.ones(3)}, tmp_path / "t.npz")
    with pytest.raises(UserError, match="pickles are never read"):
        import_vectors(tmp_path / "t.npz")
    assert not (tmp_path / "exploded").exists()


def test_what_is_not_a_file_is_refused(tmp_path):
    for suffix in FORMATS:
        with pytest.raises(UserError, match="does not exist"):
            import_vectors(tmp_path / f"nothing.{suffix}")
        (tmp_path / f"folder.{suffix}").mkdir()
        with pytest.raises(UserError, match="is not a file"):
            import_vectors(tmp_path / f"folder.{suffix}")
        os.mkfifo(tmp_path / f"pipe.{suffix}")
        with pytest.raises(UserError, match="is not a file"):
            import_vectors(tmp_path / f"pipe.{suffix}")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"fourteen": np.ones(3)}, "named by their blocks"),
        ({"14": np.ones(3), "layer.14": np.ones(3)}, "block 14 twice"),
        ({"1": np.ones(3), "2": np.ones(4)}, r"widths \[3, 4\]"),
        ({"1": np.ones((1, 3))}, r"not of shape \[1, 3\]"),
        ({"1": np.ones(0)}, r"not of shape \[0\]"),
        ({"1": np.arange(3)}, "floating-point"),
        ({"1": np.array([1.0, np.nan])}, "NaN or infinity"),
        ({"99999": np.ones(3)}, "named by their blocks"),
        ({"-1": np.ones(3)}, "named by their blocks"),
        ({"²": np.ones(3)}, "named by their blocks"),
        ({}, "no vectors"),
    ],
)
def test_dictionaries_of_anything_else_are_refused(tmp_path, arrays, words):
    np.savez(tmp_path / "v.npz", **arrays)
    with pytest.raises(UserError, match=words):
        import_vectors(tmp_path / "v.npz")
    save_file({k: torch.from_numpy(v) for k, v in arrays.items()}, tmp_path / "v.safetensors")
    with pytest.raises(UserError, match=words):
        import_vectors(tmp_path / "v.safetensors")


# ---------------------------------------------------------------------------------------------
# files that lie


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def header(tensors=1, values=1, version=3):
    return b"GGUF" + struct.pack("<IQQ", version, tensors, values)


ARCH = text("general.architecture") + struct.pack("<I", 8) + text("controlvector")


def tensor(name="direction.1", shape=(2,), kind=0, offset=0):
    sizes = struct.pack(f"<{len(shape)}Q", *shape)
    return text(name) + struct.pack("<I", len(shape)) + sizes + struct.pack("<IQ", kind, offset)


BODY = struct.pack("<2f", 1, 2)


def padded(data, body=BODY, to=32):
    return data + b"\0" * (-len(data) % to) + body


def array(kind, n, body=b""):
    return text("general.x") + struct.pack("<IIQ", 9, kind, n) + body


HUGE = 1 << 62
LIES = {
    "empty": (b"", "begin with GGUF"),
    "other magic": (b"GGML" + header()[4:], "begin with GGUF"),
    "version 1": (header(version=1), "version 1"),
    "big-endian": (b"GGUF" + struct.pack(">I", 3) + bytes(16), "big-endian"),
    "many tensors": (header(tensors=HUGE) + ARCH, "announces"),
    "many values": (header(values=HUGE) + ARCH, "announces"),
    "many small values": (header(values=20_000) + bytes(400_000), "over 10000"),
    "long key": (header() + struct.pack("<Q", HUGE) + bytes(99), "announces"),
    "long text": (header() + text("a") + struct.pack("<IQ", 8, HUGE) + bytes(99), "announces"),
    "long array": (header() + array(4, HUGE) + bytes(99), "announces"),
    "long array of texts": (header() + array(8, HUGE) + bytes(99), "announces"),
    "array of arrays": (header() + array(9, 1) + bytes(99), "array of type 9"),
    "unknown type": (header() + text("a") + struct.pack("<I", 77) + bytes(99), "type 77"),
    "a model": (header() + ARCH.replace(b"controlvector", b"llamallamalla"), "is it a model"),
    "no architecture": (header(0, 0), "architecture is None"),
    "architecture of a number": (
        header() + text("general.architecture") + struct.pack("<II", 4, 1) + bytes(99),
        "architecture is 1",
    ),
    "twice a key": (header(0, 2) + ARCH + ARCH, "twice"),
    "alignment 0": (
        header(0, 2) + ARCH + text("general.alignment") + struct.pack("<II", 4, 0), "power of two",
    ),
    "alignment 48": (
        header(0, 2) + ARCH + text("general.alignment") + struct.pack("<II", 4, 48), "power of two",
    ),
    "no vectors": (header(0) + ARCH, "no vectors"),
    "another tensor": (padded(header() + ARCH + tensor("weight")), "'weight'"),
    "negative block": (padded(header() + ARCH + tensor("direction.-1")), "direction.-1"),
    "block of many digits": (padded(header() + ARCH + tensor("direction.99999")), "99999"),
    "block in other digits": (padded(header() + ARCH + tensor("direction.٣")), "direction.٣"),
    "a line more": (padded(header() + ARCH + tensor("direction.1\n")), "direction.1"),
    "half precision": (padded(header() + ARCH + tensor(kind=1)), "type 1"),
    "matrix": (padded(header() + ARCH + tensor(shape=(1, 2))), r"shape \[1, 2\]"),
    "no axes": (padded(header() + ARCH + tensor(shape=())), r"shape \[\]"),
    "no width": (padded(header() + ARCH + tensor(shape=(0,))), r"shape \[0\]"),
    "vast width": (padded(header() + ARCH + tensor(shape=(HUGE,))), "more bytes than it has"),
    "overflowing width": (padded(header() + ARCH + tensor(shape=(2**64 - 1,))), "more bytes"),
    "far offset": (padded(header() + ARCH + tensor(offset=2**64 - 8)), "beyond its end"),
    "two of one block": (padded(header(2) + ARCH + tensor() + tensor()), "twice"),
    "01 and 1": (padded(header(2) + ARCH + tensor() + tensor("direction.01")), "twice"),
    "two widths": (
        padded(header(2) + ARCH + tensor() + tensor("direction.2", (1,))), r"widths \[1, 2\]",
    ),
    "shared bytes": (
        padded(header(2) + ARCH + tensor() + tensor("direction.2")), "more bytes than it has",
    ),
    "nan": (padded(header() + ARCH + tensor(), struct.pack("<2f", 1, float("nan"))), "NaN"),
    "infinity": (padded(header() + ARCH + tensor(), struct.pack("<2f", 1, float("inf"))), "NaN or"),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_file_that_lies_is_refused(tmp_path, lie):
    data, words = LIES[lie]
    (tmp_path / "v.gguf").write_bytes(data)
    with pytest.raises(UserError, match=words):
        import_vectors(tmp_path / "v.gguf")


def test_the_honest_version_of_those_files_is_read(tmp_path):
    (tmp_path / "v.gguf").write_bytes(padded(header() + ARCH + tensor()))
    assert read_control_vector(tmp_path / "v.gguf").vectors[1].tolist() == [1, 2]
    arrays = array(8, 2, text("a") + text("b")) + array(2, 2, bytes(4)).replace(b"x", b"y")
    (tmp_path / "v.gguf").write_bytes(
        padded(header(values=4) + ARCH + arrays + text("general.alignment")
               + struct.pack("<II", 4, 64) + tensor(), to=64)
    )  # fmt: skip
    assert read_control_vector(tmp_path / "v.gguf").vectors[1].tolist() == [1, 2]


def test_sizes_are_checked_before_anything_is_made(tmp_path):
    (tmp_path / "warm.gguf").write_bytes(padded(header() + ARCH + tensor()))
    import_vectors(tmp_path / "warm.gguf")
    tracemalloc.start()
    try:
        for lie, (data, _) in LIES.items():
            (tmp_path / "v.gguf").write_bytes(data)
            with pytest.raises(UserError):
                import_vectors(tmp_path / "v.gguf")
            assert tracemalloc.get_traced_memory()[1] < 10 * 2**20, lie
    finally:
        tracemalloc.stop()


def test_a_file_larger_than_any_control_vector_is_not_read(tmp_path):
    for suffix in ("gguf", "npz"):
        with (tmp_path / f"v.{suffix}").open("wb") as file:
            file.truncate(10 * 2**30)  # sparse
        with pytest.raises(UserError, match="is it a model"):
            import_vectors(tmp_path / f"v.{suffix}")


def test_archives_that_unpack_to_much_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "v.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.npy", bytes(65 * 2**20))
    with pytest.raises(UserError, match="unpacks to more"):
        import_vectors(tmp_path / "v.npz")
    with zipfile.ZipFile(tmp_path / "v.npz", "w") as archive:
        for i in range(10_001):
            archive.writestr(f"{i}.npy", b"")
    with pytest.raises(UserError, match="lists more than"):
        import_vectors(tmp_path / "v.npz")
    with zipfile.ZipFile(tmp_path / "v.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("1.npy", b"x")
    with pytest.raises(UserError, match="compressed in a way"):
        import_vectors(tmp_path / "v.npz")
    descr = b"{'descr': '<f8', 'fortran_order': False, 'shape': (4611686018427387904,), }"
    npy = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(descr)) + descr
    with zipfile.ZipFile(tmp_path / "v.npz", "w") as archive:
        archive.writestr("1.npy", npy + bytes(16))
    with pytest.raises(UserError, match="cut off"):
        import_vectors(tmp_path / "v.npz")


@pytest.mark.parametrize("suffix", ["gguf", "npz", "safetensors"])
def test_damage_of_every_kind_is_a_user_error_or_a_set(tmp_path, suffix):
    path = tmp_path / f"v.{suffix}"
    if suffix == "safetensors":
        save_file({str(k): torch.from_numpy(v) for k, v in VECTORS.items()}, path)
    else:
        export_vectors(make(), path, name="refusal/en")
    whole = path.read_bytes()
    refused = read = 0
    for seed in range(400):
        draw = random.Random(seed)
        data = bytearray(whole)
        if seed % 4 == 0:
            data = data[: draw.randrange(len(data))]
        elif seed % 4 == 1:
            at = draw.randrange(len(data))
            data[at : at + 8] = struct.pack("<Q", draw.choice([HUGE, 2**64 - 1, 2**31, 0, 1]))
        else:
            for _ in range(draw.randrange(1, 5)):
                data[draw.randrange(len(data))] = draw.randrange(256)
        path.write_bytes(bytes(data))
        try:
            found = import_vectors(path)
        except UserError:
            refused += 1
        else:
            read += 1
            assert all(torch.isfinite(e.scaled()).all() or e.scale > 1e38 for e in found.directions)
    assert refused > 100
    assert refused + read == 400
    # Cut off anywhere but in the zeros that pad it, it is refused: no vector is made up.
    ends = range(0, len(whole.rstrip(b"\0")), 3)
    assert len(ends) > 50
    for end in ends:
        path.write_bytes(whole[:end])
        with pytest.raises(UserError):
            import_vectors(path)


# ---------------------------------------------------------------------------------------------
# the same effect on a model


def by_hand(model, texts, block, vector):
    """Greedy replies with the vector added after a block from the last prompt token on."""
    replies = []
    for prompt_text in texts:
        prompt = list(model.encode([prompt_text]).ids[0])
        made: list[int] = []

        start = len(prompt) - 1

        def hook(_module, _inputs, out, last=start):
            hidden = (out[0] if isinstance(out, tuple) else out).clone()
            hidden[:, last:] += vector
            return (hidden, *out[1:]) if isinstance(out, tuple) else hidden

        handle = model.blocks[block].register_forward_hook(hook)
        try:
            while len(made) < 4:
                with torch.inference_mode():
                    out = model.model(input_ids=torch.tensor([prompt + made]))
                token = int(out.logits[0, -1].argmax())
                if token in model.stop_ids:
                    break
                made.append(token)
        finally:
            handle.remove()
        replies.append(made)
    return replies


@pytest.mark.parametrize("family", ["qwen2", "gpt2"])
def test_an_exported_vector_added_by_hand_does_what_our_action_does(tmp_path, family):
    model = tiny_model(family)
    texts = TEXTS[:3]
    vector = noise(5, 32) * 4
    made = DirectionSet(
        (named_direction("x", vector, layer=2, position="t_post", method="m", source="s"),),
        None,
        Provenance("measured"),
    )
    export_vectors(made, tmp_path / "v.gguf")
    rows = llama_cpp_buffer(tmp_path / "v.gguf")
    (row,) = [i for i, r in enumerate(rows) if r.any()]
    block = llama_cpp_block_of_row(row)
    assert block == 2
    assert np.allclose(rows[row], vector.numpy(), rtol=1e-6)

    back = import_vectors(tmp_path / "v.gguf", model=model.identity).directions[0]
    action = AddDirection(direction=back.direction, alpha=back.scale)
    found = {}
    for batch in generate(model, texts, max_new_tokens=4, intervention=Ungated(action)):
        found |= {reply.index: list(reply.tokens) for reply in batch}
    replies = [found[i] for i in range(len(texts))]
    assert replies == by_hand(model, texts, block, torch.from_numpy(rows[row]))
    # The block matters: one off and the replies are others.
    for wrong in (1, 3):
        assert replies != by_hand(model, texts, wrong, torch.from_numpy(rows[row]))


def test_a_vector_for_block_0_is_never_written(tmp_path):
    with pytest.raises(UserError, match="after block 0"):
        write_control_vector(tmp_path / "v.gguf", {0: VECTORS[1]}, model_hint="x")
