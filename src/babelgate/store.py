"""Activations on disk: written while they are computed, resumed after a kill, read by layer.

A store is a folder:

``manifest.json``   what it holds: model identity, layers, positions, dtype, prompts in stored order
``values.bin``      one array ``[n_layers, n_positions, N, d]``, so that a layer is one contiguous
                    read; allocated in full at the start, so a full disk shows before any computing
``journal.jsonl``   one line per finished batch: rows, checksum per layer, excluded rows

A batch counts when its journal line is on disk, which happens after its values are.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .artifacts import JsonLines, fingerprint, write_error, write_json
from .errors import StoreError
from .types import ModelIdentity, Position, is_position

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
_SCHEMA = 1


@dataclass(frozen=True)
class StoreSpec:
    """Everything that the content of a store depends on.

    ``prompts`` are (key, text) pairs in stored order; ``batches`` the row boundaries of the plan,
    kept so that a resumed run computes the same batches as an uninterrupted one.
    """

    model: ModelIdentity
    layers: tuple[int, ...]
    positions: tuple[Position, ...]
    dtype: str
    prompts: tuple[tuple[str, str], ...]
    batches: tuple[int, ...]

    def key(self) -> str:
        """Fingerprint of model, layers, positions, dtype and prompts (not of the batching)."""
        m = self.model
        return fingerprint(
            [
                [m.weights, m.template, m.dtype, m.n_layers, m.d_model],
                self.layers,
                self.positions,
                self.dtype,
                self.prompts,
            ]
        )

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """``[n_layers, n_positions, N, d]``."""
        return len(self.layers), len(self.positions), len(self.prompts), self.model.d_model


class ActivationStore:
    """One store folder, open for reading and appending. Build it with :meth:`create_or_resume`."""

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder = folder
        self.layers: tuple[int, ...] = tuple(manifest["layers"])
        self.positions: tuple[Position, ...] = tuple(manifest["positions"])
        self.keys: tuple[str, ...] = tuple(manifest["prompts"])
        self.batches: tuple[int, ...] = tuple(manifest["batches"])
        self.d_model: int = int(manifest["d_model"])
        self.model: dict[str, Any] = manifest["model"]
        self._dtype = DTYPES[manifest["dtype"]]
        self._journal = JsonLines(folder / "journal.jsonl")
        self._lines = self._journal.read()
        self._check()

    def _check(self) -> None:
        if self.batches[:1] != (0,) or self.batches[-1] != len(self.keys):
            raise ValueError(f"the batches do not cover {len(self.keys)} prompts")
        for number, line in enumerate(self._lines, 1):
            batch = line["batch"]
            rows = list(self.batches[batch : batch + 2])
            sound = isinstance(line["excluded"], dict) and len(line["crc32"]) == len(self.layers)
            if len(rows) != 2 or line["rows"] != rows or not sound:
                raise ValueError(f"journal.jsonl, line {number} describes no batch of this store")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """``[n_layers, n_positions, N, d]``."""
        return len(self.layers), len(self.positions), len(self.keys), self.d_model

    # -- writing ---------------------------------------------------------------------------------

    @staticmethod
    def create_or_resume(folder: Path, spec: StoreSpec) -> ActivationStore:
        """Open the store of this spec in ``folder``, or start it; a store of another spec is stale.

        Raises:
            StoreError: if the folder cannot be written, the disk cannot hold the values, or the
                files contradict each other.
        """
        manifest = {
            "schema": _SCHEMA,
            "key": spec.key(),
            "model": spec.model.to_json(),
            "layers": spec.layers,
            "positions": spec.positions,
            "dtype": spec.dtype,
            "d_model": spec.model.d_model,
            "batches": spec.batches,
            "prompts": [key for key, _ in spec.prompts],
        }
        path = folder / "manifest.json"
        if path.exists() and _read_manifest(folder).get("key") == manifest["key"]:
            return ActivationStore.open(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            (folder / "journal.jsonl").unlink(missing_ok=True)
            _allocate(folder / "values.bin", _n_bytes(spec.shape, DTYPES[spec.dtype]))
        except OSError as error:
            (folder / "values.bin").unlink(missing_ok=True)
            raise write_error(folder / "values.bin", error) from error
        write_json(path, manifest)  # last: a folder without a manifest is no store
        return ActivationStore.open(folder)

    @staticmethod
    def open(folder: Path) -> ActivationStore:
        """Open a store for reading or resuming.

        Raises:
            StoreError: if it is no store, or its files contradict each other.
        """
        manifest = _read_manifest(folder)
        try:
            store = ActivationStore(folder, manifest)
            size = (folder / "values.bin").stat().st_size
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise StoreError(
                f"activation store {folder} is damaged ({type(error).__name__}: {error}); remove "
                "the folder to capture again"
            ) from error
        expected = _n_bytes(store.shape, store._dtype)
        if size != expected or not all(map(is_position, store.positions)):
            raise StoreError(
                f"activation store {folder} is damaged: values.bin has {size} bytes, "
                f"{expected} expected; remove the folder to capture again"
            )
        return store

    @property
    def done_batches(self) -> frozenset[int]:
        """Indices of finished batches of the plan."""
        return frozenset(int(line["batch"]) for line in self._lines)

    @property
    def complete(self) -> bool:
        """Whether every batch of the plan is finished."""
        return len(self.done_batches) == len(self.batches) - 1

    @property
    def excluded(self) -> dict[str, str]:
        """Prompt keys without activations, with the reason."""
        return {k: v for line in self._lines for k, v in line["excluded"].items()}

    def write_batch(self, batch: int, values: torch.Tensor, excluded: dict[str, str]) -> None:
        """Write ``values [n_layers, n_positions, B, d]`` of one batch of the plan, durably."""
        start, stop = self.batches[batch], self.batches[batch + 1]
        if values.shape != (*self.shape[:2], stop - start, self.d_model):
            raise ValueError(f"batch {batch} has values of shape {tuple(values.shape)}")
        raw = values.to("cpu", self._dtype).contiguous().view(torch.uint8).numpy()
        sums = []
        try:
            with (self.folder / "values.bin").open("rb+", buffering=0) as file:
                for i in range(len(self.layers)):
                    for j in range(len(self.positions)):
                        block = raw[i, j].tobytes()
                        _write_all(file.fileno(), block, self._offset(i, j, start))
                    sums.append(zlib.crc32(raw[i].tobytes()))
                os.fsync(file.fileno())
        except OSError as error:
            raise write_error(self.folder / "values.bin", error) from error
        line = {"batch": batch, "rows": [start, stop], "crc32": sums, "excluded": excluded}
        self._journal.append([line])
        self._lines.append(line)

    # -- reading ---------------------------------------------------------------------------------

    def layer(self, layer: int, position: Position, keys: Sequence[str]) -> torch.Tensor:
        """Return float32 ``[len(keys), d]`` of one layer and position, in the order of ``keys``.

        Checks the checksum of that layer's part of every batch; a row that was excluded is NaN.

        Raises:
            StoreError: if the layer, position or a key is not stored, or the values are damaged.
        """
        if layer not in self.layers or position not in self.positions:
            raise StoreError(
                f"activation store {self.folder} holds layers {list(self.layers)} at "
                f"{list(self.positions)}, not layer {layer} at {position}"
            )
        index = {key: i for i, key in enumerate(self.keys)}
        if missing := [k for k in keys if k not in index]:
            raise StoreError(
                f"activation store {self.folder} lacks {len(missing)} prompts, such as {missing[0]}"
            )
        rows = self._verified(self.layers.index(layer))[self.positions.index(position)]
        picked = rows[torch.tensor([index[k] for k in keys], dtype=torch.long)].float()
        excluded = self.excluded
        absent = torch.tensor([k in excluded for k in keys], dtype=torch.bool)
        picked[absent] = torch.nan
        return picked

    def _verified(self, i: int) -> torch.Tensor:
        n = self.shape[1] * self.shape[2] * self.d_model
        raw = np.fromfile(
            self.folder / "values.bin",
            dtype=np.uint8,
            count=n * self._dtype.itemsize,
            offset=self._offset(i, 0, 0),
        )
        values = torch.from_numpy(raw).view(self._dtype).view(*self.shape[1:])
        for line in self._lines:
            start, stop = line["rows"]
            part = values[:, start:stop].contiguous().view(torch.uint8).numpy()
            if zlib.crc32(part.data) != line["crc32"][i]:
                raise StoreError(
                    f"activation store {self.folder} is damaged: batch {line['batch']} of layer "
                    f"{self.layers[i]} does not match its checksum; remove the folder to capture "
                    "again"
                )
        return values

    def _offset(self, i: int, j: int, row: int) -> int:
        _, positions, n, d = self.shape
        return ((i * positions + j) * n + row) * d * self._dtype.itemsize


def _n_bytes(shape: tuple[int, ...], dtype: torch.dtype) -> int:
    return int(np.prod(shape)) * dtype.itemsize


def _write_all(file: int, block: bytes, offset: int) -> None:
    # One call may write less than it is given, near a full disk for one.
    written = 0
    while written < len(block):
        written += os.pwrite(file, block[written:], offset + written)


def _allocate(path: Path, size: int) -> None:
    with path.open("wb") as file:
        if size and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
        file.flush()
        os.fsync(file.fileno())


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StoreError(f"{folder} is no activation store: it has no manifest.json") from None
    except (OSError, ValueError) as error:
        raise StoreError(
            f"activation store {folder} is damaged: manifest.json: {error}; remove the folder to "
            "capture again"
        ) from error
    if not isinstance(manifest, dict) or manifest.get("schema") != _SCHEMA:
        raise StoreError(f"{path} is not a manifest of schema {_SCHEMA}")
    return manifest
