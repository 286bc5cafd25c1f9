"""Prompt sets on the Hugging Face hub, pinned to a commit."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import Any

from ..errors import DownloadError, PromptError
from ..types import SPLITS, Prompt
from . import multijail
from .jsonl import parse_prompt, unique

_SPEC = re.compile(
    r"(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^:@\s]*))?(?::(?P<config>[^:\s]+))?"
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SPLIT_NAMES = {"validation": "val", "valid": "val", "dev": "val"}


def read_hub(spec: str, languages: frozenset[str] | None = None) -> list[Prompt]:
    """Return the prompts of ``owner/name@revision`` or ``owner/name@revision:config``.

    Columns are named as the fields of a prompt file; a missing ``split`` is the hub split's name,
    a missing ``id`` the row's number there. MultiJail's own table is understood too.

    Raises:
        PromptError: for a malformed name, a revision that is not a full commit hash, a data set
            whose columns do not fit, or a missing ``datasets`` package.
        DownloadError: if the hub cannot be reached.
    """
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise PromptError(f"hf:{spec} should look like hf:owner/name@COMMIT or ...@COMMIT:config")
    revision = match["revision"] or ""
    if not _COMMIT.fullmatch(revision):
        raise PromptError(
            f"hf:{spec} needs a full commit hash (40 hexadecimal digits) as revision, "
            f"not {revision!r}: a branch or tag may change under you"
        )
    try:
        datasets: Any = importlib.import_module("datasets")
    except ImportError:
        raise PromptError(
            f"hf:{spec} needs the datasets package; install it with: pip install babelgate[hub]"
        ) from None
    try:
        loaded = datasets.load_dataset(match["name"], name=match["config"], revision=revision)
    except OSError as error:  # includes ConnectionError and file-not-found errors of the hub
        raise DownloadError(f"cannot load hf:{spec}: {error}") from error
    except Exception as error:  # the package raises many kinds; none should reach the terminal raw
        raise PromptError(f"cannot load hf:{spec}: {error}") from error
    parts = loaded if isinstance(loaded, Mapping) else {str(loaded.split): loaded}
    prompts: list[Prompt] = []
    for split, rows in parts.items():
        prompts += _read_part(f"hf:{match['name']}", str(split), rows, languages)
    return unique(prompts, f"hf:{spec}")


def _read_part(name: str, split: str, rows: Any, languages: frozenset[str] | None) -> list[Prompt]:
    columns = list(rows.column_names)
    located = [(f"{name}, split {split}, row {i + 1}", row) for i, row in enumerate(rows)]
    if multijail.is_table(columns):
        return multijail.from_rows(located, name, languages)
    names = getattr(getattr(rows, "features", {}).get("label"), "names", None)
    ours = _SPLIT_NAMES.get(split, split)
    prompts: list[Prompt] = []
    for i, (where, row) in enumerate(located):
        record = {key: value for key, value in row.items() if value is not None}
        if ours in SPLITS:
            record.setdefault("split", ours)
        record.setdefault("id", f"{split}-{i:05d}")
        record.setdefault("source", name)
        if names and isinstance(record.get("label"), int):
            record["label"] = names[record["label"]]
        prompt = parse_prompt(record, where)
        if languages is None or prompt.language in languages:
            prompts.append(prompt)
    return prompts
