"""Translators and judges without models, which remember what they were shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from babelgate.judges import Reply
from babelgate.judges.translation import Translation
from babelgate.types import Completion, Outcome, Prompt, Verdict


def reply(
    text: str,
    language: str = "de",
    prompt: str = "Wie backe ich ohne Ofen ein gutes Brot für die Familie?",
    *,
    id: str = "p1",
    method: str = "none",
    stop: Any = "eos",
) -> Reply:
    asked = Prompt(id, language, prompt, "harmless", "test")
    return Reply(asked, Completion(language, id, method, text, 50, stop))


class FakeTranslator:
    """Translates by a table; what is not in it comes back as ``default``."""

    name = "fake"
    version = "f1"

    def __init__(
        self,
        table: dict[str, str | Translation],
        languages: Sequence[str] = ("de", "yo", "zh"),
        default: str | None = None,
    ) -> None:
        self.table = table
        self.languages = frozenset(languages)
        self.default = default
        self.seen: list[tuple[str, str]] = []

    def translate(self, texts: Sequence[str], sources: Sequence[str]) -> list[Translation]:
        self.seen += zip(texts, sources, strict=True)
        made = [self.table.get(text, self.default) for text in texts]
        assert all(m is not None for m in made), texts
        return [m if isinstance(m, Translation) else Translation(m) for m in made]


class FakeJudge:
    """Calls refused what holds the word "cannot"; verdicts can be set by text."""

    def __init__(
        self,
        name: str = "guard",
        *,
        said: dict[str, tuple[Outcome, str]] | None = None,
        p: float | None = None,
        languages: Sequence[str] = ("en",),
        version: str = "g1",
    ) -> None:
        self.name, self.version, self.languages = name, version, frozenset(languages)
        self.said, self.p = said or {}, p
        self.seen: list[Reply] = []

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "version": self.version, "languages": [], "note": ""}

    def judge(self, replies: Sequence[Reply]) -> list[Verdict]:
        self.seen += replies
        return [r.verdict(self.name, *self._decide(r.completion.text), self.p) for r in replies]

    def _decide(self, text: str) -> tuple[Outcome, str]:
        if text in self.said:
            return self.said[text]
        return ("refused", "cannot") if "cannot" in text else ("answered", "no cannot")


class StreamingFake(FakeJudge):
    """Yields from the last to the first, as a judge that sorts by length may."""

    def stream(self, replies: Sequence[Reply]):
        for i in reversed(range(len(replies))):
            yield i, self.judge([replies[i]])[0]
