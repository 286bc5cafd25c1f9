"""Reading what `babelgate diagnose` and `babelgate directions` left in a run folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..breaks import Breaks
from ..documents import read_document
from ..errors import StoreError
from ..geometry.results import Geometry
from ..transfer.results import Transfer
from .selections import SelectionView


@dataclass(frozen=True)
class DiagnosedFolder:
    """The artifacts of one diagnosis."""

    breaks: Breaks
    geometry: Geometry


@dataclass(frozen=True)
class DirectedFolder:
    """A selection per language, and the transfer matrix if there is one."""

    selections: tuple[SelectionView, ...]
    transfer: Transfer | None


@dataclass(frozen=True)
class Studies:
    """The studies of activation space in one run folder; None for one that was not made."""

    diagnosed: DiagnosedFolder | None = None
    directed: DirectedFolder | None = None

    @property
    def empty(self) -> bool:
        """Whether no study was made."""
        return self.diagnosed is None and self.directed is None


def load_diagnosed(folder: Path) -> DiagnosedFolder:
    """Read the folder of a diagnosis.

    Raises:
        StoreError: if ``geometry.json`` or ``breaks.json`` is missing or damaged.
    """
    return DiagnosedFolder(
        Breaks.from_json(read_artifact(folder, "breaks.json", "diagnose")),
        Geometry.from_json(read_artifact(folder, "geometry.json", "diagnose")),
    )


def load_directed(folder: Path) -> DirectedFolder:
    """Read ``directions.json``.

    Raises:
        StoreError: if it is missing or damaged.
    """
    document = read_artifact(folder, "directions.json", "directions")
    try:
        found = tuple(SelectionView.of(one) for one in document["selections"].values())
        given = document["transfer"]
        return DirectedFolder(found, None if given is None else Transfer.from_json(given))
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{folder / 'directions.json'} is damaged: {error!r}") from error


def load_studies(folder: Path) -> Studies:
    """Read the studies that a run folder has.

    Raises:
        StoreError: if a file that exists is damaged.
    """
    return Studies(
        load_diagnosed(folder) if (folder / "breaks.json").exists() else None,
        load_directed(folder) if (folder / "directions.json").exists() else None,
    )


def only_studies(folder: Path) -> bool:
    """Whether a run folder holds studies of activation space and no measured results."""
    studied = any((folder / name).exists() for name in ("breaks.json", "directions.json"))
    return studied and not (folder / "results.json").exists()


def read_artifact(folder: Path, name: str, command: str) -> Mapping[str, Any]:
    """Return the JSON object in a file that a command writes.

    Raises:
        StoreError: if it is missing or damaged.
    """
    return read_document(folder / name, f"`babelgate {command} --out {folder}` writes it")
