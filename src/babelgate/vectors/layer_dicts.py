"""Dictionaries ``{layer: vector}`` as ``.npz`` or ``.safetensors``: repeng's ``directions``."""

from __future__ import annotations

import io
import math
import re
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load

from ..artifacts import atomic_path
from ..errors import UserError
from .limits import LARGEST, MOST, block_number, read_limited

_KEY = re.compile(r"(?:(?:direction|layer|layers|block)[._])?([0-9]+)")
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def write_npz(path: Path, vectors: Mapping[int, np.ndarray]) -> None:
    """Write ``{block: [d]}`` as an ``.npz`` whose keys are the blocks' numbers, atomically."""
    arrays: dict[str, Any] = {
        str(block): np.asarray(vectors[block], dtype=np.float32) for block in sorted(vectors)
    }
    with atomic_path(path) as work, work.open("wb") as file:
        np.savez(file, **arrays)


def read_npz(path: Path) -> dict[int, np.ndarray]:
    """Read an ``.npz`` of float vectors, each under the number of its block; no pickles.

    Raises:
        UserError: if it is missing, damaged, too large, or holds anything else.
    """
    data = read_limited(path, "file of vectors")
    found: dict[str, np.ndarray] = {}
    # Each entry of a zip's list begins so, and the list is read whole before anything else.
    if data.count(b"PK\x01\x02") > MOST:
        raise UserError(f"{path} lists more than {MOST} arrays, which no file of vectors does")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            room = LARGEST
            for info in archive.infolist():
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise UserError(f"{path} is compressed in a way that numpy does not write")
                with archive.open(info) as member:
                    raw = member.read(room + 1)
                room -= len(raw)
                if room < 0:
                    raise UserError(f"{path} unpacks to more than {LARGEST // 2**20} MiB")
                name = info.filename.removesuffix(".npy")
                if name in found:
                    raise UserError(f"{path} holds {name[:80]!r} twice")
                found[name] = _npy(raw, f"{path}: {info.filename[:80]!r}")
    except UserError:
        raise
    # RuntimeError: an encrypted member; NotImplementedError, of it, an unknown compression.
    except (
        zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError, KeyError,
        TypeError, AttributeError, OverflowError, MemoryError, struct.error,
    ) as error:  # fmt: skip
        raise UserError(f"{path} cannot be read as .npz: {error or type(error).__name__}") from None
    return by_block(path, found)


def read_safetensors(path: Path) -> dict[int, np.ndarray]:
    """Read a ``.safetensors`` of float vectors, each under the number of its block.

    Raises:
        UserError: if it is missing, damaged, too large, or holds anything else.
    """
    data = read_limited(path, "file of vectors")
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, OverflowError) as error:
        raise UserError(f"{path} cannot be read as safetensors: {error}") from None
    wrong = [f"{k[:80]!r} ({t.dtype})" for k, t in tensors.items() if t.dtype not in _FLOATS]
    if wrong:
        raise UserError(f"{path} should hold floating-point vectors, not {', '.join(wrong[:3])}")
    return by_block(path, {name: t.double().numpy() for name, t in tensors.items()})


def by_block(path: Path, found: Mapping[str, np.ndarray]) -> dict[int, np.ndarray]:
    """Return vectors by block from names like ``14``, ``layer.14`` and ``direction.14``.

    Raises:
        UserError: for another name, two names of one block, other shapes than one width, or no
            vector at all.
    """
    vectors: dict[int, np.ndarray] = {}
    for name, value in found.items():
        match = _KEY.fullmatch(name)
        block = block_number(match[1]) if match else None
        if block is None:
            raise UserError(
                f"{path} holds {name[:80]!r}; the vectors should be named by their blocks, as '14' "
                "or 'layer.14'"
            )
        if block in vectors:
            raise UserError(f"{path} holds block {block} twice")
        if value.ndim != 1 or not len(value):
            raise UserError(
                f"{path}: {name!r} should be a vector, not of shape {list(value.shape)}"
            )
        vectors[block] = value
    if not vectors:
        raise UserError(f"{path} holds no vectors")
    widths = sorted({len(v) for v in vectors.values()})
    if len(widths) > 1:
        raise UserError(f"{path} holds vectors of widths {widths[:4]}; one model has one width")
    return dict(sorted(vectors.items()))


def _npy(raw: bytes, what: str) -> np.ndarray:
    """Return the array of a ``.npy``, whose header is compared with its bytes before it is made."""
    stream = io.BytesIO(raw)
    try:
        version = np.lib.format.read_magic(stream)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shape, _, kind = read(stream)
    # SyntaxError and MemoryError: Python's own, for a header that is no literal or nested too deep.
    except (
        ValueError, KeyError, TypeError, EOFError, SyntaxError, MemoryError, RecursionError,
        AttributeError, IndexError, OverflowError, tokenize.TokenError,
    ) as error:  # fmt: skip
        raise UserError(
            f"{what} is not a plain .npy array ({type(error).__name__}); pickles are never read"
        ) from None
    if kind.kind != "f" or kind.itemsize > 8:
        raise UserError(
            f"{what} has type {str(kind)[:40]!r}, not floating-point numbers; pickled objects are "
            "never read"
        )
    if not all(type(n) is int and n >= 0 for n in shape) or len(shape) != 1:
        raise UserError(f"{what} should be a vector, not of shape {list(shape)[:4]}")
    body = raw[stream.tell() :]
    if len(body) != math.prod(shape) * kind.itemsize:
        raise UserError(f"{what} is cut off or damaged: its bytes do not make {list(shape)}")
    return np.frombuffer(body, kind).astype(np.float64)
