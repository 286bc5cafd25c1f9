"""One OpenAI-compatible chat endpoint: tries again, gives up in time, never shows the key."""

from __future__ import annotations

import asyncio
import random
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, NamedTuple

import httpx

from .._version import __version__
from ..errors import BabelgateError, JudgeError
from .api_settings import ApiSettings, Usage
from .api_wire import (
    ApiReply,
    Dialect,
    MalformedReply,
    complaint_of,
    names_no_model,
    printable,
    read_reply,
    retry_after,
)

__all__ = ["ApiClient", "ApiItemError", "ApiReply", "ApiSettings", "Usage"]

MAX_BODY = 1 << 20
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 60.0
_CONNECT_TIMEOUT = 10.0
# Failures in a row, at least, after which a server counts as gone.
_GONE = 10
_AGAIN = frozenset({408, 409, 425, 429})
# A shorter key is a placeholder ("EMPTY", "none") and may be part of ordinary words.
_SECRET_LENGTH = 8


class ApiItemError(BabelgateError):
    """No answer for this one request: after all tries, or because the server refuses it."""


class _Again(Exception):
    """This try failed and another may not; ``wait`` is what the server asked for, in seconds."""

    def __init__(self, why: str, wait: float | None = None) -> None:
        super().__init__(why)
        self.wait = wait


class _Question(NamedTuple):
    messages: Sequence[Mapping[str, str]]
    schema: Mapping[str, Any] | None
    max_tokens: int


class ApiClient:
    """Asks the endpoint, several questions at a time, from a thread with an event loop of its own.

    Its own loop, because only a task can be stopped at any moment: httpx times single reads, so a
    server that sends a byte a second would never time out. Used as a context manager; leaving it
    stops what is under way. ``sleep`` and ``jitter`` are replaced in tests.
    """

    def __init__(
        self,
        settings: ApiSettings,
        *,
        usage: Usage | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: random.Random | None = None,
    ) -> None:
        self.settings = settings
        self.usage = usage or Usage()
        self._sleep = sleep
        self._jitter = jitter or random.Random()
        self._dialect = Dialect(settings.structured)
        self._reached = self._answered = False
        # Requests in a row for which nothing came back: the server is gone, not the item bad.
        self._lost = 0

    def __enter__(self) -> ApiClient:
        url = self.settings.chat_url
        # Reading the system's certificates takes a while; an empty context trusts nobody.
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if url.scheme == "https":
            trust = ssl.create_default_context()
        connect = min(_CONNECT_TIMEOUT, self.settings.timeout_s)
        self._http = httpx.AsyncClient(
            verify=trust,
            timeout=httpx.Timeout(self.settings.timeout_s, connect=connect, pool=None),
            limits=httpx.Limits(max_connections=self.settings.concurrency),
            # A redirect would send prompts and replies to a server nobody chose.
            follow_redirects=False,
            # A proxy cannot reach this machine's own servers.
            trust_env=url.host not in ("127.0.0.1", "::1", "localhost"),
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        async def stop() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._http.aclose()

        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(stop(), self._loop).result(timeout=5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        if not self._thread.is_alive():
            self._loop.close()

    def complete(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        schema: Mapping[str, Any] | None,
        max_tokens: int,
    ) -> ApiReply:
        """Return the model's answer, in the form of ``schema`` where the server can enforce it.

        Raises:
            ApiItemError: if this request failed for good.
            JudgeError: if no request can succeed.
        """
        return self.submit(messages, schema=schema, max_tokens=max_tokens).result()

    def submit(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        schema: Mapping[str, Any] | None,
        max_tokens: int,
    ) -> Future[ApiReply]:
        """Start :meth:`complete` and return its future."""
        asked = self._ask(_Question(messages, schema, max_tokens))
        return asyncio.run_coroutine_threadsafe(asked, self._loop)

    async def _ask(self, question: _Question) -> ApiReply:
        """Return the answer to one question, or the error that stands for all its tries."""
        self.usage.add(requests=1)
        problems: list[str] = []
        try:
            try:
                async with asyncio.timeout(self.settings.deadline_s):
                    reply = await self._persist(question, problems)
            except _Again:
                raise self._given_up(problems, f"after {len(problems)} tries") from None
            except TimeoutError:
                how = f"gave up after {self.settings.deadline_s:g} s"
                raise self._given_up(problems, how) from None
        except BabelgateError:
            self.usage.add(failures=1)
            raise
        self._answered, self._lost = True, 0
        return reply

    async def _persist(self, question: _Question, problems: list[str]) -> ApiReply:
        """Try until there is an answer or no try is left; note each problem."""
        while True:
            try:
                return await self._try(question)
            except _Again as error:
                problems.append(str(error))
                if len(problems) >= self.settings.max_tries:
                    raise
                await self._sleep(self._wait(len(problems), error.wait))

    def _given_up(self, problems: Sequence[str], how: str) -> BabelgateError:
        """Return the error for a request that got no answer, or for a server that is gone."""
        told = f"{problems[-1] if problems else 'no answer'} ({how})"
        self._lost += 1
        if self._lost < max(_GONE, 2 * self.settings.concurrency):
            return ApiItemError(told)
        return JudgeError(
            f"{self.settings.public_url} has failed {self._lost} requests in a row, the last with: "
            f"{told}; what has been judged is kept, run the command again later"
        )

    def _wait(self, tries: int, asked_for: float | None) -> float:
        """Seconds to wait after a number of tries; jitter keeps them from coming together."""
        if asked_for is not None:
            return min(asked_for, _LONGEST_WAIT) * (1 + 0.1 * self._jitter.random())
        return min(_FIRST_WAIT * 2 ** (tries - 1), _LONGEST_WAIT) * (0.5 + self._jitter.random())

    async def _try(self, question: _Question) -> ApiReply:
        """Ask once, and again at once as long as the server takes offence at an optional part."""
        while True:
            dialect = self._dialect
            self.usage.add(tries=1)
            body = dialect.request(self.settings.model, *question)
            status, headers, content = await self._post(body)
            if 200 <= status < 300:
                try:
                    reply = read_reply(content)
                except MalformedReply as error:
                    raise _Again(str(error)) from None
                self.usage.add_tokens(reply)
                return reply
            complaint = complaint_of(content)
            if status in (400, 422):
                # Another request may have found out meanwhile.
                simpler = dialect.simpler(complaint) if dialect == self._dialect else self._dialect
                if simpler is not None:
                    self._dialect = simpler
                    continue
            raise self._failure(status, headers, complaint)

    async def _post(self, body: dict[str, Any]) -> tuple[int, httpx.Headers, bytes]:
        """Return status, headers and body of one exchange, all within ``timeout_s``."""
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",  # a small body could unpack to a huge one
            "User-Agent": f"babelgate/{__version__}",
        }
        if key := self.settings.key():
            headers["Authorization"] = f"Bearer {key}"
        content = bytearray()
        try:
            async with (
                asyncio.timeout(self.settings.timeout_s),
                self._http.stream(
                    "POST", self.settings.chat_url, json=body, headers=headers
                ) as response,
            ):
                self._reached = True
                async for chunk in response.aiter_bytes():
                    content += chunk
                    if len(content) > MAX_BODY:
                        raise ApiItemError(f"a reply of more than {MAX_BODY:,} bytes")
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            if not self._reached:
                raise JudgeError(
                    f"no connection to {self.settings.public_url}: {_what(error)}; start the "
                    "server there, or correct the address"
                ) from None
            raise _Again(f"no connection: {_what(error)}") from None
        except (TimeoutError, httpx.TimeoutException):
            raise _Again(f"no complete reply within {self.settings.timeout_s:g} s") from None
        except httpx.RequestError as error:
            raise _Again(f"the connection broke: {_what(error)}") from None
        return response.status_code, response.headers, self._without_key(bytes(content))

    def _failure(self, status: int, headers: httpx.Headers, complaint: str) -> Exception:
        """Return the exception for a status that is no success."""
        said = printable(complaint, 200)
        told = f"HTTP {status}" + (f": {said}" if said else "")
        where, key_env = self.settings.public_url, self.settings.key_env
        if 300 <= status < 400:
            return JudgeError(
                f"{where} redirects to {self._target(headers)}; redirects are not followed, so "
                "that replies go only where you said: give that address if you trust it"
            )
        if status == 401:
            cause = f"refuses the key in {key_env}" if self.settings.key() else "asks for a key"
            return JudgeError(f"{where} {cause} ({told}); set {key_env} to a key that it accepts")
        if status == 403 and not self._answered:
            return JudgeError(f"{where} forbids this key or model ({told}); check {key_env}")
        if status in (402, 429) and (status == 402 or "insufficient_quota" in complaint):
            return JudgeError(f"{where} wants to be paid first ({told}); check the account")
        if status in (404, 405) or (
            status in (400, 422) and not self._answered and names_no_model(complaint)
        ):
            return JudgeError(
                f"{where} has no model {self.settings.model!r} or no chat at this address "
                f"({told}); check the model's name, and that the address is the one before "
                "/chat/completions"
            )
        if status in _AGAIN or status >= 500:
            return _Again(told, retry_after(headers.get("Retry-After"), time.time()))
        self._lost = 0
        return ApiItemError(told)

    def _target(self, headers: httpx.Headers) -> str:
        """Return where a redirect leads, without user and query, which may be secrets."""
        try:
            target = httpx.URL(self._without_key(headers.get("Location", "").encode()).decode())
        except httpx.InvalidURL:
            return "nowhere"
        return printable(str(target.copy_with(userinfo=b"", query=None, fragment=None)), 200)

    def _without_key(self, content: bytes) -> bytes:
        """Return what a server said without the key, which some repeat."""
        key = self.settings.key()
        if not key or len(key) < _SECRET_LENGTH:
            return content
        return content.replace(key.encode(), b"KEY")


def _what(error: Exception) -> str:
    return printable(str(error), 160) or type(error).__name__
