"""The studies of activation space in a run folder: in the terminal, and as one page each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import console
from ..artifacts import write_text
from ..breaks import STEPS, Breaks
from .definitions import definitions
from .direction_sections import selected_words, selection_table, transfer_matrices
from .figures_breaks import breaks_words
from .load_studies import (
    DirectedFolder,
    Studies,
    load_diagnosed,
    load_directed,
    read_artifact,
)
from .matrices import matrix_table
from .names import language_label
from .numbers import plural
from .page import About, Head, Page, model_name
from .study_sections import shown_studies
from .terminal import print_tables


def diagnosed_page(folder: Path) -> Page:
    """Return the page of a diagnosis.

    Raises:
        StoreError: if a file is missing or damaged.
    """
    found = load_diagnosed(folder)
    geometry = found.geometry
    facts = [
        plural(len(geometry.languages), "language"),
        plural(len(geometry.layers), "block"),
        f"sources: {', '.join(geometry.sources)}",
    ]
    run = read_artifact(folder, "run.json", "diagnose")
    return _page("What breaks where", facts, Studies(diagnosed=found), run)


def directed_page(folder: Path) -> Page:
    """Return the page on a folder's refusal directions.

    Raises:
        StoreError: if a file is missing or damaged.
    """
    found = load_directed(folder)
    facts = [plural(len(found.selections), "language")]
    run = read_artifact(folder, "run.json", "directions")
    return _page("Refusal directions", facts, Studies(directed=found), run)


def studies_page(folder: Path, studies: Studies) -> Page:
    """Return one page of all studies of a folder, for one that measured nothing else.

    Raises:
        StoreError: if ``run.json`` is missing or damaged.
    """
    run = read_artifact(folder, "run.json", "diagnose")
    return _page("Refusal in activation space", [], studies, run)


def _page(title: str, facts: list[str], studies: Studies, run: Mapping[str, Any]) -> Page:
    facts = [*facts, f"prompts: {run.get('prompts', {}).get('name', 'unknown')}"]
    head = Head(title, model_name(run.get("model", {})), facts)
    sections, summary = shown_studies(studies)
    noted = [f"Note: {note}" for note in run.get("notes", ())]
    return Page(head, [*summary, *noted], sections, _about(run))


def write_diagnosed(folder: Path) -> Path:
    """Write ``diagnosis.html`` from the files beside it.

    Raises:
        StoreError: if a file is missing or damaged, or the page cannot be written.
    """
    path = Path(folder) / "diagnosis.html"
    write_text(path, diagnosed_page(Path(folder)).html)
    return path


def write_directed(folder: Path) -> Path:
    """Write ``directions.html`` from the files beside it.

    Raises:
        StoreError: if a file is missing or damaged, or the page cannot be written.
    """
    path = Path(folder) / "directions.html"
    write_text(path, directed_page(Path(folder)).html)
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


def print_directed(found: DirectedFolder) -> None:
    """Print what was selected in each language, and the transfer matrices."""
    tables = [selection_table(found.selections)]
    if found.transfer is not None:
        tables += [matrix_table(m) for m in transfer_matrices(found.transfer)]
    print_tables(tables)
    console.out.print(selected_words(found.selections), markup=False)
    if found.transfer is not None:
        told = [a for a in found.transfer.native if a.rival == "reference" and not a.reason]
        for said in dict.fromkeys(a.words for a in told):
            console.out.print(f"- {said}", markup=False)


def print_studies(studies: Studies) -> None:
    """Print what there is of both studies."""
    if studies.diagnosed is not None:
        print_diagnosed(studies.diagnosed.breaks)
    if studies.directed is not None:
        print_directed(studies.directed)


def _about(run: Mapping[str, Any]) -> About:
    loose = {k: v for k, v in run.items() if not isinstance(v, Mapping) and k != "notes"}
    parts: list[tuple[str, Mapping[str, Any]]] = [("Run", loose)]
    parts += [
        (key.replace("_", " ").capitalize(), run[key])
        for key in ("model", "prompts", "config", "versions", "hardware", "stages")
        if isinstance(run.get(key), Mapping)
    ]
    return [(title, definitions(value)) for title, value in parts if value]
