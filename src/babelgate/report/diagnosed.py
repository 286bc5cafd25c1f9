"""The studies of activation space in a run folder: in the terminal, and as one page each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import console
from ..artifacts import write_text
from ..breaks import STEPS, Breaks
from ..errors import StoreError
from ..geometry.results import Geometry
from ..transfer.results import Transfer
from .definitions import definitions
from .direction_sections import (
    native_section,
    not_selected,
    selected_words,
    selection_maps,
    selection_table,
    transfer_matrices,
)
from .figures_breaks import breaks_words
from .figures_matrix import matrix_table
from .geometry_page import geometry_page, ordered
from .geometry_sections import (
    GeometryPage,
    geometry_sections,
    geometry_summary,
    matrix_words,
)
from .names import language_label
from .numbers import plural
from .page import About, Head, document, model_name
from .selections import SelectionView
from .terminal import print_tables


@dataclass(frozen=True)
class DiagnosedFolder:
    """The artifacts of one diagnosis."""

    breaks: Breaks
    geometry: Geometry
    run: Mapping[str, Any]


def load_diagnosed(folder: Path) -> DiagnosedFolder:
    """Read the folder of a diagnosis.

    Raises:
        StoreError: if ``geometry.json`` or ``breaks.json`` is missing or damaged.
    """
    return DiagnosedFolder(
        Breaks.from_json(_document(folder, "breaks.json", "diagnose")),
        Geometry.from_json(_document(folder, "geometry.json", "diagnose")),
        _document(folder, "run.json", "diagnose"),
    )


def _document(folder: Path, name: str, command: str) -> dict[str, Any]:
    path = folder / name
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StoreError(
            f"there is no {path}; `babelgate {command} --out {folder}` writes it"
        ) from None
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read: {error}; run {command} again") from error
    if not isinstance(found, dict):
        raise StoreError(f"{path} should hold a JSON object; run {command} again")
    return found


def render_diagnosed(folder: Path) -> str:
    """Return the page of a diagnosis as one self-contained HTML document.

    Raises:
        StoreError: if a file is missing or damaged.
    """
    found = load_diagnosed(Path(folder))
    page = geometry_page(found.breaks, found.geometry)
    run, geometry = found.run, found.geometry
    facts = [
        plural(len(geometry.languages), "language"),
        plural(len(geometry.layers), "block"),
        f"sources: {', '.join(geometry.sources)}",
        f"prompts: {run.get('prompts', {}).get('name', 'unknown')}",
    ]
    head = Head("What breaks where", model_name(run.get("model", {})), facts)
    return document(head, geometry_summary(page), geometry_sections(page), _about(run))


def load_directed(folder: Path) -> tuple[tuple[SelectionView, ...], Transfer | None]:
    """Read ``directions.json``: a selection per language, and the transfer matrix if there is one.

    Raises:
        StoreError: if it is missing or damaged.
    """
    document = _document(folder, "directions.json", "directions")
    try:
        found = tuple(SelectionView.of(one) for one in document["selections"].values())
        given = document["transfer"]
        return found, None if given is None else Transfer.from_json(given)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{folder / 'directions.json'} is damaged: {error!r}") from error


def render_directed(folder: Path) -> str:
    """Return the page on a folder's refusal directions as one self-contained HTML document.

    Raises:
        StoreError: if a file is missing or damaged.
    """
    folder = Path(folder)
    selections, transfer = load_directed(folder)
    run = _document(folder, "run.json", "directions")
    page = GeometryPage(
        ordered(tuple(s.language for s in selections)),
        transfers=() if transfer is None else tuple(transfer_matrices(transfer)),
        maps=tuple(selection_maps(selections)),
        skipped=tuple(not_selected(selections)),
    )
    parts = geometry_sections(page)
    parts = [
        replace(s, tables=(selection_table(selections), *s.tables)) if s.key == "selection" else s
        for s in parts
    ]
    native = None if transfer is None else native_section(transfer)
    if native is not None:
        parts = [parts[0], native, *parts[1:]]
    facts = [
        plural(len(selections), "language"),
        f"prompts: {run.get('prompts', {}).get('name', 'unknown')}",
    ]
    head = Head("Refusal directions", model_name(run.get("model", {})), facts)
    words = [selected_words(selections)]
    if transfer is not None:
        words += list(dict.fromkeys(matrix_words(m) for m in page.transfers[:2]))
    return document(head, [w for w in words if w], parts, _about(run))


def write_directed(folder: Path) -> Path:
    """Write ``directions.html`` from the files beside it.

    Raises:
        StoreError: if a file is missing or damaged, or the page cannot be written.
    """
    path = Path(folder) / "directions.html"
    write_text(path, render_directed(folder))
    return path


def print_directed(selections: Sequence[SelectionView], transfer: Transfer | None) -> None:
    """Print what was selected in each language, and the transfer matrices."""
    tables = [selection_table(selections)]
    if transfer is not None:
        tables += [matrix_table(m) for m in transfer_matrices(transfer)]
    print_tables(tables)
    console.out.print(selected_words(selections), markup=False)
    if transfer is not None:
        for said in dict.fromkeys(a.words for a in transfer.native if a.rival == "reference"):
            console.out.print(f"- {said}", markup=False)


def write_diagnosed(folder: Path) -> Path:
    """Write ``diagnosis.html`` from the files beside it.

    Raises:
        StoreError: if a file is missing or damaged, or the page cannot be written.
    """
    path = Path(folder) / "diagnosis.html"
    write_text(path, render_diagnosed(folder))
    return path


def print_diagnosed(breaks: Breaks) -> None:
    """Print a row per language, a verdict per step, and a sentence for each language."""
    console.table(
        "What breaks where",
        ["Language", *(step.capitalize() for step in STEPS), "Breaks first"],
        [
            [
                language_label(row.language),
                *(row.step(step).verdict for step in STEPS),
                row.diagnosis,
            ]
            for row in breaks.rows
        ],
    )
    console.out.print(breaks_words(breaks), markup=False)
    for row in breaks.rows:
        console.out.print(f"- {row.sentence}", markup=False)


def _about(run: Mapping[str, Any]) -> About:
    loose = {k: v for k, v in run.items() if not isinstance(v, Mapping) and k != "notes"}
    parts: list[tuple[str, Mapping[str, Any]]] = [("Run", loose)]
    parts += [
        (key.replace("_", " ").capitalize(), run[key])
        for key in ("model", "prompts", "config", "versions", "hardware", "stages")
        if isinstance(run.get(key), Mapping)
    ]
    return [(title, definitions(value)) for title, value in parts if value]
