"""A set of directions on disk: vectors in ``NAME.safetensors``, all that people read in ``.json``.

The two files lie side by side under one name; the JSON holds the hash of the vectors' file, so that
files of two sets are not mixed up.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save

from ..artifacts import atomic_path, write_json
from ..directions import Direction
from ..errors import UserError
from ..types import ModelIdentity
from .direction_set import DirectionSet, NamedDirection, Provenance

_SCHEMA = 1
_FORMAT = "babelgate directions"
_DAMAGE = (KeyError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError)


def save_directions(directions: DirectionSet, path: Path) -> None:
    """Write a set as ``path`` (``.safetensors``) and a ``.json`` beside it, atomically each.

    Raises:
        UserError: if the path does not end in ``.safetensors``.
        StoreError: if it cannot be written.
    """
    beside = _json_path(path)
    tensors = {
        _key(e): e.direction.vector.detach().cpu().clone().contiguous()
        for e in directions.directions
    }
    # One key: safetensors writes several in an order of its own, and files would not be alike.
    data = save(tensors, metadata={"format": _FORMAT})
    document = {
        "schema": _SCHEMA,
        "vectors": "unit vectors of the residual stream after a block, blocks counted from 0; "
        "a vector times its scale is as long as it was measured",
        "d_model": directions.d_model,
        "directions": [_described(entry) for entry in directions.directions],
        "model": None if directions.model is None else directions.model.to_json(),
        "sha256": hashlib.sha256(data).hexdigest(),
        "provenance": directions.provenance.to_json(),
    }
    with atomic_path(path) as work:
        work.write_bytes(data)
    write_json(beside, document)


def load_directions(path: Path, model: ModelIdentity | None = None) -> DirectionSet:
    """Read a set; with ``model``, check that it was made with that one.

    Raises:
        UserError: if a file is missing, damaged, of another schema, holds NaN or another shape, or
            belongs to another model.
    """
    beside = _json_path(path)
    document = _read_json(beside)
    try:
        data = path.read_bytes()
        tensors = load(data)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist, though {beside.name} does") from None
    except (OSError, SafetensorError, *_DAMAGE) as error:
        raise UserError(f"{path} cannot be read as safetensors: {error}") from error
    if document.get("sha256") != hashlib.sha256(data).hexdigest():
        raise UserError(
            f"{path.name} and {beside.name} in {path.parent} do not belong together, or one of "
            "them was changed; make the directions again"
        )
    try:
        found = DirectionSet(
            tuple(_entry(spec, tensors) for spec in document["directions"]),
            None if document["model"] is None else ModelIdentity.from_json(document["model"]),
            Provenance.from_json(document["provenance"]),
        )
        if found.d_model != document["d_model"]:
            raise UserError(f"vectors have width {found.d_model}, not {document['d_model']!r}")
    except UserError as error:
        raise UserError(f"{beside}: {error}") from None
    except _DAMAGE as error:
        raise UserError(
            f"{beside} is incomplete or damaged ({type(error).__name__}: {error}); make the "
            "directions again"
        ) from error
    if model is not None:
        found.check(model)
    return found


def is_set_file(path: Path) -> bool:
    """Whether a safetensors file is one of ours, by its metadata."""
    if not path.is_file():
        return False
    try:
        with safe_open(path, "pt") as file:
            return (file.metadata() or {}).get("format") == _FORMAT
    except (OSError, SafetensorError, *_DAMAGE):
        return False


def _json_path(path: Path) -> Path:
    if path.suffix != ".safetensors":
        raise UserError(f"{path}: a file of directions ends in .safetensors")
    return path.with_suffix(".json")


def _key(entry: NamedDirection) -> str:
    return f"{entry.name}@{entry.layer}"


def _described(entry: NamedDirection) -> dict[str, Any]:
    direction = entry.direction
    return {
        "name": entry.name,
        "layer": direction.layer,
        "position": direction.position,
        "method": direction.method,
        "source": direction.source,
        "language": entry.language,
        "scale": entry.scale,
        "scale_is": entry.scale_is,
        "examples": None if entry.examples is None else dict(entry.examples),
    }


def _entry(spec: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> NamedDirection:
    name, layer = str(spec["name"]), _integer(spec["layer"], "layer")
    vector = tensors[f"{name}@{layer}"]
    scale = spec["scale"]
    if isinstance(scale, bool) or not isinstance(scale, (int, float)):
        raise UserError(f"direction {name!r}: scale should be a number, not {scale!r}")
    examples = spec["examples"]
    if examples is not None and not isinstance(examples, dict):
        raise UserError(f"direction {name!r}: examples should be counts by class, not {examples!r}")
    return NamedDirection(
        name,
        Direction(vector, layer, spec["position"], str(spec["method"]), str(spec["source"])),
        float(scale),
        spec["scale_is"],
        None if spec["language"] is None else str(spec["language"]),
        None
        if examples is None
        else {str(k): _integer(v, "examples") for k, v in examples.items()},
    )


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except FileNotFoundError:
        raise UserError(
            f"{path} does not exist; a file of directions is a .safetensors and a .json beside it, "
            "as `babelgate directions` writes them"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {error}") from error
    if not isinstance(document, dict):
        raise UserError(f"{path} should hold a JSON object")
    if document.get("schema") != _SCHEMA:
        raise UserError(
            f"{path} has schema {document.get('schema')!r}; this version reads schema {_SCHEMA}"
        )
    return document


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number in JSON")


def _integer(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise UserError(f"{name} should be a whole number, not {value!r}")
    return value
