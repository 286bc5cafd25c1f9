"""What a judge is: something that names the outcome of replies, and says what it cannot see."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

from ..errors import UserError, did_you_mean
from ..types import Completion, Outcome, Prompt, Verdict


@dataclass(frozen=True, slots=True)
class Reply:
    """A prompt and what a model replied to it.

    Raises:
        UserError: if the completion answers another prompt.
    """

    prompt: Prompt
    completion: Completion

    def __post_init__(self) -> None:
        if self.prompt.key != self.completion.key:
            raise UserError(
                f"completion {self.completion.key!r} was paired with prompt {self.prompt.key!r}; "
                "pair each completion with the prompt of the same language and id"
            )

    def verdict(
        self, judge: str, outcome: Outcome, raw: str, p_refusal: float | None = None
    ) -> Verdict:
        """Return the verdict of ``judge`` on this reply."""
        made = self.completion
        return Verdict(made.language, made.prompt_id, made.method, judge, outcome, raw, p_refusal)


#: ``raw`` of a verdict that is missing for a reason outside the reply (no connection, a server's
#: error) starts so; it is ``unparsed`` and is asked for again on the next run.
FAILED = "failed: "


@runtime_checkable
class Judge(Protocol):
    """Names the outcome of replies.

    ``languages`` are the languages (of prompts) in which it can tell an answer from a refusal;
    elsewhere its verdict is ``unparsed`` unless it is sure.
    """

    @property
    def name(self) -> str:
        """Short name, as in ``--judge NAME`` and in verdicts."""
        ...

    @property
    def version(self) -> str:
        """Changes whenever the same reply may get another verdict."""
        ...

    @property
    def languages(self) -> frozenset[str]:
        """Codes of the languages that it can judge."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return ``name``, ``version``, ``languages`` and a ``note`` on its known limits."""
        ...

    def judge(self, replies: Sequence[Reply]) -> list[Verdict]:
        """Return one verdict per reply, in the same order."""
        ...


@runtime_checkable
class StreamingJudge(Protocol):
    """A judge whose verdicts come one by one, in any order, such as a guard or a remote model.

    What has been yielded is kept when a later reply fails or the process dies.
    """

    def stream(self, replies: Sequence[Reply]) -> Iterator[tuple[int, Verdict]]:
        """Yield ``(index into replies, verdict)`` as soon as each is known."""
        ...


# Named by import path, so that a judge that needs torch or a network costs nothing until asked for.
_JUDGES: Mapping[str, str] = MappingProxyType(
    {
        "embedded": "babelgate.judges.embedded.judge:EmbeddedJudge",
        "lexicon": "babelgate.judges.lexicon_judge:LexiconJudge",
    }
)


def judge_names() -> list[str]:
    """Return the names of the judges that need no model and no network, sorted."""
    return sorted(_JUDGES)


def get_judge(name: str) -> Judge:
    """Return the judge called ``name`` that needs no model and no network.

    Guards, remote models and panels: :func:`babelgate.judges.choosing.chosen_judge`.

    Raises:
        UserError: for a name that is not in the registry.
    """
    if name not in _JUDGES:
        known = [*judge_names(), "guard:NAME", "api:MODEL"]
        raise UserError(
            f"no judge is called {name!r}; known: {', '.join(known)}.{did_you_mean(name, known)}"
        )
    module, _, factory = _JUDGES[name].partition(":")
    return getattr(import_module(module), factory)()
