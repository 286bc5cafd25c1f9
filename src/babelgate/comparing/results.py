"""``compare.json``: what a comparison found, as types and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import StoreError
from ..types import Estimate

SCHEMA = 1


@dataclass(frozen=True)
class ComparedRow:
    """One method in one language, or over ``all`` of them (unweighted).

    ``values`` hold the metrics of :data:`babelgate.comparing.summary.METRICS`; ``seed_sd`` is the
    standard deviation of selectivity over seeds of the shots; ``auroc`` that of the decision score
    (for ``all`` the mean over languages).
    """

    method: str
    group: str
    values: Mapping[str, Estimate]
    seed_sd: float | None
    n_seeds: int
    auroc: float | None

    def to_json(self) -> dict[str, Any]:
        """Return a dict."""
        return {
            "method": self.method,
            "group": self.group,
            **{name: e.to_json() for name, e in self.values.items()},
            "seed_sd": self.seed_sd,
            "n_seeds": self.n_seeds,
            "auroc": self.auroc,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> ComparedRow:
        """Inverse of :meth:`to_json`."""
        return ComparedRow(
            data["method"],
            data["group"],
            {
                name: Estimate.from_json(value)
                for name, value in data.items()
                if isinstance(value, dict) and "n_groups" in value
            },
            data["seed_sd"],
            int(data["n_seeds"]),
            data["auroc"],
        )


@dataclass(frozen=True)
class Difference:
    """A method minus the untouched model on the same prompts."""

    a: str
    b: str
    group: str
    metric: str
    delta: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    n: int


@dataclass(frozen=True)
class MethodFacts:
    """What a method is and what it costs.

    ``kl`` is the mean KL divergence (nats) of the next-token distribution from the untouched
    model's on harmless prompts, over the ``kl_n`` on which something is generated; ``said`` is the
    share of harmless prompts answered with fixed words instead. ``latency`` is the time of a reply
    relative to the untouched model's in the same run, ``latency_low`` and ``latency_high`` the
    quartiles of repeats; ``None`` where it was not measured.
    """

    name: str
    family: str
    summary: str
    fired: str
    silent: str
    labels: str
    layer: int | None
    kl: float | None = None
    kl_n: int = 0
    said: float | None = None
    latency: float | None = None
    latency_low: float | None = None
    latency_high: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """All of ``compare.json``."""

    model: Mapping[str, Any]
    prompts: Mapping[str, Any]
    judge: Mapping[str, Any]
    shots: int
    seeds: tuple[int, ...]
    methods: tuple[MethodFacts, ...]
    rows: tuple[ComparedRow, ...]
    differences: tuple[Difference, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the document."""
        return {
            "schema": SCHEMA,
            "model": dict(self.model),
            "prompts": dict(self.prompts),
            "judge": dict(self.judge),
            "shots": self.shots,
            "seeds": list(self.seeds),
            "methods": [asdict(m) for m in self.methods],
            "rows": [row.to_json() for row in self.rows],
            "differences": [asdict(d) for d in self.differences],
            "notes": list(self.notes),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Comparison:
        """Inverse of :meth:`to_json`."""
        return Comparison(
            data["model"],
            data["prompts"],
            data["judge"],
            int(data["shots"]),
            tuple(data["seeds"]),
            tuple(MethodFacts(**m) for m in data["methods"]),
            tuple(ComparedRow.from_json(row) for row in data["rows"]),
            tuple(Difference(**d) for d in data["differences"]),
            tuple(data.get("notes", ())),
        )

    def row(self, method: str, group: str) -> ComparedRow | None:
        """Return one row, or None."""
        return next((r for r in self.rows if (r.method, r.group) == (method, group)), None)


def load_comparison(folder: Path) -> Comparison | None:
    """Read a run folder's ``compare.json``; None where there is none.

    Raises:
        StoreError: if it is damaged or of another schema.
    """
    path = folder / "compare.json"
    if not path.exists():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["schema"] != SCHEMA:
            raise StoreError(
                f"{path} has schema {data['schema']!r}; this version reads schema {SCHEMA}"
            )
        return Comparison.from_json(data)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path} is damaged ({type(error).__name__}: {error})") from error
