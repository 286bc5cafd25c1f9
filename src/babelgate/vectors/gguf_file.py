"""GGUF control vectors: what llama.cpp and repeng read and write.

A file has ``general.architecture = "controlvector"`` and float32 vectors ``direction.N``. llama.cpp
adds ``direction.N`` to the output of its block N, blocks counted from 0, and repeng to the output
of the model's layer N, counted from 0: N is our layer in both. llama.cpp refuses N = 0. The sources
are in docs/vectors.md.

Reading is our own: the file says how much follows, and nothing is believed before it is compared
with what the file can hold. The format: github.com/ggml-org/ggml, docs/gguf.md, versions 2 and 3.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..artifacts import atomic_path
from ..errors import UserError
from .limits import MOST, block_number, read_limited

ARCHITECTURE = "controlvector"
_ALIGNMENT = 32
_LONGEST_TEXT = 1 << 20
_MOST_TEXTS = 1_000_000
_F32 = 0
_STRING, _ARRAY, _UINT32 = 8, 9, 4
# Type number -> struct format, for the types that are one number.
_NUMBERS = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip


@dataclass(frozen=True)
class ControlVector:
    """What a control vector file holds: ``{block: [d] float32}`` and its texts and numbers."""

    vectors: Mapping[int, np.ndarray]
    metadata: Mapping[str, str | int | float | bool]


def write_control_vector(
    path: Path,
    vectors: Mapping[int, np.ndarray],
    *,
    model_hint: str,
    notes: Mapping[str, str] | None = None,
) -> None:
    """Write ``{block: [d]}`` as a control vector, atomically; ``notes`` become ``babelgate.*``.

    ``layer_count`` is the number of vectors, as repeng and llama.cpp's own generator write it.

    Raises:
        UserError: for a vector at block 0, which llama.cpp refuses.
        StoreError: if the file cannot be written.
    """
    from gguf import GGUFWriter

    if 0 in vectors:
        raise UserError(
            "llama.cpp adds no control vector after block 0, so that none can be written for it; "
            "choose other blocks"
        )
    with atomic_path(path) as work:
        writer = GGUFWriter(work, ARCHITECTURE)
        try:
            writer.add_string(f"{ARCHITECTURE}.model_hint", model_hint)
            writer.add_uint32(f"{ARCHITECTURE}.layer_count", len(vectors))
            for key, value in (notes or {}).items():
                writer.add_string(f"babelgate.{key}", value)
            for block in sorted(vectors):
                vector = np.ascontiguousarray(vectors[block], dtype=np.float32)
                writer.add_tensor(f"direction.{block}", vector)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()


def read_control_vector(path: Path) -> ControlVector:
    """Read a control vector file.

    Raises:
        UserError: if it is missing, larger than control vectors are, cut off or damaged, a model,
            or has anything in it but float32 vectors of one width named ``direction.N``.
    """
    data = read_limited(path, "control vector")
    try:
        return _parse(data)
    except _Damaged as problem:
        raise UserError(f"{path} is no control vector that can be read: {problem}") from None


class _Damaged(Exception):
    """What is wrong with a file."""


class _Cursor:
    """Reads forward through bytes and never past their end."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    @property
    def left(self) -> int:
        return len(self.data) - self.at

    def skip(self, n: int) -> int:
        if n > self.left:
            raise _Damaged(
                f"at byte {self.at} it announces {n} bytes, and {self.left} are left; "
                "it is cut off or damaged"
            )
        self.at += n
        return self.at - n

    def number(self, kind: str) -> int | float | bool:
        kind = f"<{kind}"
        at = self.skip(struct.calcsize(kind))
        return struct.unpack_from(kind, self.data, at)[0]

    def count(self, kind: str, least: int, most: int | None = None) -> int:
        """Return a count of things that take at least ``least`` bytes each."""
        n = int(self.number(kind))
        if most is not None and n > most:
            raise _Damaged(f"it announces {n} entries where no control vector has over {most}")
        if n * least > self.left:
            raise _Damaged(
                f"it announces {n} entries of {least} bytes or more, and {self.left} bytes are "
                "left; it is cut off or damaged"
            )
        return n

    def text(self) -> str:
        n = self.count("Q", 1, _LONGEST_TEXT)
        at = self.skip(n)
        return self.data[at : at + n].decode("utf-8", "replace")


def _parse(data: bytes) -> ControlVector:
    file = _Cursor(data)
    if data[:4] != b"GGUF":
        raise _Damaged("it does not begin with GGUF")
    file.skip(4)
    version = int(file.number("I"))
    if version not in (2, 3):
        swapped = version & 0xFFFF == 0 and version != 0
        raise _Damaged("it is big-endian" if swapped else f"it has GGUF version {version}, not 2-3")
    # A vector's entry: name length, a name, dimensions, one size, type, offset.
    n_tensors = file.count("Q", 8 + 4 + 8 + 4 + 8, MOST)
    n_values = file.count("Q", 8 + 4 + 1, MOST)
    metadata: dict[str, str | int | float | bool] = {}
    for _ in range(n_values):
        key = file.text()
        value = _value(file)
        if key in metadata:
            raise _Damaged(f"it has {key[:80]!r} twice")
        if value is not None:
            metadata[key] = value
        if key == "general.architecture":
            _check_architecture(value)
    _check_architecture(metadata.get("general.architecture"))
    return ControlVector(_vectors(file, n_tensors, _alignment(metadata)), metadata)


def _check_architecture(value: object) -> None:
    if value != ARCHITECTURE:
        raise _Damaged(f"its architecture is {_short(value)}, not {ARCHITECTURE!r}; is it a model?")


def _value(file: _Cursor) -> str | int | float | bool | None:
    """Return a text or number; step over an array, which a control vector has no use for."""
    kind = int(file.number("I"))
    if kind == _STRING:
        return file.text()
    if kind in _NUMBERS:
        return file.number(_NUMBERS[kind])
    if kind != _ARRAY:
        raise _Damaged(f"it has a value of type {kind}, which GGUF does not know")
    inner = int(file.number("I"))
    if inner == _STRING:
        for _ in range(file.count("Q", 8, _MOST_TEXTS)):
            file.skip(file.count("Q", 1))
    elif inner in _NUMBERS:
        size = struct.calcsize(f"<{_NUMBERS[inner]}")
        file.skip(size * file.count("Q", size))
    else:
        raise _Damaged(f"it has an array of type {inner}")
    return None


def _alignment(metadata: Mapping[str, str | int | float | bool]) -> int:
    value = metadata.get("general.alignment", _ALIGNMENT)
    if type(value) is not int or not 1 <= value <= 1 << 16 or value & (value - 1):
        raise _Damaged(f"its alignment {_short(value)} is not a power of two up to 65536")
    return value


def _vectors(file: _Cursor, n: int, alignment: int) -> dict[int, np.ndarray]:
    places: dict[int, tuple[int, int]] = {}
    for _ in range(n):
        name = file.text()
        shape = [int(file.number("Q")) for _ in range(file.count("I", 8, 8))]
        kind, offset = int(file.number("I")), int(file.number("Q"))
        found = re.fullmatch(r"direction\.([0-9]+)", name)
        block = block_number(found[1]) if found else None
        if block is None:
            raise _Damaged(f"it holds {name[:80]!r}, not only vectors named direction.N")
        if kind != _F32 or len(shape) != 1 or not shape[0]:
            raise _Damaged(
                f"{name} has type {kind} and shape {shape[:4]}, not float32 (type 0) and one length"
            )
        if block in places:
            raise _Damaged(f"it holds {name} twice")
        places[block] = (offset, shape[0])
    if not places:
        raise _Damaged("it holds no vectors")
    widths = sorted({width for _, width in places.values()})
    if len(widths) > 1:
        raise _Damaged(f"its vectors have widths {widths[:4]}, not one")
    start = -(-file.at // alignment) * alignment
    # Vectors that share their bytes would make much of a small file.
    if 4 * widths[0] * len(places) > max(0, len(file.data) - start):
        raise _Damaged(
            f"{len(places)} vectors of width {widths[0]} need more bytes than it has; it is cut "
            "off or damaged"
        )
    vectors = {}
    for block, (offset, width) in sorted(places.items()):
        if start + offset + 4 * width > len(file.data):
            raise _Damaged(f"direction.{block} lies beyond its end; it is cut off or damaged")
        raw = np.frombuffer(file.data, "<f4", width, start + offset)
        vectors[block] = raw.astype(np.float32)
    return vectors


def _short(value: object) -> str:
    return repr(value)[:80]
