"""What ``results.json`` says of the judge, as values: who judged, its known errors, what it used.

A judge describes itself as it likes, so whatever does not fit is left out rather than believed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..results import Results, Row
from ..stats import Validation
from ..types import Verdict

#: Keys under which a judge states its limits.
NOTES = ("note", "notes", "limits", "limitations", "caveat", "warning")
#: A kappa under this is called weak: "moderate" at best (Landis and Koch 1977).
WEAK = 0.6
_DEEPEST = 4


@dataclass(frozen=True)
class KnownErrors:
    """How a judge did on ``n`` labelled replies of one language, ``refused`` of them refusals.

    ``basis`` says what was left out of its training meanwhile; ``None`` is a number not given.
    """

    basis: str
    n: int | None
    refused: int | None
    kappa: float | None
    auc: float | None
    ece: float | None
    sensitivity: float | None
    specificity: float | None

    @property
    def validation(self) -> Validation | None:
        """The counts behind sensitivity and specificity, or None where they cannot be had."""
        if self.n is None or self.refused is None:
            return None
        if self.sensitivity is None or self.specificity is None:
            return None
        others = self.n - self.refused
        if self.refused < 1 or others < 1:
            return None
        right = round(self.sensitivity * self.refused), round(self.specificity * others)
        return Validation(right[0], self.refused, right[1], others)


@dataclass(frozen=True)
class Usage:
    """What an API judge was asked and used; ``cost`` is None where no prices were given."""

    requests: int
    tries: int
    failures: int
    prompt_tokens: int
    completion_tokens: int
    unmetered: int
    cost: float | None


@dataclass(frozen=True)
class JudgeFacts:
    """A judge, or one of several that made a verdict together; ``part`` says which."""

    part: str
    name: str
    version: str
    notes: tuple[str, ...]
    languages: frozenset[str] | None
    errors: Mapping[str, KnownErrors] = field(default_factory=dict)
    usage: Usage | None = None
    model: str = ""

    def known(self, language: str) -> KnownErrors | None:
        """Return the errors in a language, those of ``zh`` for ``zh-Hant`` if need be."""
        return self.errors.get(language) or self.errors.get(_primary(language))

    def covers(self, language: str) -> bool:
        """Whether the judge lists the language, or lists none at all."""
        return self.languages is None or bool({language, _primary(language)} & self.languages)


def judges_of(results: Results) -> tuple[JudgeFacts, ...]:
    """Return the judge of a run and, after it, those that it is made of."""
    return tuple(_judges(results.judge, "judge", 0))


def own_verdicts(results: Results, verdicts: Iterable[Verdict]) -> Iterator[Verdict]:
    """Yield the verdicts that the results rest on: the file may hold other judges' too."""
    name = results.judge.get("name")
    cells = {(row.method, row.language) for row in results.rows}
    for verdict in verdicts:
        if (verdict.method, verdict.language) in cells and name in (None, verdict.judge):
            yield verdict


def n_unparsed(row: Row) -> int:
    """Return how many replies of a row have no verdict that counts."""
    return sum(counts.get("unparsed", 0) for counts in row.outcomes.values())


def n_replies(row: Row) -> int:
    """Return how many replies of a row should have been judged."""
    return sum(sum(counts.values()) for counts in row.outcomes.values())


def _judges(given: Mapping[str, Any], part: str, depth: int) -> Iterator[JudgeFacts]:
    listed = given.get("languages")
    errors = given.get("errors")
    yield JudgeFacts(
        part,
        str(given.get("name") or "unnamed"),
        str(given.get("version") or ""),
        tuple(str(given[key]) for key in NOTES if given.get(key)),
        frozenset(map(str, listed)) if isinstance(listed, (list, tuple)) and listed else None,
        {str(code): _errors(row) for code, row in errors.items() if isinstance(row, Mapping)}
        if isinstance(errors, Mapping)
        else {},
        _usage(given.get("usage")),
        str(given.get("model") or ""),
    )
    if depth >= _DEEPEST:
        return
    members = given.get("judges")
    inner = [(one, "member") for one in members] if isinstance(members, (list, tuple)) else []
    inner += [(given.get("adjudicator"), "adjudicator"), (given.get("judge"), "reads translations")]
    for one, what in inner:
        if isinstance(one, Mapping):
            yield from _judges(one, what, depth + 1)


def _errors(row: Mapping[str, Any]) -> KnownErrors:
    n, refused = _count(row.get("n")), _count(row.get("refused"))
    rate = {key: _number(row.get(key)) for key in ("kappa", "auc", "ece")}
    rate |= {key: _share(row.get(key)) for key in ("sensitivity", "specificity")}
    return KnownErrors(str(row.get("basis") or ""), n, refused, **rate)


def _usage(given: Any) -> Usage | None:
    if not isinstance(given, Mapping):
        return None
    names = ("requests", "tries", "failures", "prompt_tokens", "completion_tokens", "unmetered")
    counts = [_count(given.get(name)) or 0 for name in names]
    return Usage(*counts, cost=_number(given.get("cost")))


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def _share(value: Any) -> float | None:
    number = _number(value)
    return number if number is not None and 0 <= number <= 1 else None


def _count(value: Any) -> int | None:
    number = _number(value)
    return int(number) if number is not None and number >= 0 else None


def _primary(language: str) -> str:
    return language.replace("_", "-").partition("-")[0].lower()
