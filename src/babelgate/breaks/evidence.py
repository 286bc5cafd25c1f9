"""What was measured in one language, step by step; missing with a reason."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ..errors import StoreError, UserError
from ..plain import plain
from ..types import Estimate

_RATES = ("identification", "auroc", "twins_auroc", "balanced_source", "balanced_own",
          "base_harmful", "base_harmless")  # fmt: skip
_DIFFERENCES = ("u_score", "threshold_loss", "gate_selectivity", "base_selectivity",
                "repaired_selectivity")  # fmt: skip
#: What :class:`Evidence` can hold; U-scores are differences of cosines and may reach -2..2.
MEASURES = (*_RATES, *_DIFFERENCES)


@dataclass(frozen=True)
class Evidence:
    """What was measured in one language; None where it was not, with a word in ``reasons``.

    ``identification``: share of prompts whose nearest neighbour among the pivot language's prompts
    is their translation, with ``chance`` (1 / n). ``u_score``: mean cosine of translations minus
    that of other pairs (OMNIGuard, arXiv 2505.23856). ``auroc``: of harm on held-out prompts;
    ``twins_auroc``: on harmful prompts against their harmless twins. ``balanced_source`` and
    ``balanced_own``: balanced accuracy at the source languages' threshold and at the language's
    own, which should be set on other prompts; ``threshold_loss``: own minus source with its
    interval. ``gate_selectivity``, ``base_selectivity``, ``repaired_selectivity``: harmful minus
    harmless, of what the gate decides and of the replies of the untouched and the repaired model;
    ``base_harmful`` and ``base_harmless``: the untouched model's refusal rates. All in 0..1.

    Raises:
        UserError: for a value outside its range, an interval that is upside down, identification
            without chance, or a reason for something that is no measure.
    """

    language: str
    name: str = ""
    pivot: str = "en"
    identification: Estimate | None = None
    chance: float | None = None
    u_score: Estimate | None = None
    auroc: Estimate | None = None
    twins_auroc: Estimate | None = None
    balanced_source: Estimate | None = None
    balanced_own: Estimate | None = None
    threshold_loss: Estimate | None = None
    gate_selectivity: Estimate | None = None
    base_selectivity: Estimate | None = None
    repaired_selectivity: Estimate | None = None
    base_harmful: Estimate | None = None
    base_harmless: Estimate | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in MEASURES:
            _check(self.language, name, getattr(self, name))
        if self.identification is not None and (self.chance is None or not 0 <= self.chance < 1):
            raise UserError(
                f"{self.language}: identification needs its chance level in 0..1 (one over the "
                f"number of prompts), not {self.chance}; pass chance=1 / n"
            )
        if unknown := sorted(set(self.reasons) - set(MEASURES)):
            raise UserError(
                f"{self.language}: a reason is given for {unknown[0]!r}, which is no measure; "
                f"choose from {', '.join(MEASURES)}"
            )

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a dict, estimates by their own rule."""
        return {f.name: plain(getattr(self, f.name)) for f in fields(self)}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Evidence:
        """Inverse of :meth:`to_json`; unknown keys are ignored.

        Raises:
            StoreError: if a field is damaged.
        """
        try:
            kept = {f.name: data[f.name] for f in fields(Evidence) if f.name in data}
            for name in MEASURES:
                if kept.get(name) is not None:
                    kept[name] = Estimate.from_json(kept[name])
            return Evidence(**kept)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StoreError(f"evidence on what breaks is damaged: {error}") from error


def _check(language: str, name: str, estimate: Estimate | None) -> None:
    if estimate is None or math.isnan(estimate.value):
        return
    low = 0.0 if name in _RATES else -2.0 if name == "u_score" else -1.0
    most = 2.0 if name == "u_score" else 1.0
    if not low <= estimate.value <= most:
        raise UserError(
            f"{language}: {name} is {estimate.value:g}, which is not in {low:g}..{most:g}; rates "
            "and differences are shares of 1, not percent"
        )
    if estimate.low > estimate.high:
        raise UserError(
            f"{language}: the interval of {name} runs from {estimate.low:g} down to "
            f"{estimate.high:g}; swap its ends"
        )
