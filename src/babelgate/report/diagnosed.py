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
from .figures_matrix import matrix_table
from .load_studies import (
    DirectedFolder,
    Studies,
    load_diagnosed,
    load_directed,
    load_studies,
    read_artifact,
)
from .names import language_label
from .numbers import plural
from .page import About, Head, document, model_name
from .study_sections import study_sections, study_summary
from .terminal import print_tables


def render_diagnosed(folder: Path) -> str:
    """Return the page of a diagnosis as one self-contained HTML document.

    Raises:
        StoreError: if a file is missing or damaged.
    """
    folder = Path(folder)
    found = load_diagnosed(folder)
    geometry = found.geometry
    facts = [
        plural(len(geometry.languages), "language"),
        plural(len(geometry.layers), "block"),
        f"sources: {', '.join(geometry.sources)}",
    ]
    run = read_artifact(folder, "run.json", "diagnose")
    return _rendered("What breaks where", facts, Studies(diagnosed=found), run)


def render_directed(folder: Path) -> str:
    """Return the page on a folder's refusal directions as one self-contained HTML document.

    Raises:
        StoreError: if a file is missing or damaged.
    """
    folder = Path(folder)
    found = load_directed(folder)
    facts = [plural(len(found.selections), "language")]
    run = read_artifact(folder, "run.json", "directions")
    return _rendered("Refusal directions", facts, Studies(directed=found), run)


def render_studies(folder: Path) -> str:
    """Return one page of all studies in a folder, for one that measured nothing else.

    Raises:
        StoreError: if a file is missing or damaged.
    """
    folder = Path(folder)
    run = read_artifact(folder, "run.json", "diagnose")
    return _rendered("Refusal in activation space", [], load_studies(folder), run)


def _rendered(title: str, facts: list[str], studies: Studies, run: Mapping[str, Any]) -> str:
    facts = [*facts, f"prompts: {run.get('prompts', {}).get('name', 'unknown')}"]
    head = Head(title, model_name(run.get("model", {})), facts)
    return document(head, study_summary(studies), study_sections(studies), _about(run))


def write_diagnosed(folder: Path) -> Path:
    """Write ``diagnosis.html`` from the files beside it.

    Raises:
        StoreError: if a file is missing or damaged, or the page cannot be written.
    """
    path = Path(folder) / "diagnosis.html"
    write_text(path, render_diagnosed(folder))
    return path


def write_directed(folder: Path) -> Path:
    """Write ``directions.html`` from the files beside it.

    Raises:
        StoreError: if a file is missing or damaged, or the page cannot be written.
    """
    path = Path(folder) / "directions.html"
    write_text(path, render_directed(folder))
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
        for said in dict.fromkeys(a.words for a in found.transfer.native if a.rival == "reference"):
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
