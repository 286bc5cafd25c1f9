"""A gate on disk: tensors in ``gate.safetensors``, everything a person reads in ``gate.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from .artifacts import atomic_path, fingerprint, write_json
from .errors import GateError
from .gate import Gate
from .types import POSITIONS, ModelIdentity

_SCHEMA = 1


def save_gate(gate: Gate, folder: Path) -> None:
    """Write ``gate.safetensors`` and ``gate.json`` into a folder, atomically each.

    The JSON names the hash of the tensors, so that files of two gates are not mixed up.
    """
    tensors = {f"basis.{layer}": basis.contiguous() for layer, basis in gate.bases.items()}
    for name in ("mean", "scale", "weight", "direction"):
        tensors[name] = getattr(gate, name).contiguous()
    # One key: safetensors writes several in an order of its own, and files would not be alike.
    data = save(tensors, metadata={"format": "babelgate gate"})
    with atomic_path(folder / "gate.safetensors") as work:
        work.write_bytes(data)
    write_json(
        folder / "gate.json",
        {
            "schema": _SCHEMA,
            "fires": "score >= threshold",
            "layers": gate.layers,
            "steer_layer": gate.steer_layer,
            "position": gate.position,
            "rank": {str(layer): basis.shape[1] for layer, basis in gate.bases.items()},
            "bias": gate.bias,
            "alpha": gate.alpha,
            "default_threshold": gate.default_threshold,
            "thresholds": dict(gate.thresholds),
            "model": gate.model.to_json(),
            "tensors": _tensor_hash(tensors),
            "provenance": dict(gate.provenance),
        },
    )


def load_gate(folder: Path) -> Gate:
    """Read a gate folder.

    Raises:
        GateError: if it is missing, damaged, of another schema or inconsistent.
    """
    meta = _read_json(folder / "gate.json")
    try:
        tensors = load_file(folder / "gate.safetensors")
    except (OSError, SafetensorError, ValueError) as error:
        raise GateError(f"{folder / 'gate.safetensors'} cannot be read: {error}") from error
    try:
        if meta["schema"] != _SCHEMA:
            raise GateError(
                f"{folder / 'gate.json'} has schema {meta['schema']!r}; this version reads "
                f"schema {_SCHEMA}"
            )
        if meta["tensors"] != _tensor_hash(tensors):
            raise GateError(
                f"{folder}: gate.safetensors and gate.json do not belong together, or one of them "
                "was changed; calibrate again"
            )
        # A gate reads one token, so that it can decide inside the prefill: no mean.
        if meta["position"] not in POSITIONS or meta["position"] == "mean":
            raise GateError(f"{folder / 'gate.json'}: position {meta['position']!r} is not known")
        layers = tuple(_integer(layer, "layers") for layer in meta["layers"])
        return Gate(
            layers=layers,
            position=meta["position"],
            bases={layer: tensors[f"basis.{layer}"] for layer in layers},
            mean=tensors["mean"],
            scale=tensors["scale"],
            weight=tensors["weight"],
            direction=tensors["direction"],
            bias=_number(meta["bias"], "bias"),
            alpha=_number(meta["alpha"], "alpha"),
            default_threshold=_number(meta["default_threshold"], "default_threshold"),
            thresholds={
                str(k): _number(v, f"thresholds.{k}") for k, v in dict(meta["thresholds"]).items()
            },
            model=ModelIdentity.from_json(meta["model"]),
            provenance=dict(meta["provenance"]),
        )
    except GateError:
        raise
    # RuntimeError: torch's refusal of kinds of numbers that safetensors knows and it cannot read.
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise GateError(
            f"gate in {folder} is incomplete or damaged ({type(error).__name__}: {error}); "
            "calibrate again"
        ) from error


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise GateError(f"{path} does not exist; make a gate with `babelgate calibrate`") from None
    except (OSError, ValueError, RecursionError) as error:
        raise GateError(f"{path} is damaged: {error}") from error
    if not isinstance(meta, dict):
        raise GateError(f"{path} should hold a JSON object")
    return meta


def _integer(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise GateError(f"gate.json: {name} should be a whole number, not {value!r}")
    return value


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise GateError(f"gate.json: {name} should be a number, not {value!r}")
    try:
        return float(value)
    except OverflowError:
        raise GateError(f"gate.json: {name} is too large") from None


def _tensor_hash(tensors: Mapping[str, torch.Tensor]) -> str:
    return fingerprint(
        {n: [list(t.shape), str(t.dtype), t.flatten().tolist()] for n, t in tensors.items()}
    )
