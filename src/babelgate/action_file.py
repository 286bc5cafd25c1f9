"""A gate's two actions on disk: ``actions.json`` for people, vectors in ``actions.safetensors``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from .artifacts import atomic_path, fingerprint, write_json
from .directions import Direction
from .errors import GateError
from .interventions.actions import AddDirection, Nothing, ProjectOut, Say, Together
from .interventions.refusal_words import REFUSALS

_SCHEMA = 1


@dataclass(frozen=True)
class Actions:
    """What follows a decision: ``fired`` for rows on which the gate fires, ``silent`` for others.

    ``false_alarm`` is the rate on left-out sources that the gate's thresholds are raised to before
    they decide, and ``threshold_raise`` by how much that is for this gate; None and 0 where they
    stay as calibrated. ``provenance`` says how all of it was chosen.
    """

    fired: Nothing
    silent: Nothing
    provenance: Mapping[str, Any]
    false_alarm: float | None = None
    threshold_raise: float = 0.0

    @property
    def key(self) -> str:
        """Fingerprint of both actions."""
        return f"{self.fired.key} | {self.silent.key}"


def fixed_actions(why: str) -> Actions:
    """Return a fixed refusal where the gate fires and nothing elsewhere."""
    said = Say("fixed-refusal", texts=REFUSALS, final=True)
    return Actions(said, Nothing(), {"chosen": why})


def remove_actions(folder: Path) -> None:
    """Remove a gate folder's actions, so that the paper's are meant."""
    for name in ("actions.json", "actions.safetensors"):
        (folder / name).unlink(missing_ok=True)


def save_actions(actions: Actions, folder: Path) -> None:
    """Write ``actions.safetensors`` and ``actions.json`` into a gate's folder, atomically each."""
    vectors: dict[str, torch.Tensor] = {}
    document = {
        "schema": _SCHEMA,
        "fired": _described(actions.fired, vectors),
        "silent": _described(actions.silent, vectors),
        "tensors": _hash(vectors),
        "false_alarm": actions.false_alarm,
        "threshold_raise": actions.threshold_raise,
        "provenance": dict(actions.provenance),
    }
    with atomic_path(folder / "actions.safetensors") as work:
        work.write_bytes(save(vectors, metadata={"format": "babelgate actions"}))
    write_json(folder / "actions.json", document)


def load_actions(folder: Path) -> Actions | None:
    """Read a gate folder's actions; None where it has none (the paper's are meant then).

    Raises:
        GateError: if they are damaged or of another schema.
    """
    path = folder / "actions.json"
    if not path.exists():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        vectors = load_file(folder / "actions.safetensors")
        if document["schema"] != _SCHEMA:
            raise GateError(
                f"{path} has schema {document['schema']!r}; this version reads schema {_SCHEMA}"
            )
        if document["tensors"] != _hash(vectors):
            raise GateError(
                f"{folder}: actions.safetensors and actions.json do not belong together, or one of "
                "them was changed; calibrate again"
            )
        return Actions(
            _read(document["fired"], vectors),
            _read(document["silent"], vectors),
            dict(document["provenance"]),
            None if document["false_alarm"] is None else float(document["false_alarm"]),
            float(document["threshold_raise"]),
        )
    except GateError:
        raise
    # RuntimeError: torch's refusal of kinds of numbers that safetensors knows and it cannot read.
    except (
        OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError, RuntimeError
    ) as error:  # fmt: skip
        raise GateError(
            f"the actions in {folder} are incomplete or damaged ({type(error).__name__}: {error}); "
            "calibrate again"
        ) from error


def _hash(vectors: Mapping[str, torch.Tensor]) -> str:
    return fingerprint({name: [str(v.dtype), v.tolist()] for name, v in vectors.items()})


def _described(action: Nothing, vectors: dict[str, torch.Tensor]) -> dict[str, Any]:
    if isinstance(action, Together):
        parts = [_described(part, vectors) for part in action.parts]
        return {"kind": "together", "name": action.name, "parts": parts}
    if isinstance(action, Say):
        return {
            "kind": "say",
            "name": action.name,
            "final": action.final,
            "default": action.default,
            "texts": dict(action.texts),
        }
    if isinstance(action, (AddDirection, ProjectOut)):
        name = f"vector.{len(vectors)}"
        # A copy: both sides may have one direction, and safetensors refuses shared memory.
        vectors[name] = action.direction.vector.detach().cpu().clone()
        direction = action.direction
        what: dict[str, Any] = {"vector": name, "name": action.name}
        what["direction"] = {
            "layer": direction.layer,
            "position": direction.position,
            "method": direction.method,
            "source": direction.source,
        }
        if isinstance(action, AddDirection):
            return {"kind": "add", **what, "alpha": action.alpha}
        return {"kind": "project", **what, "layers": list(action.layers), "share": action.share}
    if type(action) is Nothing:
        return {"kind": "none", "name": action.name}
    raise GateError(f"action {action.name!r} ({type(action).__name__}) has no file format")


def _read(spec: Mapping[str, Any], vectors: Mapping[str, torch.Tensor]) -> Nothing:
    kind = spec["kind"]
    if kind == "none":
        return Nothing()
    if kind == "together":
        return Together(spec["name"], parts=[_read(part, vectors) for part in spec["parts"]])
    if kind == "say":
        texts = {str(k): str(v) for k, v in spec["texts"].items()}
        default = str(spec["default"])
        if default not in texts:
            raise GateError(f"actions.json: there are no words in the default language {default!r}")
        return Say(spec["name"], texts=texts, default=default, final=bool(spec["final"]))
    if kind in ("add", "project"):
        direction = Direction(vectors[spec["vector"]], **spec["direction"])
        if kind == "add":
            return AddDirection(spec["name"], direction=direction, alpha=float(spec["alpha"]))
        layers = tuple(int(layer) for layer in spec["layers"])
        return ProjectOut(
            spec["name"], layers=layers, direction=direction, share=float(spec["share"])
        )
    raise GateError(f"actions.json: action kind {kind!r} is not known to this version")
