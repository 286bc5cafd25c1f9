"""What is known of each guard model: its hub id, licence, languages, prompt and form of answer."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

from ...artifacts import fingerprint
from ...errors import UserError, did_you_mean

_DATA = Path(__file__).parent / "data"

#: ``lines``: one of the answer's lines says whether the reply refuses. ``safety``: the answer is
#: ``safe``, or ``unsafe`` and a line of categories, and says nothing of refusal.
AnswerKind = Literal["lines", "safety"]


@dataclass(frozen=True, slots=True)
class PromptForm:
    """How a guard is asked: by a text of its own, or by messages in the model's chat template.

    ``{prompt}`` and ``{response}`` stand for the two texts. ``control`` are marks of the format
    that must not take effect within them, besides those that the tokenizer itself declares.

    Raises:
        UserError: unless there is either a text or messages, with both texts in it once.
    """

    text: str | None = None
    messages: tuple[tuple[str, str], ...] = ()
    generation_prompt: bool = False
    control: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        whole = (self.text or "") + "".join(content for _, content in self.messages)
        if bool(self.text) == bool(self.messages) or any(
            whole.count(field) != 1 for field in ("{prompt}", "{response}")
        ):
            raise UserError(
                "a guard's prompt needs either a text or messages, with {prompt} and {response} "
                "once each"
            )


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """How a guard answers: the names of its lines, and which of them says yes or no to refusal.

    Raises:
        UserError: for an unknown kind, or lines without the one on refusal.
    """

    kind: AnswerKind
    refusal: str = ""
    fields: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in get_args(AnswerKind):
            raise UserError(f"a guard's answer is one of {get_args(AnswerKind)}, not {self.kind!r}")
        if self.kind == "lines" and (not self.refusal or self.refusal not in self.fields):
            raise UserError("a guard that answers in lines needs `refusal`, one of its `fields`")


@dataclass(frozen=True, slots=True)
class GuardSpec:
    """One guard model as its model card (``card``, a URL) describes it.

    ``context`` and ``max_new_tokens`` are in tokens; ``languages`` are codes of the languages that
    the card lists; ``version`` is raised with every change of the data that changes verdicts.
    """

    name: str
    version: str
    model: str
    card: str
    licence: str
    parameters: float
    context: int
    max_new_tokens: int
    languages: frozenset[str]
    note: str
    prompt: PromptForm
    answer: AnswerForm

    @property
    def memory(self) -> float:
        """GB (1e9 bytes) of the weights in 16 bits, without activations."""
        return self.parameters * 2 / 1e9

    def fingerprint(self) -> str:
        """Return 16 hex digits of all that verdicts depend on."""
        fields = asdict(self) | {"languages": sorted(self.languages)}
        for unrelated in ("card", "licence", "parameters", "note", "model"):
            del fields[unrelated]
        return fingerprint(fields)


def parse_spec(data: Mapping[str, Any], where: str = "guard") -> GuardSpec:
    """Return the specification that a TOML document holds.

    Raises:
        UserError: for fields that are missing, unknown or do not fit.
    """
    try:
        prompt, answer = dict(data["prompt"]), dict(data["answer"])
        messages = tuple((m["role"], m["content"]) for m in prompt.pop("messages", ()))
        control = tuple(prompt.pop("control", ()))
        own = {k: v for k, v in data.items() if k not in ("prompt", "answer", "languages", "sizes")}
        return GuardSpec(
            **own,
            languages=frozenset(data["languages"]),
            prompt=PromptForm(messages=messages, control=control, **prompt),
            answer=AnswerForm(fields=tuple(answer.pop("fields", ())), **answer),
        )
    except (KeyError, TypeError) as error:
        raise UserError(f"{where}: not a guard's specification: {error}") from error


@cache
def _specs() -> Mapping[str, GuardSpec]:
    """Return all specifications by name; a file with ``sizes`` holds one for each."""
    found = {}
    for path in sorted(_DATA.glob("*.toml")):
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        sizes = data.get("sizes", {"": {}})
        for size, fields in sizes.items():
            name = f"{data['name']}-{size}" if size else data["name"]
            found[name] = parse_spec({**data, **fields, "name": name}, path.name)
    return MappingProxyType(found)


def guard_names() -> list[str]:
    """Return the names of the guards there are data for, sorted."""
    return sorted(_specs())


def load_spec(name: str) -> GuardSpec:
    """Return the specification of a guard.

    Raises:
        UserError: for a name that there are no data for.
    """
    if name not in _specs():
        known = guard_names()
        raise UserError(
            f"no guard is called {name!r}; known: {', '.join(known)}.{did_you_mean(name, known)}"
        )
    return _specs()[name]
