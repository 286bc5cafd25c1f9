"""Files of replies from anywhere: JSONL with ``response`` or ``text``, and what else is known."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from ..errors import LanguageError, UserError
from ..languages import identify, normalise_code
from ..types import LABELS, Completion, Prompt, StopReason
from .base import Reply

#: Fields that may hold the reply, the first present one counts.
REPLY_FIELDS = ("response", "text", "completion")
#: Stands for a prompt that the file does not tell: no echo and no quotation can be seen then.
UNKNOWN_PROMPT = "(unknown)"
#: Language of a reply whose language is neither stated nor identified.
UNKNOWN_LANGUAGE = "und"
_METHOD_FIELDS = ("method", "model")
_TRUE = {"1": 1, "0": 0, "true": 1, "false": 0, "yes": 1, "no": 0}


@dataclass(frozen=True)
class ReplyFile:
    """Replies with their labels (None: unlabelled), and what had to be said about the files.

    ``labels`` is None where no field of labels was asked for. ``where`` names file and line.
    """

    replies: tuple[Reply, ...]
    labels: tuple[int | None, ...] | None
    where: tuple[str, ...]
    notes: tuple[str, ...]


def read_reply_files(
    files: Sequence[Path],
    *,
    against: str | None = None,
    language: str | None = None,
    prompt_text: Callable[[str, str], str | None] = lambda language, id_: None,
) -> ReplyFile:
    """Return the replies of JSONL files, in order.

    Each line is an object with ``response``, ``text`` or ``completion``; ``language``, ``prompt``,
    ``id`` or ``prompt_id``, ``method`` or ``model``, ``label``, ``stop_reason``, ``n_tokens`` and
    the field ``against`` (0 or 1) are used where present. A language that is not stated is
    ``language``, or identified from the prompt and else from the reply. ``prompt_text(language,
    id)`` looks up a prompt that a line does not hold. Bytes that are not UTF-8 are replaced, and
    counted in the notes, as are repeated ids and missing labels.

    Raises:
        UserError: naming file, line and field of what cannot be read; for a file without replies;
            for labels in no line.
    """
    replies: list[Reply] = []
    labels: list[int | None] = []
    where: list[str] = []
    notes: list[str] = []
    broken = identified = 0
    for file in files:
        try:
            data = file.read_bytes()
        except OSError as error:
            raise UserError(f"{file}: {error.strerror or error}") from error
        before = len(replies)
        for number, line in enumerate(data.split(b"\n"), 1):
            if not line.strip():
                continue
            at = f"{file}, line {number}"
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError:
                text = line.decode("utf-8", "replace")
                broken += 1
            row = _object(text, at)
            reply, guessed = _reply(row, at, str(len(replies) + 1), language, prompt_text)
            replies.append(reply)
            identified += guessed
            labels.append(None if against is None else _label(row, against, at))
            where.append(at)
        if len(replies) == before:
            raise UserError(f"{file} has no replies; expected one JSON object per line")
    if broken:
        notes.append(f"{broken} lines are not UTF-8; their broken characters were replaced")
    if identified:
        notes.append(f"the language of {identified} replies was identified, since none was stated")
    keys = Counter((r.prompt.key, r.completion.method) for r in replies)
    if repeated := sum(n - 1 for n in keys.values()):
        notes.append(f"{repeated} replies repeat an id; each was judged by itself")
    if against is not None:
        if all(label is None for label in labels):
            raise UserError(f"no line has the field {against!r} to compare with")
        if missing := labels.count(None):
            notes.append(f"{missing} replies have no {against!r}; they are in no agreement")
    return ReplyFile(
        tuple(replies), None if against is None else tuple(labels), tuple(where), tuple(notes)
    )


def _object(line: str, at: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{at} is not JSON: {error}") from error
    if not isinstance(row, dict):
        raise UserError(f"{at} should be a JSON object, not {type(row).__name__}")
    return row


def _reply(
    row: Mapping[str, Any],
    at: str,
    number: str,
    language: str | None,
    prompt_text: Callable[[str, str], str | None],
) -> tuple[Reply, bool]:
    """Return the reply in a row and whether its language had to be identified."""
    field = next((name for name in REPLY_FIELDS if name in row), None)
    if field is None:
        raise UserError(f"{at} has none of the fields {', '.join(REPLY_FIELDS)}")
    text = row[field]
    if not isinstance(text, str):
        raise UserError(f"{at}: field {field!r} should be text, not {type(text).__name__}")
    id_ = str(_first(row, ("prompt_id", "id"), number))
    stated = _text(row, "language", at) or language
    prompt = _text(row, "prompt", at) or ""
    if stated is None:
        guess = (identify(prompt).code if prompt.strip() else None) or identify(text).code
        code = guess or UNKNOWN_LANGUAGE
    else:
        try:
            code = normalise_code(stated)
        except LanguageError:
            code = stated.strip() or UNKNOWN_LANGUAGE  # a judge says that it does not know it
    prompt = prompt.strip() or prompt_text(code, id_) or UNKNOWN_PROMPT
    label = row.get("label")
    stop = row.get("stop_reason")
    tokens = row.get("n_tokens")
    made = Completion(
        code,
        id_,
        str(_first(row, _METHOD_FIELDS, "replies")),
        text,
        tokens if isinstance(tokens, int) and not isinstance(tokens, bool) else 0,
        cast(StopReason, stop) if stop in get_args(StopReason) else "eos",
    )
    known = label if label in LABELS else "harmful"
    return Reply(Prompt(id_, code, prompt, known, "test"), made), stated is None


def _first(row: Mapping[str, Any], names: Iterable[str], default: str) -> Any:
    return next((row[n] for n in names if row.get(n) not in (None, "")), default)


def _text(row: Mapping[str, Any], name: str, at: str) -> str | None:
    value = row.get(name)
    if value is not None and not isinstance(value, str):
        raise UserError(f"{at}: field {name!r} should be text, not {type(value).__name__}")
    return value


def _label(row: Mapping[str, Any], name: str, at: str) -> int | None:
    """Return a 0/1 label; true and false, yes and no count as such, null and absent as None."""
    value = row.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or (isinstance(value, (int, float)) and value in (0, 1)):
        return int(value)
    found = _TRUE.get(value.strip().lower()) if isinstance(value, str) else None
    if found is None:
        raise UserError(f"{at}: field {name!r} is {value!r:.60}, not 0 or 1")
    return found
