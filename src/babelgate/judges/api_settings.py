"""Which endpoint to ask and how, and what asking has used; the key stays in the environment."""

from __future__ import annotations

import os
import re
import threading
from dataclasses import dataclass, field
from typing import Any

import httpx

from ..errors import JudgeError, UserError
from .api_wire import STRUCTURED, ApiReply, Structured

# Names of query parameters that are no business of run.json, where the command line stands.
_SECRET = re.compile("key|token|secret|passw|sig|auth", re.IGNORECASE)


@dataclass(frozen=True)
class ApiSettings:
    """An endpoint and how to treat it.

    ``url`` is the base, such as ``http://127.0.0.1:8000/v1``. The key is read from the environment
    variable ``key_env`` for each request and kept nowhere; without one, none is sent. ``timeout_s``
    is for one try from connecting to the last byte, ``deadline_s`` for all tries and waits of one
    item. Prices are per million tokens, in any currency.

    Raises:
        UserError: naming every field that cannot be used.
    """

    url: str = field(repr=False)  # its query may hold a secret
    model: str
    key_env: str = "BABELGATE_API_KEY"
    timeout_s: float = 60.0
    deadline_s: float = 300.0
    concurrency: int = 4
    max_tries: int = 5
    max_tokens: int = 400
    prompt_price: float | None = None
    completion_price: float | None = None
    structured: Structured = "json_schema"

    def __post_init__(self) -> None:
        problems = []
        try:
            address = httpx.URL(self.url)
        except (httpx.InvalidURL, TypeError):
            address = httpx.URL("")
        if address.scheme not in ("http", "https") or not address.host:
            problems.append("url should be such as http://127.0.0.1:8000/v1")
        elif address.userinfo:
            # It would end in shell histories and in run.json.
            problems.append(f"url should hold no user or password; put the key into {_name(self)}")
        elif any(_SECRET.search(name) for name in address.params):
            problems.append(f"url should hold no key; put it into {_name(self)}")
        if not self.model.strip():
            problems.append("model should be the name that the server gives it")
        if re.fullmatch(r"[A-Za-z_]\w*", self.key_env, re.ASCII) is None:
            # Not shown: it may well be the key itself.
            problems.append("key_env should be the name of an environment variable, not a key")
        for name in ("timeout_s", "deadline_s", "concurrency", "max_tries", "max_tokens"):
            if not getattr(self, name) > 0:
                problems.append(f"{name} should be above 0, not {getattr(self, name)}")
        for name in ("prompt_price", "completion_price"):
            if (price := getattr(self, name)) is not None and not price >= 0:
                problems.append(f"{name} should be 0 or more, not {price}")
        if self.structured not in STRUCTURED:
            problems.append(f"structured should be one of {STRUCTURED}, not {self.structured!r}")
        if problems:
            raise UserError("API settings do not fit: " + "; ".join(problems))

    @property
    def public_url(self) -> str:
        """The address without what may be secret: no user, query or fragment."""
        return str(httpx.URL(self.url).copy_with(userinfo=b"", query=None, fragment=None))

    @property
    def chat_url(self) -> httpx.URL:
        """The address that requests are sent to; a query such as ``api-version=...`` is kept."""
        base = httpx.URL(self.url)
        path = base.path.rstrip("/").removesuffix("/chat/completions")
        return base.copy_with(path=f"{path}/chat/completions", fragment=None)

    def key(self) -> str | None:
        """Return the key from the environment, or ``None``.

        Raises:
            JudgeError: if it holds what no header can carry, without showing it.
        """
        key = os.environ.get(self.key_env, "").strip()
        if key and not (key.isascii() and key.isprintable()):
            raise JudgeError(
                f"{self.key_env} holds a line break or a character outside ASCII, so it is no key; "
                "set it again"
            )
        return key or None


def _name(settings: ApiSettings) -> str:
    return settings.key_env if settings.key_env.isidentifier() else "BABELGATE_API_KEY"


_COUNTERS = ("requests", "tries", "failures", "prompt_tokens", "completion_tokens", "unmetered")


class Usage:
    """Counts what was asked and used; ``unmetered`` answers came without token counts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = dict.fromkeys(_COUNTERS, 0)

    def add(self, **counts: int) -> None:
        """Add to the counters named."""
        with self._lock:
            for name, n in counts.items():
                self._counts[name] += n

    def add_tokens(self, reply: ApiReply) -> None:
        """Add the tokens of one answer."""
        metered = reply.prompt_tokens is not None and reply.completion_tokens is not None
        self.add(
            prompt_tokens=reply.prompt_tokens or 0,
            completion_tokens=reply.completion_tokens or 0,
            unmetered=int(not metered),
        )

    def totals(self, settings: ApiSettings) -> dict[str, Any]:
        """Return all counters and ``cost``: ``None`` without prices, too low if any unmetered."""
        with self._lock:
            counts: dict[str, Any] = dict(self._counts)
        prices = (settings.prompt_price, settings.completion_price)
        counts["cost"] = None
        if prices != (None, None):
            used = (counts["prompt_tokens"], counts["completion_tokens"])
            cost = sum(n * (price or 0.0) for n, price in zip(used, prices)) / 1e6
            counts["cost"] = round(cost, 6)
        return counts
