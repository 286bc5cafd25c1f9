"""The values that the parts of babelgate exchange: frozen, checked when built, free of torch."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NewType, cast, get_args

from .errors import PromptError

Label = Literal["harmful", "harmless"]
Split = Literal["train", "val", "test"]
NamedPosition = Literal["t_post", "t_inst", "mean"]
#: ``t_post-N``: the token N before ``t_post``. Made by :func:`post_instruction`.
EarlierPosition = NewType("EarlierPosition", str)
Position = NamedPosition | EarlierPosition
Contrast = Literal["topic", "twins"]
Outcome = Literal["refused", "answered", "degenerate", "wrong_language", "unparsed"]
StopReason = Literal["eos", "length", "fixed"]

LABELS: tuple[Label, ...] = get_args(Label)
SPLITS: tuple[Split, ...] = get_args(Split)
POSITIONS: tuple[NamedPosition, ...] = get_args(NamedPosition)
CONTRASTS: tuple[Contrast, ...] = get_args(Contrast)
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


_EARLIER = "t_post-"


def post_instruction(back: int) -> Position:
    """Return the position of the token ``back`` before the prompt's last: 0 is ``t_post``."""
    if back < 0:
        raise ValueError(f"positions are counted back from the last token, not {back}")
    return EarlierPosition(f"{_EARLIER}{back}") if back else "t_post"


def tokens_back(position: str) -> int | None:
    """Inverse of :func:`post_instruction`; None for what is no such position."""
    if position == "t_post":
        return 0
    number = position.removeprefix(_EARLIER)
    plain = position != number and number.isascii() and number.isdigit() and number[0] != "0"
    return int(number) if plain else None


def is_position(position: str) -> bool:
    """Whether activations can be read there: a named position, or one before ``t_post``."""
    return position in POSITIONS or tokens_back(position) is not None


@dataclass(frozen=True, slots=True)
class Prompt:
    """One user request with what is known about it.

    ``group_id`` is shared by the translations of one prompt; ``pair_id`` by a harmful prompt and
    its harmless twin (same form and key word). ``source`` names the set it came from; ``extra``
    keeps the keys of a prompt file that babelgate does not use.

    Raises:
        PromptError: for an empty id or text, or a label or split that does not exist.
    """

    id: str
    language: str
    text: str
    label: Label
    split: Split
    group_id: str = ""
    category: str | None = None
    source: str = ""
    pair_id: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not self.id:
            raise PromptError("a prompt has an empty id; every prompt needs one")
        if not self.text.strip():
            raise PromptError(f"prompt {self.key!r} has an empty text; remove it or fill it in")
        if self.label not in LABELS:
            raise PromptError(f"prompt {self.key!r}: label {self.label!r} is not one of {LABELS}")
        if self.split not in SPLITS:
            raise PromptError(f"prompt {self.key!r}: split {self.split!r} is not one of {SPLITS}")
        if not self.group_id:
            object.__setattr__(self, "group_id", self.id)

    @property
    def key(self) -> str:
        """``language/id``: unique in a prompt set (ids alone repeat across translations)."""
        return f"{self.language}/{self.id}"

    @property
    def harmful(self) -> bool:
        """Whether the label is ``harmful``."""
        return self.label == "harmful"


@dataclass(frozen=True)
class PromptSet:
    """Prompts in a fixed order, with unique keys.

    Raises:
        PromptError: if two prompts share a key (language and id).
    """

    name: str
    prompts: tuple[Prompt, ...]

    def __post_init__(self) -> None:
        if len({p.key for p in self.prompts}) != len(self.prompts):
            key, n = Counter(p.key for p in self.prompts).most_common(1)[0]
            raise PromptError(
                f"prompt set {self.name!r} has {n} prompts with language and id {key!r}; "
                "ids must be unique within a language"
            )

    def __len__(self) -> int:
        return len(self.prompts)

    def __iter__(self) -> Iterator[Prompt]:
        return iter(self.prompts)

    @property
    def languages(self) -> tuple[str, ...]:
        """Language codes in order of first appearance."""
        return tuple(dict.fromkeys(p.language for p in self.prompts))

    def select(
        self,
        *,
        languages: Iterable[str] | None = None,
        label: Label | None = None,
        split: Split | None = None,
        where: Callable[[Prompt], bool] | None = None,
    ) -> PromptSet:
        """Return the prompts that meet every given condition, in the same order."""
        wanted = None if languages is None else set(languages)
        kept = tuple(
            p
            for p in self.prompts
            if (wanted is None or p.language in wanted)
            and (label is None or p.label == label)
            and (split is None or p.split == split)
            and (where is None or where(p))
        )
        return PromptSet(self.name, kept)

    def counts(self) -> dict[tuple[str, Split, Label], int]:
        """Return the number of prompts per (language, split, label); absent cells are absent."""
        return dict(Counter((p.language, p.split, p.label) for p in self.prompts))

    def fingerprint(self) -> str:
        """Return a sha256 (first 16 hex digits) of ids, languages, labels, splits and texts.

        It does not depend on the order of the prompts.
        """
        lines = sorted(
            json.dumps([p.language, p.id, p.group_id, p.pair_id, p.label, p.split, p.text])
            for p in self.prompts
        )
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

    @staticmethod
    def union(sets: Sequence[PromptSet]) -> PromptSet:
        """Join several sets under a name like ``a+b``; keys must stay unique."""
        name = "+".join(dict.fromkeys(s.name for s in sets))
        return PromptSet(name, tuple(p for s in sets for p in s.prompts))


def contrast_members(prompts: Iterable[Prompt], contrast: Contrast) -> list[Prompt]:
    """Return the prompts that a contrast compares.

    ``twins``: harmful prompts and their harmless twins (those with a ``pair_id``), which differ in
    harm only. ``topic``: harmful prompts against unrelated harmless ones (no ``pair_id``), which
    differ in topic and form too, as in PolyRefuse; its harmful side is the prompts without a twin
    where there are any, and otherwise the twins' harmful halves.
    """
    pool = list(prompts)
    if contrast == "twins":
        return [p for p in pool if p.pair_id is not None]
    plain = [p for p in pool if p.pair_id is None]
    if any(p.harmful for p in plain):
        return plain
    return [p for p in pool if p.harmful] + [p for p in plain if not p.harmful]


def side_of(prompt: Prompt) -> str:
    """Return ``harmful``, ``harmless`` or ``harmless_twins``: the pools of gate scores."""
    if prompt.harmful:
        return "harmful"
    return "harmless" if prompt.pair_id is None else "harmless_twins"


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """What a gate or a store must have been made with to be used again.

    ``weights`` fingerprints the parameter values, ``template`` the rendered chat template.
    The name is for people only: a moved folder is still the same model.
    """

    name: str
    revision: str
    dtype: str
    template: str
    weights: str
    n_layers: int
    d_model: int

    def mismatches(self, other: ModelIdentity) -> list[str]:
        """Return one line per property that differs in a way that changes activations."""
        return [
            f"{what}: {getattr(self, what)} here, {getattr(other, what)} there"
            for what in ("n_layers", "d_model", "weights", "template", "dtype")
            if getattr(self, what) != getattr(other, what)
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a dict."""
        return {name: getattr(self, name) for name in self.__slots__}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> ModelIdentity:
        """Read :meth:`to_json` back.

        Raises:
            KeyError: if a field is missing.
            ValueError: if a size is no whole number.
        """
        sizes = {n: data[n] for n in ("n_layers", "d_model")}
        for name, value in sizes.items():
            if isinstance(value, bool) or not isinstance(value, int):
                raise ValueError(f"model.{name} should be a whole number, not {value!r}")
        texts = {n: str(data[n]) for n in ("name", "revision", "dtype", "template", "weights")}
        return ModelIdentity(**texts, **sizes)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A rate or difference with its interval; ``nan`` (``null`` in JSON) where nothing was scored.

    ``n`` prompts were scored, in ``n_groups`` independent groups; ``n_unscored`` more were not and
    are in neither numerator nor denominator. ``method`` names how the interval was made.
    """

    value: float
    low: float
    high: float
    n: int
    n_groups: int
    n_unscored: int
    method: str

    @property
    def missing(self) -> bool:
        """Whether nothing was scored."""
        return math.isnan(self.value)

    def to_json(self) -> dict[str, Any]:
        """Return a dict with ``null`` for missing numbers."""
        number = lambda x: None if math.isnan(x) else round(float(x), 6)  # noqa: E731
        return {
            "value": number(self.value),
            "low": number(self.low),
            "high": number(self.high),
            "n": self.n,
            "n_groups": self.n_groups,
            "n_unscored": self.n_unscored,
            "method": self.method,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Estimate:
        """Inverse of :meth:`to_json`."""
        number = lambda x: math.nan if x is None else float(x)  # noqa: E731
        return Estimate(
            number(data["value"]),
            number(data["low"]),
            number(data["high"]),
            int(data["n"]),
            int(data["n_groups"]),
            int(data["n_unscored"]),
            str(data["method"]),
        )


@dataclass(frozen=True, slots=True)
class Completion:
    """A model's reply to one prompt under one method.

    ``gate_score`` and ``fired`` are ``None`` for methods without a gate; ``gate_language`` is the
    language whose threshold was used (``None``: the default threshold).
    """

    language: str
    prompt_id: str
    method: str
    text: str
    n_tokens: int
    stop_reason: StopReason
    gate_score: float | None = None
    fired: bool | None = None
    gate_language: str | None = None

    @property
    def key(self) -> str:
        """``language/prompt_id``, as in :attr:`Prompt.key`."""
        return f"{self.language}/{self.prompt_id}"

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a dict, in order."""
        return {name: getattr(self, name) for name in self.__slots__}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Completion:
        """Inverse of :meth:`to_json`; unknown keys are ignored."""
        return Completion(**{k: data[k] for k in Completion.__slots__ if k in data})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge made of one completion; ``raw`` says why, in the judge's own words.

    ``p_refusal`` is the judge's calibrated probability (0..1) that the reply refuses; ``None``
    where it gives none, as judges that answer in words do.
    """

    language: str
    prompt_id: str
    method: str
    judge: str
    outcome: Outcome
    raw: str = ""
    p_refusal: float | None = None

    @property
    def key(self) -> str:
        """``language/prompt_id``, as in :attr:`Prompt.key`."""
        return f"{self.language}/{self.prompt_id}"

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a dict, in order."""
        return {name: getattr(self, name) for name in self.__slots__}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Verdict:
        """Inverse of :meth:`to_json`; an outcome that does not exist becomes ``unparsed``."""
        fields = {k: data[k] for k in Verdict.__slots__ if k in data}
        if fields.get("outcome") not in OUTCOMES:
            fields["outcome"] = "unparsed"
        return Verdict(**cast(dict[str, Any], fields))
