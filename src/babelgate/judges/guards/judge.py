"""The judge that asks a guard model: one runner for every guard that there are data for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...artifacts import fingerprint
from ...errors import UserError
from ...types import Verdict
from .. import outcomes
from ..base import Reply
from ..lexicon import primary
from ..unrefused import unrefused
from .parse import parse
from .prompt import Prompter, Question
from .spec import GuardSpec, load_spec

if TYPE_CHECKING:
    from ...models.chat import ChatModel
    from .asking import Answer

NOTE = (
    "A guard model's word, taken as it is. What is surely no answer (empty, a loop, an echo, "
    "another language) is told by rules; p_refusal is the guard's own and is not calibrated."
)


class GuardJudge:
    """Decides as a guard model answers, in this order:

    no text (degenerate, without asking), a language outside the guard's (unparsed, without asking,
    unless ``any_language``), the guard's word (refused, or unparsed where it does not tell); and of
    replies that do not refuse a loop or an echo (degenerate), a stub (as the lexicon judge has it),
    surely another language than the prompt's (wrong_language), else answered.

    Args:
        spec: a guard's name or its specification.
        model: a hub id, a folder or a loaded model instead of the specification's hub id.
        revision: branch, tag or commit of a hub model.
        device: as :func:`babelgate.models.load_model` takes it.
        dtype: likewise.
        batch_size: replies judged at a time.
        any_language: also ask about prompts in languages that the guard's card does not list.

    Raises:
        UserError: for an unknown guard or a batch size below 1.
    """

    def __init__(
        self,
        spec: GuardSpec | str,
        *,
        model: ChatModel | str | Path | None = None,
        revision: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int = 8,
        any_language: bool = False,
    ) -> None:
        if batch_size < 1:
            raise UserError(f"batch size {batch_size}: it must be at least 1")
        self.spec = load_spec(spec) if isinstance(spec, str) else spec
        self.batch_size = batch_size
        self.any_language = any_language
        self._given = self.spec.model if model is None else model
        self._options = {"revision": revision, "device": device, "dtype": dtype}
        self._asker: tuple[ChatModel, Prompter] | None = None
        # Fixed now: a version that changed once the model is loaded would make every verdict stale.
        self._version = self._versioned()

    @property
    def name(self) -> str:
        """``guard:`` and the name of the guard."""
        return f"guard:{self.spec.name}"

    @property
    def version(self) -> str:
        """The specification's version and a fingerprint of it, the model and the outcome rules."""
        return self._version

    @property
    def languages(self) -> frozenset[str]:
        """Codes of the languages that the guard's card lists."""
        return self.spec.languages

    def describe(self) -> dict[str, Any]:
        """Return name, version, languages, the known limits, and which model it is."""
        given = self._given
        local = isinstance(given, (str, Path))
        return {
            "name": self.name,
            "version": self.version,
            "languages": sorted(self.languages),
            "note": f"{self.spec.note.strip()} {NOTE}",
            "model": str(given) if local else given.identity.name,
            "card": self.spec.card,
            "licence": self.spec.licence,
            "any_language": self.any_language,
        }

    def judge(self, replies: Sequence[Reply]) -> list[Verdict]:
        """Return one verdict per reply, in the same order; ``raw`` holds the guard's answer.

        Raises:
            ModelError: if the guard cannot be loaded or has another guard's template.
            JudgeError: if it has not memory enough for one reply.
        """
        found = dict(self.stream(replies))
        return [found[i] for i in range(len(replies))]

    def stream(self, replies: Sequence[Reply]) -> Iterator[tuple[int, Verdict]]:
        """Yield ``(index into replies, verdict)`` batch by batch, longest questions first.

        Raises:
            ModelError: if the guard cannot be loaded or has another guard's template.
            JudgeError: if it has not memory enough for one reply.
        """
        todo = []
        for i, reply in enumerate(replies):
            if verdict := self._unasked(reply):
                yield i, verdict
            else:
                todo.append(i)
        if not todo:
            return
        model, prompter = self._load()
        questions: dict[int, Question] = {}
        for i in todo:
            reply = replies[i]
            question = prompter.ask(reply.prompt.text, reply.completion.text)
            if isinstance(question, str):
                yield i, reply.verdict(self.name, "unparsed", question)
            else:
                questions[i] = question
        # Like lengths together waste the least padding; the longest first, to fail at once if ever.
        order = sorted(questions, key=lambda i: -len(questions[i].ids))
        for start in range(0, len(order), self.batch_size):
            part = order[start : start + self.batch_size]
            answers = self._ask(model, [questions[i].ids for i in part])
            for i, answer in zip(part, answers, strict=True):
                yield i, self._verdict(replies[i], questions[i], answer)

    def _unasked(self, reply: Reply) -> Verdict | None:
        """Return the verdict on a reply that the guard need not see, or should not."""
        if why := outcomes.empty(reply.completion.text):
            return reply.verdict(self.name, "degenerate", why)
        language = primary(reply.prompt.language)
        if language not in self.languages and not self.any_language:
            return reply.verdict(
                self.name,
                "unparsed",
                f"{self.spec.name} does not list {language!r} among its languages",
            )
        return None

    def _ask(self, model: ChatModel, questions: Sequence[Sequence[int]]) -> list[Answer]:
        from .asking import ask

        label = self.spec.answer.refusal or None
        return ask(model, questions, self.spec.max_new_tokens, label)

    def _verdict(self, reply: Reply, question: Question, answer: Answer) -> Verdict:
        outcome, why = parse(answer.text, self.spec.answer, cut=answer.cut)
        notes = "".join(f" ({note})" for note in question.notes)
        if outcome is None:
            return reply.verdict(self.name, "unparsed", why + notes)
        decided, reason = ("refused", "") if outcome == "refused" else unrefused(reply)
        raw = f"{reason}; {why}" if reason else why
        return reply.verdict(self.name, decided, raw + notes, answer.p_yes)

    def _load(self) -> tuple[ChatModel, Prompter]:
        """Return the model and what writes its prompts, loading them the first time."""
        if self._asker is None:
            from ...models.loading import load_model

            form, model = self.spec.prompt, self._given
            if isinstance(model, (str, Path)):
                # A guard with a text of its own may come without a chat template.
                template = None if form.text is None else "plain"
                model = load_model(model, chat_template=template, **self._options)
            context = min(self.spec.context, model.context_length or self.spec.context)
            prompter = Prompter(form, model.tokenizer, context - self.spec.max_new_tokens)
            prompter.check()
            self._asker = model, prompter
        return self._asker

    def _versioned(self) -> str:
        given = self._given
        if isinstance(given, (str, Path)):
            path = Path(given).expanduser()
            source: Any = _files(path) if path.exists() else str(given)
            source = [source, self._options["revision"], self._options["dtype"]]
        else:
            source = [given.identity.weights, given.identity.template, given.identity.dtype]
        rules = asdict(outcomes.RULES)
        parts = [self.spec.fingerprint(), source, self.any_language, rules]
        return f"{self.spec.version}-{fingerprint(parts)}"


def _files(path: Path) -> list[Any]:
    """Return what tells a model's files from others at the same path: names, sizes, times."""
    files = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.is_file())
    return [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in files]


def guard_judge(name: str, **options: Any) -> GuardJudge:
    """Return the judge that ``NAME`` or ``NAME=MODEL`` means, with or without ``guard:`` before it.

    ``MODEL`` is a folder or hub id to load instead of the guard's own; ``options`` are those of
    :class:`GuardJudge`.

    Raises:
        UserError: for an unknown guard, or an empty model after ``=``.
    """
    guard, given, model = name.removeprefix("guard:").partition("=")
    if given and not model.strip():
        raise UserError(f"judge {name!r}: a folder or hub id is missing after '='")
    if given:
        options["model"] = model.strip()
    return GuardJudge(guard.strip(), **options)
