"""A judge that reads English only, made to judge replies in other languages by translating them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...languages import identify
from ...types import Outcome, Verdict
from .. import outcomes
from ..base import FAILED, Judge, Reply
from ..lexicon import primary
from ..running import stream
from ..unrefused import degenerate
from .base import Translation, Translator, translate

NOTE = (
    "Replies are translated into English before they are judged, so errors of the translation are "
    "errors of the verdict, and are likely to be more frequent in languages with little data. "
    "Translations that visibly failed are unparsed and never judged as text; those that are fluent "
    "and wrong are not seen. English replies are judged as they are."
)
#: ``raw`` of a verdict that is missing because a translation failed starts so.
PREFIX = "translation: "
_VERSION = "1"
# Replies translated and judged together: enough to fill batches, little to lose in a crash.
_CHUNK = 128


@dataclass(frozen=True, slots=True)
class _Text:
    """A text and the language it is translated from; ``source`` None: it is passed as it is."""

    text: str
    source: str | None


class TranslatedJudge:
    """Judges in every language that ``translator`` knows by what ``judge`` makes of the English.

    No text, a loop or an echo of the prompt is ``degenerate`` and decided before translating.
    English texts, and those in a language that the judge but not the translator knows, are passed
    as they are. After ``answered``, a reply that is surely in another language than the prompt's is
    ``wrong_language``. A failed translation, of the reply or of the prompt, is ``unparsed``.
    """

    def __init__(self, judge: Judge, translator: Translator) -> None:
        self.inner = judge
        self.translator = translator
        self._translated: Counter[str] = Counter()
        self._passed: Counter[str] = Counter()
        self._degenerate: Counter[str] = Counter()
        self._failed: defaultdict[str, Counter[str]] = defaultdict(Counter)

    @property
    def name(self) -> str:
        """The names of judge and translator, as in ``wildguard+nllb``."""
        return f"{self.inner.name}+{self.translator.name}"

    @property
    def version(self) -> str:
        """Changes with the judge, the translator, or the rules here."""
        return f"{_VERSION}:{self.inner.version}+{self.translator.version}"

    @property
    def languages(self) -> frozenset[str]:
        """Codes of the languages of the judge and of the translator."""
        return self.inner.languages | self.translator.languages

    def describe(self) -> dict[str, Any]:
        """Return name, version, languages, limits, the judge, the translator and what was done.

        ``replies`` counts what this object has judged since it was made, by language of the prompt:
        ``translated``, ``passed`` as they were, ``degenerate`` before translating, and ``failed``
        by kind of problem. Verdicts read back from a run folder are not in it.
        """
        return {
            "name": self.name,
            "version": self.version,
            "languages": sorted(self.languages),
            "note": NOTE,
            "judge": self.inner.describe(),
            "translator": {"name": self.translator.name, "version": self.translator.version},
            "replies": {
                "translated": dict(sorted(self._translated.items())),
                "passed": dict(sorted(self._passed.items())),
                "degenerate": dict(sorted(self._degenerate.items())),
                "failed": {
                    code: dict(sorted(kinds.items()))
                    for code, kinds in sorted(self._failed.items())
                },
            },
        }

    def judge(self, replies: Sequence[Reply]) -> list[Verdict]:
        """Return one verdict per reply, in the same order.

        Raises:
            JudgeError: if the judge or the translator cannot work at all.
        """
        made = dict(self.stream(replies))
        return [made[i] for i in range(len(replies))]

    def stream(self, replies: Sequence[Reply]) -> Iterator[tuple[int, Verdict]]:
        """Yield ``(index, verdict)`` as each is known; a text that occurs twice is translated once.

        Raises:
            JudgeError: if the judge or the translator cannot work at all; what was known has been
                yielded.
        """
        known: dict[_Text, Translation] = {}
        for start in range(0, len(replies), _CHUNK):
            yield from self._chunk(replies, range(start, min(start + _CHUNK, len(replies))), known)

    def _chunk(
        self, replies: Sequence[Reply], indices: range, known: dict[_Text, Translation]
    ) -> Iterator[tuple[int, Verdict]]:
        texts: dict[int, tuple[_Text, _Text]] = {}
        for i in indices:
            if why := degenerate(replies[i]):
                self._degenerate[replies[i].prompt.language] += 1
                yield i, replies[i].verdict(self.name, "degenerate", why)
            else:
                texts[i] = self._texts(replies[i])
        self._translate([text for pair in texts.values() for text in pair], known)
        english: dict[int, Reply] = {}
        for i, (prompt, answer) in texts.items():
            if why := _problem(known[prompt], known[answer]):
                self._failed[replies[i].prompt.language][_kind(why)] += 1
                yield i, replies[i].verdict(self.name, "unparsed", why)
                continue
            done = self._passed if answer.source is None else self._translated
            done[replies[i].prompt.language] += 1
            english[i] = self._english(replies[i], prompt, answer, known)
        order = list(english)
        for portion in stream(self.inner, list(english.values())):
            for at, verdict in portion:
                yield order[at], self._restored(replies[order[at]], verdict)

    def _texts(self, reply: Reply) -> tuple[_Text, _Text]:
        """Return prompt and reply with the languages to translate them from."""
        own = primary(reply.prompt.language)
        texts = (reply.prompt.text, reply.completion.text)
        return _Text(texts[0], self._source(texts[0], own)), _Text(
            texts[1], self._source(texts[1], own)
        )

    def _source(self, text: str, own: str) -> str | None:
        """Return the language of a text: what it surely is, otherwise the prompt's own."""
        guess = identify(text[: outcomes.RULES.language_window])
        sure = guess.confidence >= outcomes.RULES.language_confidence
        known = {"en"} | self.translator.languages | self.inner.languages
        source = guess.code if guess.code in known and sure else own
        return None if source is None or source == "en" or self._native(source) else source

    def _native(self, code: str) -> bool:
        """Whether the inner judge knows a language that cannot be translated."""
        return code in self.inner.languages and code not in self.translator.languages

    def _translate(self, texts: list[_Text], known: dict[_Text, Translation]) -> None:
        """Add the translations of ``texts`` to ``known``."""
        todo: list[tuple[_Text, str]] = []
        for text in dict.fromkeys(texts):
            if text in known:
                continue
            if text.source is None:
                known[text] = Translation(text.text)
            elif text.source not in self.translator.languages:
                why = f"unsupported: {self.translator.name} does not know {text.source!r}"
                known[text] = Translation(None, why)
            else:
                todo.append((text, text.source))
        if todo:
            made = translate(self.translator, [t.text for t, _ in todo], [s for _, s in todo])
            known.update((text, one) for (text, _), one in zip(todo, made, strict=True))

    def _english(
        self, reply: Reply, prompt: _Text, answer: _Text, known: dict[_Text, Translation]
    ) -> Reply:
        """Return the reply as the inner judge is to see it."""
        asked, said = known[prompt].text, known[answer].text
        assert asked is not None  # failed ones were sorted out before
        assert said is not None
        own = primary(reply.prompt.language)
        language = own if self._native(own) else "en"
        return Reply(
            replace(reply.prompt, language=language, text=asked),
            replace(reply.completion, language=language, text=said),
        )

    def _restored(self, reply: Reply, verdict: Verdict) -> Verdict:
        """Return an inner verdict as one on the original reply."""
        outcome: Outcome = verdict.outcome
        raw = verdict.raw
        if outcome == "answered":
            language = primary(reply.prompt.language)
            if why := outcomes.wrong_language(reply.completion.text, language, identify):
                outcome, raw = "wrong_language", f"{why}; the judge said {raw}"
        return reply.verdict(self.name, outcome, raw, verdict.p_refusal)


def _problem(prompt: Translation, answer: Translation) -> str | None:
    """Return ``raw`` of the verdict if either translation failed; lost connections first."""
    found = [f"prompt: {prompt.problem}"] if prompt.problem else []
    found += [answer.problem] if answer.problem else []
    lost = [p.problem for p in (prompt, answer) if p.problem and p.problem.startswith(FAILED)]
    if lost:
        return f"{FAILED}{PREFIX}{lost[0].removeprefix(FAILED)}"
    # The reply's own problem says more than the prompt's.
    return f"{PREFIX}{found[-1]}" if found else None


def _kind(raw: str) -> str:
    """Return what counts are kept by: ``loop``, ``prompt: length``, ``unreachable``."""
    if raw.startswith(FAILED):
        return "unreachable"
    parts = raw.removeprefix(PREFIX).split(": ")
    return ": ".join(parts[:2]) if parts[0] == "prompt" else parts[0]
