"""What a judge found in a set of replies, and how far that agrees with labels and other judges."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..metrics import auroc, known
from ..stats import (
    AgreementRow,
    Cell,
    agreement_table,
    bounds,
    calibration_error,
    cohen_kappa,
    wilson,
)
from ..types import OUTCOMES, Estimate, Verdict
from .panel import ratings

ALL = "all"


@dataclass(frozen=True)
class Reckoning:
    """One language, or all: outcomes and, with labels, the judge's agreement with them.

    ``n`` replies, of which ``n_unparsed`` have no verdict. ``refusal`` is the share refused of
    those with one; ``bounds`` what it would be if no and if every unparsed reply refused.
    Agreement is over ``n_labelled`` replies: ``kappa``, ``sensitivity`` and ``specificity`` of the
    verdicts, leaving out what is unparsed; ``auc`` and ``ece`` of the probabilities, over the
    ``n_scored`` that have one.
    """

    language: str
    n: int
    n_unparsed: int
    n_low_confidence: int
    outcomes: dict[str, int]
    refusal: Estimate
    bounds: tuple[float, float]
    n_labelled: int = 0
    n_scored: int = 0
    kappa: Estimate | None = None
    auc: float | None = None
    ece: float | None = None
    sensitivity: float | None = None
    specificity: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what programs read; ``null`` where there is nothing to tell."""
        row = asdict(self)
        row["refusal"] = self.refusal.to_json()
        row["bounds"] = [known(x) for x in self.bounds]
        row["kappa"] = None if self.kappa is None else known(self.kappa.value)
        row["kappa_interval"] = (
            None if self.kappa is None else [known(self.kappa.low), known(self.kappa.high)]
        )
        return {k: round(v, 6) if isinstance(v, float) else v for k, v in row.items()}


def reckon(
    verdicts: Sequence[Verdict],
    groups: Sequence[str],
    labels: Sequence[int | None] | None = None,
    *,
    seed: int = 0,
) -> list[Reckoning]:
    """Return a row per language in order of appearance, and one of all of them at the end.

    ``groups`` keep replies to translations of one prompt together in kappa's interval.
    """
    spoken = list(dict.fromkeys(v.language for v in verdicts))
    parts = {code: [i for i, v in enumerate(verdicts) if v.language == code] for code in spoken}
    parts[ALL] = list(range(len(verdicts)))
    return [
        _row(
            name,
            [verdicts[i] for i in part],
            [groups[i] for i in part],
            None if labels is None else [labels[i] for i in part],
            seed,
        )
        for name, part in parts.items()
    ]


def _row(
    name: str,
    verdicts: list[Verdict],
    groups: list[str],
    labels: list[int | None] | None,
    seed: int,
) -> Reckoning:
    said = ratings({"": verdicts})[0]
    cell = Cell(said, tuple(groups))
    span = bounds(cell)
    outcomes = Counter(v.outcome for v in verdicts)
    facts: dict[str, Any] = {}
    if labels is not None:
        y = np.array([math.nan if x is None else x for x in labels], dtype=float)
        p = np.array(
            [math.nan if v.p_refusal is None else v.p_refusal for v in verdicts], dtype=float
        )
        scored = ~np.isnan(p) & ~np.isnan(y)
        facts = {
            "n_labelled": int((~np.isnan(y)).sum()),
            "n_scored": int(scored.sum()),
            "kappa": cohen_kappa(said, y, groups, seed=seed),
            "auc": known(auroc(p[scored & (y == 1)], p[scored & (y == 0)])),
            "ece": known(calibration_error(p[scored], y[scored])),
            "sensitivity": _share(said, y == 1),
            "specificity": _share(1 - said, y == 0),
        }
    return Reckoning(
        language=name,
        n=len(verdicts),
        n_unparsed=int(np.isnan(said).sum()),
        n_low_confidence=sum(v.raw.startswith("low confidence") for v in verdicts),
        outcomes={outcome: outcomes[outcome] for outcome in OUTCOMES},
        refusal=wilson(cell),
        bounds=(span.low, span.high),
        **facts,
    )


def _share(said: np.ndarray, rows: np.ndarray) -> float | None:
    parsed = said[rows & ~np.isnan(said)]
    return float(parsed.mean()) if len(parsed) else None


def agreement_between(
    votes: Mapping[str, Sequence[Verdict]], groups: Sequence[str], *, seed: int = 0
) -> list[AgreementRow]:
    """Return how far the members of a panel agree, by language and pair."""
    first = next(iter(votes.values()))
    codes = dict(zip(votes, ratings(votes)))
    return agreement_table(codes, [v.language for v in first], groups, seed=seed)
