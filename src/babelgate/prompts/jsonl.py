"""Prompt files, JSONL and CSV: one record to one prompt, and errors that name file, line, field."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from ..errors import LanguageError, PromptError, did_you_mean
from ..languages import normalise_code
from ..types import LABELS, SPLITS, Prompt

FIELDS = (
    "id", "language", "label", "split", "text", "category", "group_id", "pair_id", "source",
)  # fmt: skip
_REQUIRED = FIELDS[:5]


def parse_prompt(record: Mapping[str, Any], where: str) -> Prompt:
    """Return the prompt in a record; keys that babelgate does not use go to ``extra``.

    ``where`` opens the error message, such as ``set.jsonl, line 3``. Language codes are brought to
    the registry's spelling; a whole number is taken as an id.

    Raises:
        PromptError: naming the field that is missing or wrong.
    """
    for name in _REQUIRED:
        if record.get(name) is None:
            raise PromptError(
                f"{where}: field {name!r} is missing; every prompt needs {', '.join(_REQUIRED)}"
            )
    values: dict[str, Any] = {}
    for name in FIELDS:
        value = record.get(name)
        if name in ("id", "group_id", "pair_id") and type(value) is int:
            value = str(value)
        if value is not None and not isinstance(value, str):
            kind = type(value).__name__
            raise PromptError(f"{where}: field {name!r} should be text, not {kind} ({value!r:.60})")
        values[name] = value
    for name in ("id", "text"):
        if not values[name].strip():
            raise PromptError(f"{where}: field {name!r} is empty; fill it in or remove the prompt")
    for name, allowed in (("label", LABELS), ("split", SPLITS)):
        if values[name] not in allowed:
            raise PromptError(
                f"{where}: field {name!r} is {values[name]!r:.60}, not one of "
                f"{', '.join(allowed)}.{did_you_mean(values[name], [*allowed])}"
            )
    try:
        values["language"] = normalise_code(values["language"])
    except LanguageError as error:
        raise PromptError(f"{where}: field 'language': {error}") from None
    extra = {key: value for key, value in record.items() if key not in FIELDS}
    return Prompt(
        **{
            **values,
            "group_id": values["group_id"] or "",
            "pair_id": values["pair_id"] or None,
            "source": values["source"] or "",
        },
        extra=MappingProxyType(extra),
    )


def read_jsonl(data: bytes, name: str) -> list[Prompt]:
    """Return the prompts of a JSONL file's bytes; ``name`` is the file's name for messages.

    Raises:
        PromptError: for bytes that are not UTF-8, a line that is not a JSON object, a wrong field,
            or a second prompt with the same language and id.
    """
    prompts: list[Prompt] = []
    # Only newlines end a line: U+2028 and its like may stand inside a JSON string.
    for number, line in enumerate(decode(data, name).split("\n"), start=1):
        if line.strip():
            where = f"{name}, line {number}"
            prompts.append(parse_prompt(load_object(line, where), where))
    return unique(prompts, name)


def read_csv(data: bytes, name: str) -> list[Prompt]:
    """Return the prompts of a CSV file's bytes: a header row, then one prompt a row.

    Raises:
        PromptError: as :func:`read_jsonl`, and for rows of another length than the header.
    """
    return unique([parse_prompt(row, where) for where, row in csv_rows(data, name)], name)


def csv_rows(data: bytes, name: str) -> list[tuple[str, dict[str, str | None]]]:
    """Return (where, row) for each row of a CSV file; empty cells are None.

    Raises:
        PromptError: if the file is not a table with a header.
    """
    reader = csv.reader(io.StringIO(decode(data, name), newline=""), strict=True)
    rows: list[tuple[str, dict[str, str | None]]] = []
    try:
        header = next(reader, [])
        if len(set(header)) != len(header) or "" in header:
            raise PromptError(f"{name}: the header row {header!r:.200} has empty or equal names")
        for cells in reader:
            if not any(cells):
                continue
            where = f"{name}, line {reader.line_num}"
            if len(cells) != len(header):
                raise PromptError(
                    f"{where}: {len(cells)} cells where the header has {len(header)}; "
                    "put quotes around cells with commas or line breaks"
                )
            rows.append((where, {key: cell or None for key, cell in zip(header, cells)}))
    except csv.Error as error:
        raise PromptError(f"{name}, line {reader.line_num}: not a CSV table ({error})") from None
    return rows


def write_prompts(path: str | Path, prompts: Iterable[Prompt]) -> None:
    """Write prompts as JSONL that :func:`read_jsonl` reads back as they are.

    The file appears whole or not at all: it is written under a temporary name, synced and renamed.

    Raises:
        PromptError: if a prompt's ``extra`` cannot be written, or the folder cannot be written to.
    """
    path = Path(path)
    lines = [_line(prompt) for prompt in prompts]
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes the file private; a prompt file is as readable as any other new file.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except OSError as error:
        raise PromptError(f"cannot write prompts to {path}: {error}") from error
    except UnicodeEncodeError as error:
        raise PromptError(f"cannot write prompts to {path}: a text is not valid Unicode") from error
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


def _line(prompt: Prompt) -> str:
    record: dict[str, Any] = {name: getattr(prompt, name) for name in FIELDS}
    optional = {"category": None, "group_id": prompt.id, "pair_id": None, "source": ""}
    record = {k: v for k, v in record.items() if k not in optional or v != optional[k]}
    clash = sorted(set(prompt.extra) & set(FIELDS))
    if clash:
        raise PromptError(f"prompt {prompt.key!r}: extra has the reserved key {clash[0]!r}")
    try:
        return json.dumps({**record, **prompt.extra}, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise PromptError(f"prompt {prompt.key!r}: extra is not plain JSON ({error})") from None


def load_object(text: str, where: str) -> dict[str, Any]:
    """Return the JSON object in a text.

    Raises:
        PromptError: for anything else: broken JSON, NaN or infinity, a key given twice, half a
            surrogate pair, nesting too deep to read.
    """

    def refuse(constant: str) -> NoReturn:
        raise PromptError(f"{where}: {constant} is not a JSON number; use null")

    def number(digits: str) -> float:
        value = float(digits)
        if not math.isfinite(value):
            raise PromptError(f"{where}: the number {digits:.40} is too large")
        return value

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            keys = [key for key, _ in items]
            double = next(key for key in keys if keys.count(key) > 1)
            raise PromptError(f"{where}: the field {double!r} is given twice")
        return found

    try:
        value = json.loads(text, parse_constant=refuse, parse_float=number, object_pairs_hook=pairs)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise PromptError(f"{where}: an escape such as \\ud800 is half a character") from None
    except (ValueError, RecursionError) as error:
        raise PromptError(f"{where}: not JSON ({error})") from None
    if not isinstance(value, dict):
        kind = type(value).__name__
        raise PromptError(f'{where}: expected an object {{"id": ..., "text": ...}}, not {kind}')
    return value


def decode(data: bytes, name: str) -> str:
    """Return UTF-8 bytes as text, without a byte order mark.

    Raises:
        PromptError: if they are not UTF-8, naming the line.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PromptError(
            f"{name}, line {line}: not UTF-8 ({error.reason}); save the file as UTF-8"
        ) from None


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes.

    Raises:
        PromptError: if it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise PromptError(f"cannot read prompts from {path}: {error.strerror or error}") from None


def unique(prompts: list[Prompt], name: str) -> list[Prompt]:
    """Return the prompts, each language and id once.

    Raises:
        PromptError: naming the first key that is there twice.
    """
    seen: set[str] = set()
    for prompt in prompts:
        if prompt.key in seen:
            raise PromptError(
                f"{name}: two prompts have language {prompt.language!r} and id {prompt.id!r:.80}; "
                "ids must be unique within a language"
            )
        seen.add(prompt.key)
    return prompts
