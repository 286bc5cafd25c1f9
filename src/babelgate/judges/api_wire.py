"""What is said to and by an OpenAI-compatible chat endpoint: pure functions, no connection."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Literal, get_args

Structured = Literal["json_schema", "json_object", "none"]
STRUCTURED: tuple[Structured, ...] = get_args(Structured)

# How servers name the setting they complain about: hosted services, vLLM, llama.cpp, Ollama.
_FORMAT_WORDS = re.compile(
    r"response_format|json_schema|json_object|structured output|guided|gramm"
)
_NO_MODEL = re.compile(
    r"model\b.{0,80}\b(not found|does not exist|not a valid|not valid|invalid|unknown)"
    r"|\b(invalid|unknown|no such) model"
)


@dataclass(frozen=True, slots=True)
class ApiReply:
    """What the model said, why it stopped, and the tokens it cost (``None``: not reported)."""

    text: str
    prompt_tokens: int | None
    completion_tokens: int | None
    finish_reason: str = ""


class MalformedReply(Exception):
    """A body that is no chat completion, as after a cut connection or from a broken proxy."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """The optional parts of a request, which servers support to different degrees."""

    structured: Structured
    tokens_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    temperature: bool = True

    def request(
        self,
        model: str,
        messages: Sequence[Mapping[str, str]],
        schema: Mapping[str, Any] | None,
        max_tokens: int,
    ) -> dict[str, Any]:
        """Return the body of a request; without a schema no format is asked for."""
        body: dict[str, Any] = {"model": model, "messages": list(messages)}
        body[self.tokens_name] = max_tokens
        if self.temperature:
            body["temperature"] = 0
        if schema is not None and self.structured == "json_schema":
            form = {"name": "answer", "strict": True, "schema": dict(schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        elif schema is not None and self.structured == "json_object":
            body["response_format"] = {"type": "json_object"}
        return body

    def simpler(self, complaint: str) -> Dialect | None:
        """Return the next dialect to try after a refusal of this one, or ``None``."""
        said = complaint.lower()
        if self.tokens_name == "max_tokens" and "max_completion_tokens" in said:
            return replace(self, tokens_name="max_completion_tokens")
        # Both words: a complaint may quote a prompt, and prompts speak of temperatures.
        if self.temperature and "temperature" in said and "support" in said:
            return replace(self, temperature=False)
        if self.structured != "none" and _FORMAT_WORDS.search(said):
            return replace(self, structured=STRUCTURED[STRUCTURED.index(self.structured) + 1])
        return None


def names_no_model(complaint: str) -> bool:
    """Whether a complaint says that there is no such model; many servers answer 400, not 404."""
    return _NO_MODEL.search(complaint.lower()) is not None


def read_reply(body: bytes) -> ApiReply:
    """Return what a chat completion says; a missing text (``content: null``) is an empty one.

    Raises:
        MalformedReply: if the body is not JSON, or JSON without a message.
    """
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise MalformedReply(f"no JSON but {printable(decoded(body), 80)!r}") from None
    if not isinstance(data, dict):
        raise MalformedReply(f"no JSON object but a {type(data).__name__}")
    choices = data.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        said = f": {printable(complaint_of(body), 200)}" if "error" in data else ""
        raise MalformedReply(f"no message in the reply{said}")
    text = _text(message.get("content")) or _text(message.get("refusal"))
    usage = data.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return ApiReply(
        text,
        _count(usage.get("prompt_tokens")),
        _count(usage.get("completion_tokens")),
        printable(_text(choice.get("finish_reason")), 40),
    )


def complaint_of(body: bytes) -> str:
    """Return the message of an error body (at most 2,000 characters), or the body itself."""
    text = decoded(body)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return text[:2000]
    for name in ("error", "message", "detail"):
        if isinstance(data, dict) and name in data:
            data = data[name]
    if isinstance(data, dict):
        data = json.dumps(data, ensure_ascii=False)
    return str(data)[:2000]


def retry_after(value: str | None, now: float) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for: a number or a date (RFC 9110).

    ``now`` is in seconds since the epoch. ``None`` for a missing or senseless header.
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
            seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now
        except (ValueError, TypeError, OverflowError):
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def decoded(body: bytes) -> str:
    """Return a body as text whatever its bytes are."""
    return body.decode("utf-8", "replace")


def printable(text: str, limit: int) -> str:
    """Return one line of at most ``limit`` characters, safe to print and to write as UTF-8.

    Servers and models choose this text: it could hold control sequences or half characters.
    """
    flat = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * limit]).split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def _text(content: Any) -> str:
    """Return a message's content, which is a string, a list of parts, or null."""
    if isinstance(content, list):
        parts = [p for p in content if isinstance(p, dict) and p.get("type") == "text"]
        return "".join(p["text"] for p in parts if isinstance(p.get("text"), str))
    return content if isinstance(content, str) else ""


def _count(value: Any) -> int | None:
    """Return a number of tokens, or ``None`` if it is not one."""
    return value if type(value) is int and value >= 0 else None
