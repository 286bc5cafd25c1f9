"""The numbers of a run: ``results.json`` (rates) and ``diagnosis.json`` (activation space).

The report reads these and nothing else, so a run can be reported on a machine without the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .documents import DAMAGE, SCHEMA, check_schema, read_document
from .errors import StoreError
from .plain import plain
from .types import Estimate


@dataclass(frozen=True)
class GateRow:
    """What the gate decided for one language, apart from what the replies then did.

    ``selectivity`` is the share fired on harmful minus the share fired on harmless prompts: the
    ceiling of what steering can achieve.
    """

    fired_harmful: Estimate
    fired_harmless: Estimate
    selectivity: Estimate
    auroc: float | None
    balanced_accuracy: float | None
    threshold: float
    identified: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """Rates of one method in one language. Outcomes are counts by label, then outcome.

    ``bounds`` of ``harmful_refusal`` and ``harmless_refusal`` are what the rate would be if none,
    and if all, of the unscored replies refused; None in files of older versions.
    """

    method: str
    language: str
    tier: str
    role: str | None
    harmful_refusal: Estimate
    harmless_refusal: Estimate
    selectivity: Estimate
    outcomes: Mapping[str, Mapping[str, int]]
    truncated: int
    gate: GateRow | None = None
    bounds: Mapping[str, tuple[float, float]] | None = None


@dataclass(frozen=True)
class MacroRow:
    """Unweighted mean of a method's rates over languages; ``group`` is a tier, role or ``all``."""

    method: str
    group: str
    languages: tuple[str, ...]
    harmful_refusal: Estimate
    harmless_refusal: Estimate
    selectivity: Estimate


@dataclass(frozen=True)
class Comparison:
    """Method ``b`` minus method ``a`` on the same prompts, with a paired interval.

    ``p`` is that of the bootstrap; ``p_mcnemar``, for a rate in one language, that of McNemar's
    exact test; ``p_holm`` is ``p`` adjusted.
    """

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
    p_mcnemar: float | None = None


@dataclass(frozen=True)
class LanguageComparison:
    """Language ``b`` minus language ``a`` under one method, on translations of the same prompts.

    ``n`` pairs were scored in both; ``n_unmatched`` prompts, of either language, have no
    translation in the other and are left out. The p values are those of :class:`Comparison`.
    """

    method: str
    a: str
    b: str
    metric: str
    delta: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    p_mcnemar: float | None
    n: int
    n_unmatched: int


@dataclass(frozen=True)
class Results:
    """Everything ``results.json`` holds; files of older versions lack ``language_comparisons``."""

    model: Mapping[str, Any]
    prompts: Mapping[str, Any]
    judge: Mapping[str, Any]
    rows: tuple[Row, ...]
    macro: tuple[MacroRow, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    language_comparisons: tuple[LanguageComparison, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the document, with ``schema`` first."""
        return {"schema": SCHEMA, **plain(self)}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Results:
        """Inverse of :meth:`to_json`.

        Raises:
            StoreError: for another schema or missing fields.
        """
        check_schema(data, "results.json")
        try:
            return Results(
                model=data["model"],
                prompts=data["prompts"],
                judge=data["judge"],
                rows=tuple(_row(r) for r in data["rows"]),
                macro=tuple(
                    MacroRow(**{**m, **_estimates(m), "languages": tuple(m["languages"])})
                    for m in data["macro"]
                ),
                comparisons=tuple(Comparison(**c) for c in data["comparisons"]),
                language_comparisons=tuple(
                    LanguageComparison(**c) for c in data.get("language_comparisons", ())
                ),
            )
        except DAMAGE as error:
            raise StoreError(f"results.json is incomplete or damaged: {error}") from error


@dataclass(frozen=True)
class Separability:
    """AUROC of a source-trained probe at one layer on one language's held-out prompts."""

    language: str
    tier: str
    role: str
    contrast: str
    layer: int
    auroc: float | None
    n_harmful: int
    n_harmless: int


@dataclass(frozen=True)
class GateScores:
    """The gate's scores on one language's test prompts, with the threshold in force."""

    language: str
    tier: str
    role: str
    threshold: float
    harmful: tuple[float, ...]
    harmless: tuple[float, ...]
    harmless_twins: tuple[float, ...]


@dataclass(frozen=True)
class LayerChoice:
    """One candidate set of readout layers and what it scored on left-out source languages."""

    layers: tuple[int, ...]
    balanced_accuracy: float | None
    auroc_topic: float | None
    auroc_twins: float | None
    chosen: bool


@dataclass(frozen=True)
class ThresholdRow:
    """A threshold for one language at k shots per class, and what it achieves on val prompts.

    Averaged over ``n_draws`` random draws of the shots (one where k is 0).
    """

    language: str
    rule: str
    k: int
    threshold: float
    balanced_accuracy: float | None
    n: int
    n_draws: int
    used: bool


@dataclass(frozen=True)
class ContrastRow:
    """The fitted gate on one language's held-out prompts of one contrast."""

    language: str
    tier: str
    role: str
    contrast: str
    auroc: float | None
    balanced_accuracy: float | None
    n_harmful: int
    n_harmless: int


@dataclass(frozen=True)
class Diagnosis:
    """Everything ``diagnosis.json`` holds. ``gate`` describes the gate in a few plain values."""

    gate: Mapping[str, Any]
    separability: tuple[Separability, ...]
    gate_scores: tuple[GateScores, ...]
    layer_choice: tuple[LayerChoice, ...]
    thresholds: tuple[ThresholdRow, ...]
    contrasts: tuple[ContrastRow, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the document, with ``schema`` first."""
        return {"schema": SCHEMA, **plain(self)}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Diagnosis:
        """Inverse of :meth:`to_json`.

        Raises:
            StoreError: for another schema or missing fields.
        """
        check_schema(data, "diagnosis.json")

        def scores(row: Mapping[str, Any]) -> GateScores:
            lists = ("harmful", "harmless", "harmless_twins")
            return GateScores(**{**row, **{name: tuple(row[name]) for name in lists}})

        try:
            return Diagnosis(
                gate=data["gate"],
                separability=tuple(Separability(**r) for r in data["separability"]),
                gate_scores=tuple(scores(r) for r in data["gate_scores"]),
                layer_choice=tuple(
                    LayerChoice(**{**r, "layers": tuple(r["layers"])}) for r in data["layer_choice"]
                ),
                thresholds=tuple(ThresholdRow(**r) for r in data["thresholds"]),
                contrasts=tuple(ContrastRow(**r) for r in data["contrasts"]),
            )
        except DAMAGE as error:
            raise StoreError(f"diagnosis.json is incomplete or damaged: {error}") from error


def load_results(folder: Path) -> Results:
    """Read ``results.json`` of a run folder.

    Raises:
        StoreError: if it is missing or damaged.
    """
    return Results.from_json(read_document(folder / "results.json"))


def load_diagnosis(folder: Path) -> Diagnosis | None:
    """Read ``diagnosis.json`` of a run folder, or return None where the run made none."""
    path = folder / "diagnosis.json"
    return Diagnosis.from_json(read_document(path)) if path.exists() else None


_ESTIMATES = ("harmful_refusal", "harmless_refusal", "selectivity")


def _estimates(data: Mapping[str, Any]) -> dict[str, Estimate]:
    return {name: Estimate.from_json(data[name]) for name in _ESTIMATES}


def _row(data: Mapping[str, Any]) -> Row:
    gate = data.get("gate")
    if gate is not None:
        estimates = ("fired_harmful", "fired_harmless", "selectivity")
        gate = GateRow(**{**gate, **{n: Estimate.from_json(gate[n]) for n in estimates}})
    bounds = data.get("bounds")
    if bounds is not None:
        bounds = {metric: (float(low), float(high)) for metric, (low, high) in bounds.items()}
    return Row(**{**data, **_estimates(data), "gate": gate, "bounds": bounds})
