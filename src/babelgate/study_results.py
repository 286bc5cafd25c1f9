"""The numbers of a threshold study: ``study.json``, its rows and the means over languages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from .documents import DAMAGE, SCHEMA, check_schema, read_document
from .errors import StoreError


@dataclass(frozen=True)
class StudyRow:
    """Balanced accuracy of one rule at k shots in one language: mean and sd over draws.

    ``value`` is None where the language's prompts cannot supply k shots per class.
    """

    layers: tuple[int, ...]
    l2: float
    rank: int
    rule: str
    k: int
    language: str
    role: str
    value: float | None
    sd: float | None
    n_draws: int
    n: int


@dataclass(frozen=True)
class StudyMean:
    """Unweighted mean over the languages of a role, and the worst of them.

    ``value`` and ``worst`` are None where some language lacks k shots, so that all points of a
    curve are means of the same languages. ``change`` and ``worst_change`` compare with the rule
    ``source``, which uses no target prompts: on average, and in the language that loses most.
    """

    layers: tuple[int, ...]
    l2: float
    rank: int
    rule: str
    k: int
    role: str
    languages: int
    value: float | None
    sd: float | None
    worst: float | None
    worst_language: str | None
    change: float | None
    worst_change: float | None


@dataclass(frozen=True)
class StudyResults:
    """Everything ``study.json`` holds. ``chosen`` is the readout that left-out sources prefer."""

    model: Mapping[str, Any]
    prompts: Mapping[str, Any]
    chosen: tuple[tuple[int, ...], int]
    rows: tuple[StudyRow, ...]
    means: tuple[StudyMean, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the document; rows as lists under one head, since there are very many."""
        return {
            "schema": SCHEMA,
            "model": dict(self.model),
            "prompts": dict(self.prompts),
            "chosen": {"layers": list(self.chosen[0]), "rank": self.chosen[1]},
            "means": _written(StudyMean, self.means),
            "rows": _written(StudyRow, self.rows),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> StudyResults:
        """Inverse of :meth:`to_json`.

        Raises:
            StoreError: for another schema or missing fields.
        """
        check_schema(data, "study.json")
        try:
            return StudyResults(
                model=data["model"],
                prompts=data["prompts"],
                chosen=(tuple(data["chosen"]["layers"]), int(data["chosen"]["rank"])),
                means=tuple(StudyMean(**r) for r in _read(data["means"])),
                rows=tuple(StudyRow(**r) for r in _read(data["rows"])),
            )
        except DAMAGE as error:
            raise StoreError(f"study.json is incomplete or damaged: {error}") from error

    def curve(
        self, role: str, layers: Sequence[int] | None = None, rank: int | None = None
    ) -> tuple[StudyMean, ...]:
        """Return the means of one role at one readout; the chosen one by default."""
        at = tuple(layers) if layers is not None else self.chosen[0]
        r = self.chosen[1] if rank is None else rank
        return tuple(m for m in self.means if (m.role, m.layers, m.rank) == (role, at, r))


def load_study(folder: Path) -> StudyResults:
    """Read ``study.json`` of a run folder.

    Raises:
        StoreError: if it is missing or damaged.
    """
    return StudyResults.from_json(read_document(folder / "study.json"))


def _written(kind: type[Any], rows: Iterable[Any]) -> dict[str, Any]:
    return {
        "columns": [f.name for f in fields(kind)],
        "rows": [[list(v) if isinstance(v, tuple) else v for v in astuple(r)] for r in rows],
    }


def _read(part: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = [dict(zip(part["columns"], values, strict=True)) for values in part["rows"]]
    return [{**row, "layers": tuple(row["layers"])} for row in rows]
