"""Verdicts per step and language, and their table as JSON and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ..errors import StoreError
from ..plain import plain
from .borders import BORDERS

Verdict = Literal["fine", "weak", "broken", "unknown"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
#: The four steps, in the order in which a prompt passes them.
STEPS = ("understanding", "representation", "threshold", "action")
NOTHING, UNDECIDED = "nothing", "undecided"
_NUMBERS = ("value", "low", "high")


@dataclass(frozen=True)
class Step:
    """One step's verdict, and what its interval leaves possible (worst first).

    ``value``, ``low`` and ``high`` are the measure that its border is on; NaN where it is missing.
    ``n`` prompts were used; ``why`` says why the verdict is unknown; ``evidence`` is in words.
    """

    name: str
    verdict: Verdict
    possible: tuple[Verdict, ...]
    value: float
    low: float
    high: float
    n: int
    why: str
    evidence: str

    @property
    def may_break(self) -> bool:
        """Whether the step is broken or, for all that is known, may be."""
        return "broken" in self.possible


@dataclass(frozen=True)
class LanguageBreaks:
    """The four steps of one language, and the repaired model's action where there is one."""

    language: str
    name: str
    steps: tuple[Step, ...]
    repair: Step | None
    sentence: str

    @property
    def diagnosis(self) -> str:
        """The first broken step; ``undecided`` if a step may be broken, ``nothing`` otherwise."""
        for step in self.steps:
            if step.verdict == "broken":
                return step.name
        return UNDECIDED if any(s.may_break for s in self.steps) else NOTHING

    @property
    def doubts(self) -> tuple[str, ...]:
        """Steps before the first broken one that may be broken too: what was not measured well."""
        before = []
        for step in self.steps:
            if step.verdict == "broken":
                break
            before.append(step)
        return tuple(s.name for s in before if s.may_break)

    def step(self, name: str) -> Step:
        """Return a step by name."""
        return next(s for s in self.steps if s.name == name)


@dataclass(frozen=True)
class Breaks:
    """One row per language, in the order of the evidence."""

    rows: tuple[LanguageBreaks, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the rows, with the borders that they were judged by."""
        return {
            "schema": 1,
            "borders": {name: plain(border) for name, border in BORDERS.items()},
            "rows": [{**plain(row), "diagnosis": row.diagnosis} for row in self.rows],
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Breaks:
        """Inverse of :meth:`to_json`; the verdicts are kept, not judged again.

        Raises:
            StoreError: for another schema or damaged rows.
        """
        if data.get("schema") != 1:
            raise StoreError(
                f"what breaks where has schema {data.get('schema')!r}; this version reads schema 1"
            )
        try:
            return Breaks(tuple(_row(row) for row in data["rows"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StoreError(f"what breaks where is damaged: {error}") from error


def _row(data: Mapping[str, Any]) -> LanguageBreaks:
    repair = data["repair"]
    return LanguageBreaks(
        str(data["language"]),
        str(data["name"]),
        tuple(_step_of(step) for step in data["steps"]),
        None if repair is None else _step_of(repair),
        str(data["sentence"]),
    )


def _step_of(data: Mapping[str, Any]) -> Step:
    verdicts = (data["verdict"], *data["possible"])
    if wrong := [v for v in verdicts if v not in VERDICTS]:
        raise ValueError(f"{wrong[0]!r} is no verdict")
    value, low, high = (math.nan if data[k] is None else float(data[k]) for k in _NUMBERS)
    return Step(
        str(data["name"]),
        data["verdict"],
        tuple(data["possible"]),
        value,
        low,
        high,
        int(data["n"]),
        str(data["why"]),
        str(data["evidence"]),
    )
