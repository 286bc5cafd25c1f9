"""Directions to and from other tools' files; the format follows the file's suffix.

Vectors are written at full length, ``scale * unit``: adding one once, with llama.cpp's scale 1 or
repeng's coefficient 1, is adding ``scale`` times our unit vector. Read ones are split again into
unit vector and length.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import torch

from .._version import __version__
from ..errors import UserError
from ..types import POSITIONS, ModelIdentity, Position
from .direction_set import DirectionSet, NamedDirection, Provenance, named_direction
from .gguf_file import ARCHITECTURE, read_control_vector, write_control_vector
from .layer_dicts import read_npz, read_safetensors, write_npz
from .set_file import is_set_file, load_directions, save_directions

Format = Literal["gguf", "npz", "safetensors"]
FORMATS: tuple[Format, ...] = get_args(Format)

_SUFFIXES = ", ".join(f".{name}" for name in FORMATS)
_PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib")


def export_vectors(
    directions: DirectionSet,
    path: Path,
    *,
    name: str | None = None,
    layers: Iterable[int] | None = None,
    format: Format | None = None,
    model_hint: str | None = None,
) -> tuple[int, ...]:
    """Write one direction for another tool, or a set in our own format; return its blocks.

    - ``gguf``: a llama.cpp control vector, which repeng imports too: ``direction.N`` is added after
      block N, counted from 0 as ours are. Block 0 cannot be written.
    - ``npz``: repeng's dictionary ``{layer: vector}``, keys as text.
    - ``safetensors``: our own, with provenance; unit vectors and scales apart. Without a name, all.

    ``name`` may be left out where the set has one name alone; ``layers`` where all blocks of the
    name are meant. Note that a control vector with several blocks is added at each of them.
    ``model_hint`` is text for people in a GGUF file (repeng writes the config's ``model_type``); no
    tool checks it.

    Raises:
        UserError: for a suffix or format that is not one of these, a name or block that the set
            lacks, several names and none chosen, or block 0 in a GGUF file.
        StoreError: if the file cannot be written.
    """
    chosen = _format(path, format)
    if chosen == "safetensors" and name is None and layers is None:
        save_directions(directions, path)
        return tuple(sorted({e.layer for e in directions.directions}))
    one = directions.select(directions.only_name() if name is None else name, layers)
    if chosen == "safetensors":
        save_directions(one, path)
    else:
        vectors = {e.layer: _exported(e) for e in one.directions}
        if chosen == "npz":
            write_npz(path, vectors)
        else:
            known = directions.model
            hint = model_hint or ("unknown" if known is None else known.name) or "unknown"
            write_control_vector(path, vectors, model_hint=hint, notes=_notes(one))
    return tuple(e.layer for e in one.directions)


def import_vectors(
    path: Path,
    *,
    name: str | None = None,
    position: Position = "t_post",
    model: ModelIdentity | None = None,
) -> DirectionSet:
    """Read vectors that another tool wrote, or a set of ours.

    Reads GGUF control vectors, and ``.npz`` and ``.safetensors`` dictionaries of vectors named by
    their blocks. Such a set has the provenance ``imported`` and no model; ``model`` is compared
    with it by width and number of blocks alone. ``name`` is the direction's (the one that the file
    gives, else the file's own), ``position`` the one that the file does not state. A vector of
    zeros, which adds nothing, is left out and noted. Sets of ours come back as they were written.

    Raises:
        UserError: if the file is missing, damaged, of another kind, does not fit the model, or is a
            pickle: those can run code when opened, and are never read.
    """
    if path.suffix.lower() in _PICKLES:
        raise UserError(
            f"{path} is a pickle, which can run code when it is opened: babelgate does not. Write "
            "the vectors again with repeng's export_gguf, or as .npz or .safetensors"
        )
    chosen = _format(path, None)
    if chosen == "safetensors" and is_set_file(path):
        return load_directions(path, model)
    metadata: Mapping[str, Any] = {}
    if chosen == "gguf":
        read = read_control_vector(path)
        vectors, metadata = read.vectors, _kept(read.metadata)
    else:
        vectors = read_npz(path) if chosen == "npz" else read_safetensors(path)
    found = _imported(path, chosen, vectors, metadata, name, position)
    if model is not None:
        found.check(model)
    return found


def _format(path: Path, given: str | None) -> Format:
    chosen = path.suffix.lower().removeprefix(".") if given is None else given
    if chosen not in FORMATS:
        raise UserError(
            f"{path}: files of vectors end in {_SUFFIXES}"
            if given is None
            else f"format {given!r} is not one of {', '.join(FORMATS)}"
        )
    return cast(Format, chosen)


def _exported(entry: NamedDirection) -> np.ndarray:
    vector = entry.scaled()
    if not torch.isfinite(vector).all() or not vector.any():
        raise UserError(
            f"direction {entry.name!r}: scale {entry.scale:g} does not fit into float32 numbers"
        )
    return vector.cpu().numpy()


def _notes(one: DirectionSet) -> dict[str, str]:
    """Return what people may want to know of a file, as text that a tool can print."""
    entries = one.directions
    notes = {
        "name": entries[0].name,
        "position": _joined(e.direction.position for e in entries),
        "method": _joined(e.direction.method for e in entries),
        "source": _joined(e.direction.source for e in entries),
        "language": _joined(e.language or "" for e in entries),
        "scale_is": _joined(e.scale_is for e in entries),
        "layers": "direction.N is the residual stream after block N, counted from 0",
        "prompts": one.provenance.prompts or "",
        "version": __version__,
    }
    if one.model is not None:
        notes |= {"model": one.model.name, "weights": one.model.weights}
        notes["n_layers"] = str(one.model.n_layers)
    return {key: text.encode("utf-8", "replace").decode() for key, text in notes.items() if text}


def _joined(texts: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(texts))


def _kept(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a file that say where it came from, long texts cut."""
    return {
        key: value[:500] if isinstance(value, str) else value
        for key, value in metadata.items()
        if key.startswith((f"{ARCHITECTURE}.", "babelgate.")) and len(key) <= 100
        # JSON has no NaN.
        if not isinstance(value, float) or np.isfinite(value)
    }


def _imported(
    path: Path,
    format: Format,
    vectors: Mapping[int, np.ndarray],
    metadata: Mapping[str, Any],
    name: str | None,
    position: Position,
) -> DirectionSet:
    def told(key: str) -> str | None:
        value = metadata.get(f"babelgate.{key}")
        return value if isinstance(value, str) and value.strip() and value.isprintable() else None

    stated = told("position")
    place = cast(Position, stated) if stated in POSITIONS else position
    # The name is the reader's or the file's; a file name may hold anything.
    own = "".join(c if c.isprintable() else "?" for c in path.stem)[:100].strip() or "imported"
    label = name if name is not None else (told("name") or own)[:200]
    zeros = [block for block, vector in vectors.items() if not np.any(vector)]
    if len(zeros) == len(vectors):
        raise UserError(f"{path} holds vectors of zeros alone: there is no direction in it")
    try:
        entries = tuple(
            named_direction(
                label,
                torch.from_numpy(np.asarray(vector, dtype=np.float64)),
                layer=block,
                position=place,
                method=told("method") or "unknown",
                source=told("source") or path.name,
                scale_is="imported",
                language=told("language"),
            )
            for block, vector in vectors.items()
            if block not in zeros
        )
        notes: dict[str, Any] = {
            "file": path.name,
            "format": format,
            "position": "stated by the file" if stated in POSITIONS else "given by the reader",
            "metadata": dict(metadata),
        }
        if zeros:
            notes["blocks_of_zeros"] = zeros
        provenance = Provenance("imported", versions={"babelgate": __version__}, notes=notes)
        return DirectionSet(entries, None, provenance)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
