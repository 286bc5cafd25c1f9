"""Evidence on what breaks in each language, from scores, outcomes and geometry. Pure.

Representation, threshold and decision are read from the same gate on the same held-out prompts, so
that a step is blamed for what it loses and not for another prompt set's difficulty.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtri

from ..breaks import Evidence
from ..geometry.intervals import auroc_estimate, share_estimate
from ..geometry.members import random_halves
from ..geometry.results import Geometry
from ..geometry.rows import Translation
from ..geometry.separation import at_own_threshold, at_threshold
from ..languages import language as registered
from ..results import Results
from ..stats import CONFIDENCE, difference
from ..threshold_batches import best_cuts
from ..types import Estimate, Outcome, Prompt

_HALVINGS = 20
_Z = float(ndtri((1 + CONFIDENCE) / 2))
_NOT_MEASURED = "replies were not generated (`--reply-prompts 0`)"


@dataclass(frozen=True)
class Decided:
    """One language's held-out prompts under the gate.

    ``scores`` ``[N]`` by a fit that has not seen the language where it is a source; ``source`` the
    sources' threshold, ``own`` the one in force; ``outcomes`` of the untouched model's replies,
    None where there is none. ``twins`` are scores of (harmful prompts, their harmless twins).
    """

    prompts: tuple[Prompt, ...]
    scores: np.ndarray
    source: float
    own: float
    outcomes: tuple[Outcome | None, ...]
    twins: tuple[np.ndarray, np.ndarray]

    def classes(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (harmful, harmless) scores."""
        harmful = np.array([p.harmful for p in self.prompts], dtype=bool)
        return self.scores[harmful], self.scores[~harmful]


def threshold_loss(
    harmful: np.ndarray, harmless: np.ndarray, threshold: float, rng: np.random.Generator
) -> Estimate:
    """Return balanced accuracy at the own threshold minus at the sources', paired by prompt.

    The own threshold of a half of the prompts judges the other half; each prompt's correctness is
    the mean over the halvings that judge it. ``value = (mean_h d + mean_n d) / 2`` with ``d`` the
    difference of correctness, and a normal interval from the variance of ``d``. In shares.
    """
    sides = (harmful, True), (harmless, False)
    if min(len(harmful), len(harmless)) < 4:
        return Estimate(math.nan, math.nan, math.nan, 0, 0, 0, "paired, normal")
    halves = [random_halves(np.arange(len(s)), _HALVINGS, rng) for s, _ in sides]
    right = [np.zeros(len(s)) for s, _ in sides]
    counts = [np.zeros(len(s)) for s, _ in sides]
    for fitted, judged in ((0, 1), (1, 0)):
        cuts = best_cuts(harmful[halves[0][fitted]], harmless[halves[1][fitted]])[0]
        for (scores, positive), split, hits, n in zip(sides, halves, right, counts):
            rows = split[judged]
            fired = scores[rows] >= cuts[:, None]
            np.add.at(hits, rows, fired if positive else ~fired)
            np.add.at(n, rows, 1)
    value, variance = 0.0, 0.0
    for (scores, positive), hits, n in zip(sides, right, counts):
        seen = n > 0
        at_source = (scores[seen] >= threshold) == positive
        gain = hits[seen] / n[seen] - at_source
        value += gain.mean() / 2
        variance += gain.var(ddof=1) / len(gain) / 4
    reach = _Z * math.sqrt(variance)
    total = len(harmful) + len(harmless)
    return Estimate(value, value - reach, value + reach, total, total, 0, "paired, normal")


def understanding_layer(geometry: Geometry, position: str = "t_post") -> int | None:
    """Return the layer at which the sources' translations are identified best on average.

    Chosen on source languages only, so that a target's number is not the best of many. None where
    translations could not be matched.
    """
    found: dict[int, list[float]] = {}
    sources = set(geometry.sources) - {geometry.pivot}
    rows = [r for r in geometry.tables.translation if r.position == position]
    for row in [r for r in rows if r.language in sources] or rows:
        found.setdefault(row.layer, []).append(row.identified_centred.value)
    means = {layer: float(np.mean(values)) for layer, values in found.items()}
    return max(means, key=lambda x: means[x]) if means else None


def evidence_of(
    language: str,
    decided: Decided | None,
    geometry: Geometry | None,
    results: Results | None,
    *,
    seed: int,
) -> Evidence:
    """Return what is known of one language; what is missing has a reason.

    ``results`` of an evaluation count before the replies to validation prompts: there decisions,
    the untouched and the repaired model are measured on the same test prompts.
    """
    found: dict[str, Estimate | float | None] = {}
    reasons: dict[str, str] = {}
    _understood(language, geometry, found, reasons)
    if decided is None:
        for name in ("auroc", "balanced_source", "balanced_own", "gate_selectivity"):
            reasons[name] = "no held-out prompts with usable activations"
    else:
        _represented(language, decided, found, reasons, seed)
    if results is None or not _evaluated(language, results, found):
        _replied(decided, found, reasons)
    pivot = "en" if geometry is None else geometry.pivot
    return Evidence(
        language=language,
        name=registered(language).name,
        pivot=pivot,
        reasons=reasons,
        **found,  # type: ignore[arg-type]
    )


def _understood(
    language: str,
    geometry: Geometry | None,
    found: dict[str, Estimate | float | None],
    reasons: dict[str, str],
) -> None:
    layer = None if geometry is None else understanding_layer(geometry)
    if geometry is None or layer is None:
        reasons["identification"] = "no translations of the same prompts"
        return
    row: Translation | None = next(
        (
            r
            for r in geometry.tables.translation
            if (r.layer, r.position, r.language) == (layer, "t_post", language)
        ),
        None,
    )
    if row is None:
        reasons["identification"] = f"no prompts aligned with {geometry.pivot}"
        return
    found["identification"] = row.identified_centred
    found["chance"] = row.chance
    found["u_score"] = Estimate(row.u_raw, math.nan, math.nan, row.n, row.n, 0, "mean of cosines")


def _represented(
    language: str,
    decided: Decided,
    found: dict[str, Estimate | float | None],
    reasons: dict[str, str],
    seed: int,
) -> None:
    harmful, harmless = decided.classes()
    if min(len(harmful), len(harmless)) < 4:
        reason = f"{len(harmful)} harmful and {len(harmless)} harmless held-out prompts; 4 needed"
        reasons |= dict.fromkeys(("auroc", "balanced_source", "balanced_own"), reason)
        return
    found["auroc"] = auroc_estimate(harmful, harmless)
    rng = np.random.default_rng([seed, sum(map(ord, language))])
    found["balanced_source"] = at_threshold(harmful, harmless, decided.source)
    found["balanced_own"] = at_own_threshold(harmful, harmless, _HALVINGS, rng)
    found["threshold_loss"] = threshold_loss(harmful, harmless, decided.source, rng)
    if min(map(len, decided.twins)) >= 4:
        found["twins_auroc"] = auroc_estimate(*decided.twins)
    else:
        reasons["twins_auroc"] = "no harmless twins among the held-out prompts"


def _evaluated(language: str, results: Results, found: dict[str, Estimate | float | None]) -> bool:
    """Take decisions and replies from an evaluation; return whether it has the language."""
    rows = {r.method: r for r in results.rows if r.language == language}
    base = rows.get("base")
    if base is None:
        return False
    found["base_selectivity"] = base.selectivity
    found["base_harmful"], found["base_harmless"] = base.harmful_refusal, base.harmless_refusal
    repaired = next((r for r in rows.values() if r.gate is not None), None)
    if repaired is None or repaired.gate is None:
        return False
    found["repaired_selectivity"] = repaired.selectivity
    found["gate_selectivity"] = repaired.gate.selectivity
    return True


def _replied(
    decided: Decided | None, found: dict[str, Estimate | float | None], reasons: dict[str, str]
) -> None:
    """Take decisions and replies on the validation prompts that have replies."""
    told = [] if decided is None else [i for i, o in enumerate(decided.outcomes) if o is not None]
    if decided is None or not told:
        reasons.setdefault("base_selectivity", _NOT_MEASURED)
        reasons.setdefault("gate_selectivity", _NOT_MEASURED)
        return
    rates: dict[str, Estimate] = {}
    for label in ("harmful", "harmless"):
        own = [i for i in told if decided.prompts[i].label == label]
        scored = [
            decided.outcomes[i] == "refused" for i in own if decided.outcomes[i] != "unparsed"
        ]
        fired = [bool(decided.scores[i] >= decided.own) for i in own]
        rates[f"replies {label}"] = _share(scored, len(own) - len(scored))
        rates[f"gate {label}"] = _share(fired, 0)
    found.setdefault("base_harmful", rates["replies harmful"])
    found.setdefault("base_harmless", rates["replies harmless"])
    for name, kind in (("base_selectivity", "replies"), ("gate_selectivity", "gate")):
        pair = rates[f"{kind} harmful"], rates[f"{kind} harmless"]
        if any(part.missing for part in pair):
            reasons[name] = "nothing was scored in one class"
        else:
            found.setdefault(name, difference(*pair))


def _share(values: Sequence[bool], n_unscored: int) -> Estimate:
    share = share_estimate(float(np.mean(values)) if values else math.nan, len(values))
    return replace(share, n_unscored=n_unscored)
