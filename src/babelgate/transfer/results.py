"""What a transfer matrix found, as types and as JSON. Knows no torch: reports read it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from ..plain import plain
from ..types import Estimate, Label

SCHEMA = 1

Way = Literal["ablate", "add"]
Effect = Literal["ablate_harmful", "add_harmless", "ablate_harmless", "add_harmful"]
Evidence = Literal["first_token", "replies"]
#: ``direction`` and ``mean`` are what is asked about, the others are controls.
Kind = Literal["direction", "mean", "random", "shuffled", "identity"]
Edge = Literal["floor", "ceiling"]

EFFECTS: tuple[Effect, ...] = get_args(Effect)
EVIDENCE: tuple[Evidence, ...] = get_args(Evidence)
NULL_KINDS: tuple[Kind, ...] = ("random", "shuffled", "identity")

#: The two effects that a refusal direction is known by; the other two show its selectivity.
MAIN: tuple[Effect, ...] = ("ablate_harmful", "add_harmless")

#: The row of the mean of all other languages' directions.
MEAN = "mean"


def effect_of(way: Way, label: Label) -> Effect:
    """Return the name of the effect of an edit on a class of prompts."""
    if label == "harmful":
        return "ablate_harmful" if way == "ablate" else "add_harmful"
    return "ablate_harmless" if way == "ablate" else "add_harmless"


def way_of(effect: Effect) -> Way:
    """Return the edit of an effect."""
    return "ablate" if effect.startswith("ablate") else "add"


def label_of(effect: Effect) -> Label:
    """Return the class of prompts of an effect."""
    return "harmless" if effect.endswith("harmless") else "harmful"


def intended(effect: Effect) -> int:
    """Return the sign of the change that a refusal direction makes: -1 projected out, 1 added."""
    return -1 if way_of(effect) == "ablate" else 1


@dataclass(frozen=True)
class Control:
    """A control's change on the prompts of a cell; ``length`` is NaN where it is projected out.

    ``cosine`` is that with the cell's own direction: labels shuffled over few examples leave some
    of it in.
    """

    kind: Kind
    name: str
    change: float
    cosine: float
    layer: int
    length: float


@dataclass(frozen=True)
class Cell:
    """One entry of a transfer matrix: source's direction, target's prompts, one effect.

    ``estimate`` is the mean change from the untouched model on the same prompts, in nats of refusal
    log-odds (``first_token``) or as a difference of rates (``replies``); ``base`` is the untouched
    model there. ``share`` of the possible change in the intended direction (down when projected
    out, up when added) is NaN for log-odds. ``edge`` marks a base rate that leaves hardly any room:
    ``floor`` or ``ceiling``. ``broken`` is the share of replies that neither refuse nor answer
    (loops, another language), ``broken_base`` before the edit.

    ``exceeds``: whether the change is in the intended direction and larger there than all controls;
    ``p_rank = (1 + controls at least as large) / (1 + controls)``; ``beyond`` is the change less
    the controls' mean change, prompt by prompt. ``p`` is two-sided, ``p_holm`` adjusted over the
    cells of the same effect and evidence. ``reason`` says why a number is missing; empty otherwise.
    """

    source: str
    target: str
    effect: Effect
    evidence: Evidence
    estimate: Estimate
    base: Estimate
    share: float = math.nan
    edge: Edge | None = None
    broken: float = math.nan
    broken_base: float = math.nan
    controls: tuple[Control, ...] = ()
    exceeds: bool | None = None
    p_rank: float = math.nan
    beyond: Estimate | None = None
    p: float = math.nan
    p_holm: float = math.nan
    reason: str = ""

    @property
    def n(self) -> int:
        """Prompts with a score both before and after."""
        return self.estimate.n


@dataclass(frozen=True)
class Against:
    """A target's own direction against another, on the same prompts.

    ``native`` and ``other`` are mean changes; ``difference`` is how much more the native direction
    moves in the intended direction (positive: native is better). ``rival`` is ``reference``,
    ``best`` or ``mean``; ``source`` the language that it is. ``p_holm`` adjusts over the targets
    and rivals of the same effect and evidence. ``words`` say it in a sentence.
    """

    target: str
    rival: str
    source: str
    effect: Effect
    evidence: Evidence
    native: float
    other: float
    difference: Estimate
    p: float
    p_holm: float
    words: str
    reason: str = ""


@dataclass(frozen=True)
class SourceFacts:
    """Where a source's direction comes from and how far it was added; NaN where it was not."""

    language: str
    layer: int
    position: str
    method: str
    made_from: str
    length: float


@dataclass(frozen=True)
class Transfer:
    """All cells of the matrices, native against transferred, and what they were made with."""

    model: Mapping[str, Any]
    judge: Mapping[str, Any] | None
    sources: tuple[SourceFacts, ...]
    targets: tuple[str, ...]
    cells: tuple[Cell, ...]
    native: tuple[Against, ...]
    tokens: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def cell(self, source: str, target: str, effect: Effect, evidence: Evidence) -> Cell | None:
        """Return one cell, or None where the matrix has no such row or column."""
        wanted = (source, target, effect, evidence)
        found = (c for c in self.cells if (c.source, c.target, c.effect, c.evidence) == wanted)
        return next(found, None)

    def against(
        self, target: str, rival: str, effect: Effect, evidence: Evidence
    ) -> Against | None:
        """Return a target's own direction against ``reference``, ``best`` or ``mean``, or None."""
        wanted = (target, rival, effect, evidence)
        found = (a for a in self.native if (a.target, a.rival, a.effect, a.evidence) == wanted)
        return next(found, None)

    def to_json(self) -> dict[str, Any]:
        """Return the document, with ``null`` for missing numbers."""
        return {"schema": SCHEMA, **plain(self, digits=6)}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Transfer:
        """Inverse of :meth:`to_json`.

        Raises:
            ValueError: for another schema.
        """
        if data.get("schema") != SCHEMA:
            raise ValueError(f"schema {data.get('schema')!r}; this version reads {SCHEMA}")
        return Transfer(
            data["model"],
            data["judge"],
            tuple(SourceFacts(**_numbers(s, "length")) for s in data["sources"]),
            tuple(data["targets"]),
            tuple(map(_cell, data["cells"])),
            tuple(map(_against, data["native"])),
            {language: tuple(ids) for language, ids in data["tokens"].items()},
            data["settings"],
            tuple(data["notes"]),
        )


def _numbers(data: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return the fields with null for NaN in the named ones."""
    missing = {name: math.nan for name in names if data[name] is None}
    return {**data, **missing}


def _cell(data: Mapping[str, Any]) -> Cell:
    known = _numbers(data, "share", "broken", "broken_base", "p_rank", "p", "p_holm")
    known["estimate"] = Estimate.from_json(data["estimate"])
    known["base"] = Estimate.from_json(data["base"])
    known["controls"] = tuple(
        Control(**_numbers(c, "change", "cosine", "length")) for c in data["controls"]
    )
    if data["beyond"] is not None:
        known["beyond"] = Estimate.from_json(data["beyond"])
    return Cell(**known)


def _against(data: Mapping[str, Any]) -> Against:
    known = _numbers(data, "native", "other", "p", "p_holm")
    return Against(**{**known, "difference": Estimate.from_json(data["difference"])})
