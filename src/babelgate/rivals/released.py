"""What the rivals' authors have released, and our files of rivals: the package's only file access.

Released AdaSteer vectors are pickles, read through :mod:`.array_pickle`; files of ours are
safetensors with everything else as JSON in their metadata.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ..artifacts import atomic_path
from ..errors import UserError
from .adasteer import AdaSteer, AdaSteerVectors, Anchors, Coefficient
from .array_pickle import array_from_pickle
from .omniguard import OmniGuard

_SCHEMA = 1
_FILES = {
    "refusal": "RD/mean_diff.pkl",
    "harmfulness": "HD/proj.pkl",
    "refusal_start": "RD/class_a.pkl",
    "refusal_end": "RD/class_b.pkl",
    "harmfulness_start": "HD/class_a.pkl",
    "harmfulness_end": "HD/class_b.pkl",
}


def load_adasteer(folder: Path) -> AdaSteerVectors:
    """Read a folder of released AdaSteer vectors: pickles in ``RD`` and ``HD``.

    ``mean_diff`` and ``proj`` are ``[L, d]``; ``class_a`` and ``class_b`` are ``[L, examples, d]``
    and their means become the anchors. What the classes are: see :mod:`.adasteer`.

    Raises:
        UserError: for a file that is missing, is not a plain array or has another shape.
    """
    arrays, hashes = {}, {}
    for name, file in _FILES.items():
        data = _read(folder / file)
        arrays[name] = array_from_pickle(data, str(folder / file))
        hashes[file] = hashlib.sha256(data).hexdigest()
    n_layers, d = arrays["refusal"].shape if arrays["refusal"].ndim == 2 else (0, 0)
    tensors = {}
    for name, array in arrays.items():
        classes = name.endswith(("_start", "_end"))
        shape = (array.shape[0], array.shape[-1]) if array.ndim == (3 if classes else 2) else ()
        if shape != (n_layers, d) or array.size == 0:
            expected = "[layers, examples, d]" if classes else "[layers, d]"
            raise UserError(
                f"{folder / _FILES[name]} holds an array of shape {list(array.shape)}; it should "
                f"be {expected} with the layers and d of {folder / _FILES['refusal']}"
            )
        wide = array.astype(np.float64)
        tensors[name] = torch.from_numpy(wide.mean(1) if classes else wide).float()
    return _vectors(tensors, {"method": "released", "sha256": hashes})


def save_adasteer(adasteer: AdaSteer, path: Path) -> None:
    """Write vectors and coefficients to one safetensors file, atomically."""
    meta = {
        "a": vars(adasteer.a),
        "b": vars(adasteer.b),
        "provenance": dict(adasteer.vectors.provenance),
    }
    _save(path, "adasteer", adasteer.vectors.tensors(), meta)


def load_saved_adasteer(path: Path) -> AdaSteer:
    """Read what :func:`save_adasteer` wrote.

    Raises:
        UserError: if the file is missing, damaged or something else.
    """
    tensors, meta = _load(path, "adasteer")
    try:
        a, b = Coefficient(**meta["a"]), Coefficient(**meta["b"])
        return AdaSteer(_vectors(tensors, meta["provenance"]), a, b)
    except (KeyError, TypeError) as error:
        raise _incomplete(path, error) from error


def save_omniguard(guard: OmniGuard, path: Path, provenance: Mapping[str, Any]) -> None:
    """Write a classifier to one safetensors file, atomically."""
    _save(path, "omniguard", guard.tensors(), {"layer": guard.layer, "provenance": provenance})


def load_omniguard(path: Path) -> OmniGuard:
    """Read what :func:`save_omniguard` wrote.

    Raises:
        UserError: if the file is missing, damaged or something else.
    """
    tensors, meta = _load(path, "omniguard")
    try:
        return OmniGuard(int(meta["layer"]), **tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise _incomplete(path, error) from error


@dataclass(frozen=True)
class CastData:
    """CAST's released training data.

    ``questions`` are asked with every opening of a reply, ``refusing`` or ``complying``, for the
    behaviour vectors; ``pairs`` (harmful, harmless) for the condition vector. Test halves likewise.
    """

    questions: tuple[str, ...]
    test_questions: tuple[str, ...]
    complying: tuple[str, ...]
    refusing: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    test_pairs: tuple[tuple[str, str], ...]


def load_cast(folder: Path) -> CastData:
    """Read ``alpaca.json``, ``behavior_refusal.json`` and ``condition_harmful.json`` of a folder.

    Raises:
        UserError: for a file that is missing or not of the released form.
    """
    asked, said, pairs = (
        _json(folder / f"{name}.json")
        for name in ("alpaca", "behavior_refusal", "condition_harmful")
    )
    try:
        return CastData(
            questions=_texts(row["question"] for row in asked["train"]),
            test_questions=_texts(row["question"] for row in asked["test"]),
            complying=_texts(said["compliant_responses"]),
            refusing=_texts(said["non_compliant_responses"]),
            pairs=_pairs(pairs["train"]),
            test_pairs=_pairs(pairs["test"]),
        )
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{folder} does not hold CAST's released data: {type(error).__name__} at {error}"
        ) from error


def _texts(values: Any) -> tuple[str, ...]:
    texts = tuple(values)
    if not texts or not all(isinstance(text, str) for text in texts):
        raise TypeError("a list that should hold texts")
    return texts


def _pairs(rows: Any) -> tuple[tuple[str, str], ...]:
    harmful = _texts(row["harmful"] for row in rows)
    return tuple(zip(harmful, _texts(row["harmless"] for row in rows)))


def _vectors(tensors: Mapping[str, torch.Tensor], provenance: Mapping[str, Any]) -> AdaSteerVectors:
    return AdaSteerVectors(
        tensors["refusal"],
        tensors["harmfulness"],
        Anchors(tensors["refusal_start"], tensors["refusal_end"]),
        Anchors(tensors["harmfulness_start"], tensors["harmfulness_end"]),
        provenance,
    )


def _save(path: Path, kind: str, tensors: Mapping[str, torch.Tensor], meta: Any) -> None:
    text = json.dumps({"kind": kind, "schema": _SCHEMA, **meta}, sort_keys=True, allow_nan=False)
    # One key: safetensors writes several in an order of its own, and files would not be alike.
    data = save({n: t.contiguous() for n, t in tensors.items()}, metadata={"babelgate": text})
    with atomic_path(path) as work:
        work.write_bytes(data)


def _load(path: Path, kind: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("babelgate", "{}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        meta = json.loads(text)
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    found = (meta.get("kind"), meta.get("schema")) if isinstance(meta, dict) else (None, None)
    if found != (kind, _SCHEMA):
        raise UserError(f"{path} is not a file of {kind} in schema {_SCHEMA}; it says {found}")
    return tensors, meta


def _incomplete(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} is incomplete or damaged ({type(error).__name__}: {error})")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error


def _json(path: Path) -> Any:
    try:
        return json.loads(_read(path).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON: {error}") from error
