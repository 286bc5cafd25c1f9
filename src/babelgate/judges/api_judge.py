"""A judge behind an OpenAI-compatible chat endpoint, asked about one reply at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

from ..artifacts import fingerprint
from ..errors import JudgeError
from ..languages import languages
from ..types import Outcome, Verdict
from . import outcomes
from .api_answer import INSTRUCTIONS, MAX_CHARS, SCHEMA, parse_answer, question
from .api_client import ApiClient, ApiItemError, ApiSettings, Usage
from .api_wire import ApiReply, printable
from .base import FAILED, Reply
from .unrefused import unrefused

NOTE = (
    "A language model read each reply, in any language; its errors are unmeasured, and likely to "
    "differ between languages, unless it was compared with labelled replies (`--against`). It "
    f"reads the first {MAX_CHARS:,} characters of a reply. A served model may change behind its "
    "name, and the same question may get another answer. Prompts and replies were sent to the "
    "endpoint."
)


class ApiJudge:
    """Asks a model whether a reply refuses; rules of ours decide the rest.

    No text is ``degenerate`` without asking. After "answered", a loop or an echo is ``degenerate``
    and surely another language than the prompt's ``wrong_language``. "unclear" is ``unparsed``
    unless it is a loop or an echo. An answer that cannot be read is ``unparsed``; so is a request
    that failed, which is asked again on the next run.
    """

    def __init__(self, settings: ApiSettings) -> None:
        self.settings = settings
        self._usage = Usage()

    @property
    def name(self) -> str:
        """``api:MODEL``."""
        return f"api:{self.settings.model}"

    @property
    def version(self) -> str:
        """The model and a fingerprint of all that it is told; the address does not matter."""
        asked = fingerprint([INSTRUCTIONS, dict(SCHEMA), MAX_CHARS])
        return f"1-{asked[:8]}-{self.settings.model}"

    @property
    def languages(self) -> frozenset[str]:
        """Codes of all languages of the registry; how well it does in each is not known."""
        return frozenset(entry.code for entry in languages())

    def usage(self) -> dict[str, Any]:
        """Return totals since this judge was made: requests, tries, failures, tokens and cost.

        ``requests`` are replies asked about and ``tries`` what was sent for them; ``cost`` is
        ``None`` without prices. ``unmetered`` answers came without token counts: with any, tokens
        and cost are too low.
        """
        return self._usage.totals(self.settings)

    def describe(self) -> dict[str, Any]:
        """Return name, version, languages, limits, endpoint and what has been used so far."""
        return {
            "name": self.name,
            "version": self.version,
            "languages": sorted(self.languages),
            "note": NOTE,
            "model": self.settings.model,
            "url": self.settings.public_url,
            "usage": self.usage(),
        }

    def judge(self, replies: Sequence[Reply]) -> list[Verdict]:
        """Return one verdict per reply, in the same order.

        Raises:
            JudgeError: if the endpoint cannot work at all.
        """
        made = dict(self.stream(replies))
        return [made[i] for i in range(len(replies))]

    def stream(self, replies: Sequence[Reply]) -> Iterator[tuple[int, Verdict]]:
        """Yield ``(index, verdict)`` as each is known; closing the iterator stops all requests.

        No more than ``concurrency`` replies are asked about ahead of what has been taken, so a
        crash loses no more than that.

        Raises:
            JudgeError: if the endpoint cannot work at all; what was known has been yielded.
        """
        pending: dict[Future[ApiReply], int] = {}
        with ApiClient(self.settings, usage=self._usage) as client:
            for index, reply in enumerate(replies):
                if why := outcomes.empty(reply.completion.text):
                    yield index, reply.verdict(self.name, "degenerate", why)
                    continue
                asked = client.submit(
                    question(reply), schema=SCHEMA, max_tokens=self.settings.max_tokens
                )
                pending[asked] = index
                if len(pending) >= self.settings.concurrency:
                    yield from self._finished(pending, replies)
            while pending:
                yield from self._finished(pending, replies)

    def _finished(
        self, pending: dict[Future[ApiReply], int], replies: Sequence[Reply]
    ) -> Iterator[tuple[int, Verdict]]:
        """Wait for at least one request, and yield the verdicts of those that are done."""
        broken: JudgeError | None = None
        for asked in wait(pending, return_when=FIRST_COMPLETED).done:
            index = pending.pop(asked)
            reply = replies[index]
            try:
                outcome, raw = _decide(reply, asked.result())
            except JudgeError as error:
                broken = error
                continue
            except ApiItemError as error:
                outcome, raw = "unparsed", f"{FAILED}{error}"
            yield index, reply.verdict(self.name, outcome, raw)
        if broken is not None:
            raise broken


def _decide(reply: Reply, said: ApiReply) -> tuple[Outcome, str]:
    """Return the outcome of one reply and why, given what the model said about it."""
    parsed = parse_answer(said.text)
    if parsed is None:
        shown = printable(said.text, 200)
        told = f"not understood: {shown!r}" if shown else "the model said nothing"
        if said.finish_reason == "length":
            # The limit is ours, not the reply's: with a higher one it can be asked again.
            return "unparsed", f"{FAILED}its answer was cut off; raise max_tokens ({told})"
        return "unparsed", f"{told} (finish_reason {said.finish_reason or 'missing'})"
    sure = "" if parsed.confidence is None else f" ({parsed.confidence:.2f})"
    raw = f"{parsed.outcome}{sure}: {parsed.reason}"
    if (length := len(reply.completion.text)) > MAX_CHARS:
        raw += f" [read {MAX_CHARS:,} of {length:,} characters]"
    if parsed.outcome == "refused":
        return "refused", raw
    outcome, why = unrefused(reply)
    if parsed.outcome == "unclear" and outcome != "degenerate":
        return "unparsed", raw
    return outcome, f"{why}; the model said {raw}" if why else raw
