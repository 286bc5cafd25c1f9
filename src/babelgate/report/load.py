"""Reading a run folder: everything is checked here, so that the pages can trust its shape."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from ..comparing.results import Comparison, load_comparison
from ..documents import read_document
from ..errors import StoreError
from ..judges.running import SET_ASIDE
from ..results import Diagnosis, Results, load_diagnosis, load_results
from ..types import Completion, Verdict
from .actions_tried import ActionsTried, load_actions_tried
from .load_studies import Studies, load_studies

T = TypeVar("T")
D = TypeVar("D", Results, Diagnosis, Comparison)


@dataclass(frozen=True)
class RunFolder:
    """The artifacts of one run; what a run did not make is None or empty."""

    results: Results
    diagnosis: Diagnosis | None = None
    run: Mapping[str, Any] | None = None
    completions: tuple[Completion, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    actions: ActionsTried | None = None
    studies: Studies = field(default_factory=Studies)


def load_run(folder: Path, *, replies: bool = False) -> RunFolder:
    """Read a run folder; completions only if ``replies``.

    Raises:
        StoreError: if ``results.json`` is missing, or any file that exists is damaged.
    """
    results = _checked(folder / "results.json", Results, lambda: load_results(folder))
    diagnosis = None
    if (folder / "diagnosis.json").exists():
        diagnosis = _checked(folder / "diagnosis.json", Diagnosis, lambda: load_diagnosis(folder))
    return RunFolder(
        results,
        diagnosis,
        _run(folder / "run.json"),
        _lines(folder / "completions.jsonl", Completion, Completion.from_json) if replies else (),
        _lines(folder / "verdicts.jsonl", Verdict, Verdict.from_json, leave_out=SET_ASIDE),
        load_actions_tried(folder),
        load_studies(folder),
    )


@dataclass(frozen=True)
class ComparedFolder:
    """The artifacts of one comparison; what it did not make is None."""

    comparison: Comparison
    actions: ActionsTried | None = None
    run: Mapping[str, Any] | None = None


def load_compared(folder: Path) -> ComparedFolder:
    """Read the folder of a comparison.

    Raises:
        StoreError: if ``compare.json`` is missing, or any file that exists is damaged.
    """
    path = folder / "compare.json"
    if not path.exists():
        raise StoreError(f"there is no {path}; `babelgate compare --out {folder}` writes it")
    comparison = _checked(path, Comparison, lambda: load_comparison(folder))
    return ComparedFolder(comparison, load_actions_tried(folder), _run(folder / "run.json"))


def _checked(path: Path, kind: type[D], load: Callable[[], D | None]) -> D:
    """Load a document and check every field's type: a file may be edited by hand."""
    try:
        loaded = load()
        assert loaded is not None
        return TypeAdapter(kind).validate_python(dataclasses.asdict(loaded))
    except ValidationError as error:
        raise StoreError(f"{path} does not fit: {_first(error)}") from error
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise StoreError(f"{path} is incomplete or damaged: {error}") from error


def _first(error: ValidationError) -> str:
    details = error.errors()[0]
    return f"{'.'.join(map(str, details['loc']))}: {details['msg']}"


def _run(path: Path) -> Mapping[str, Any] | None:
    return read_document(path) if path.exists() else None


def _lines(
    path: Path,
    kind: type[T],
    build: Callable[[Mapping[str, Any]], T],
    *,
    leave_out: str | None = None,
) -> tuple[T, ...]:
    """Read lines and check them; those that hold the field ``leave_out`` are passed over."""
    if not path.exists():
        return ()
    adapter: TypeAdapter[T] = TypeAdapter(kind)
    rows: list[T] = []
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            item: Any = build(fields)
            if leave_out in fields:
                continue
            rows.append(adapter.validate_python(dataclasses.asdict(item)))
        except ValidationError as error:
            raise StoreError(f"{path}, line {number}: {_first(error)}") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StoreError(f"{path}, line {number} is damaged: {error}") from error
    return tuple(rows)
