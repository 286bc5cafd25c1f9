"""Fitting a gate from a plan and stored activations, and saying what was found on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from .artifacts import fingerprint
from .config import CalibrateSettings, JudgeSettings
from .errors import PromptError
from .fit import Choice, Fitter, pick
from .fit_data import Basis, Data, threshold_prompts
from .gate import Gate
from .languages import tier
from .metrics import auroc, balanced_accuracy, known
from .plan import POSITION, Plan, States, candidate_layers
from .results import (
    ContrastRow,
    Diagnosis,
    GateScores,
    LayerChoice,
    Separability,
    ThresholdRow,
)
from .threshold_curve import recalibration_curve
from .thresholds import SourceStatistics, least_threshold, threshold_for
from .types import CONTRASTS, ModelIdentity, Prompt, side_of

#: Settings that a fit does not depend on: where it runs, and what follows its decisions.
_NOT_OF_THE_FIT = {"out", "device", "batch_tokens", *JudgeSettings.model_fields} | {
    name
    for name in CalibrateSettings.model_fields
    if name.startswith(("action", "direction_", "max_"))
}


#: What a gate of each basis is.
METHODS: dict[Basis, str] = {
    "directions": "low-rank logistic gate, arXiv 2606.01196, as documented in docs/gate.md",
    "states": "linear discriminant on principal components, as documented in docs/gate.md",
}


#: False-alarm rates that an action search may raise the thresholds to.
FALSE_ALARM_RATES = (0.05, 0.02, 0.01, 0.005)


@dataclass(frozen=True)
class Calibration:
    """The gate and the diagnosis of one calibration."""

    gate: Gate
    diagnosis: Diagnosis


def fit_key(plan: Plan, states: States, model: ModelIdentity, settings: CalibrateSettings) -> str:
    """Fingerprint everything that a fit depends on."""
    return fingerprint(
        [settings.model_dump(mode="json", exclude=_NOT_OF_THE_FIT),
         plan.prompts.fingerprint(), sorted(states.excluded), model.weights, model.template,
         model.dtype]
    )  # fmt: skip


def run(
    plan: Plan, states: States, model: ModelIdentity, settings: CalibrateSettings
) -> Calibration:
    """Choose layers, fit the gate, set thresholds; everything the report shows of it.

    Raises:
        UserError: for layers that the model lacks.
    """
    usable = tuple(p for p in plan.prompts if p.key not in states.excluded)
    keys = [p.key for p in usable]
    data = Data(usable, lambda layer: states.layer(layer, keys), plan.sources)
    rank = settings.components if settings.basis == "states" else settings.rank
    fitter = Fitter(data, rank, settings.basis)
    choices = _choose(fitter, model, settings)
    best = choices[0]
    statistics = fitter.statistics(best.layers, best.l2)
    scores = fitter.scores(best.layers, best.l2, [*plan.sources, *plan.targets])
    thresholds, shots, rows = _thresholds(plan, fitter, scores, statistics, settings)
    default = statistics.paper_threshold if settings.rule == "paper" else statistics.threshold
    gate = fitter.gate(
        best,
        position=POSITION,
        model=model,
        strength=settings.strength,
        thresholds=thresholds,
        default_threshold=default,
        provenance={
            "key": fit_key(plan, states, model, settings),
            "method": METHODS[settings.basis],
            "basis": settings.basis,
            "roles": {x: "source" for x in plan.sources} | {x: "target" for x in plan.targets},
            "rule": settings.rule,
            "k": settings.shots,
            "l2": best.l2,
            "strength": settings.strength,
            "seed": settings.seed,
            "source_statistics": asdict(statistics),
            "false_alarm_raises": _raises(plan, fitter, scores, statistics),
            "prompts": {"name": plan.prompts.name, "fingerprint": plan.prompts.fingerprint()},
            "shots": shots,
            "fitted_on": [
                p.key for p in usable if p.split == "train" and p.language in plan.sources
            ],
            "thresholds_tried": [asdict(r) for r in rows],
        },
    )
    diagnosis = Diagnosis(
        gate={
            "layers": list(gate.layers),
            "rank": {str(x): b.shape[1] for x, b in gate.bases.items()},
            "rule": settings.rule,
            "k": settings.shots,
            "alpha": gate.alpha,
            "default_threshold": gate.default_threshold,
            "l2": best.l2,
            "trust_in_shots": statistics.trust(settings.shots),
        },
        separability=tuple(_separability(plan, fitter, choices)),
        gate_scores=tuple(_gate_scores(plan, fitter, scores, gate)),
        layer_choice=tuple(_layer_choice(c, chosen=c is best) for c in choices),
        thresholds=tuple(rows),
        contrasts=tuple(_contrast_rows(plan, fitter, scores, gate)),
    )
    return Calibration(gate, diagnosis)


def _raises(
    plan: Plan, fitter: Fitter, scores: dict[str, np.ndarray], statistics: SourceStatistics
) -> dict[str, float]:
    """Return by how much thresholds must rise for false-alarm rates on the left-out sources."""
    rows = [
        fitter.data.sides(threshold_prompts(fitter.data.pool(x, "val")))[1] for x in plan.sources
    ]
    harmless = np.concatenate([scores[x][own] for x, own in zip(plan.sources, rows)])
    return {
        f"{rate:g}": max(0.0, least_threshold(harmless, rate) - statistics.threshold)
        for rate in FALSE_ALARM_RATES
    }


def _choose(fitter: Fitter, model: ModelIdentity, settings: CalibrateSettings) -> list[Choice]:
    layers = candidate_layers(model.n_layers, settings)
    if settings.layers is None:
        return fitter.choose_layers(layers, settings.readout_layers)
    return [fitter.best_l2(layers)]


def _thresholds(
    plan: Plan,
    fitter: Fitter,
    scores: dict[str, np.ndarray],
    statistics: SourceStatistics,
    settings: CalibrateSettings,
) -> tuple[dict[str, float], list[str], list[ThresholdRow]]:
    """Return (threshold per target, keys of the shots used, curve rows)."""
    thresholds: dict[str, float] = {}
    shots: list[str] = []
    rows: list[ThresholdRow] = []
    for number, language in enumerate(plan.targets):
        data, own_scores = fitter.data, scores[language]
        pools = [threshold_prompts(data.pool(language, split)) for split in ("train", "val")]
        train, val = (pick(own_scores, data.sides(pool)) for pool in pools)
        picked = draw_shots(pools[0], settings.shots, [settings.seed, number], language)
        shots += [p.key for p in picked]
        own = pick(own_scores, data.sides(picked))
        shot_keys = {p.key for p in picked}
        others = np.array([data.row[p.key] for p in pools[0] if p.key not in shot_keys], dtype=int)
        # Labels of the other train prompts are not looked at.
        threshold = threshold_for(settings.rule, *own, statistics, own_scores[others])
        thresholds[language] = threshold
        curve = recalibration_curve(
            train,
            val,
            statistics,
            shots=settings.curve,
            rules=("paper", "shrunken"),
            draws=settings.draws,
            seed=settings.seed,
        )
        n = len(val[0]) + len(val[1])
        rows += [
            ThresholdRow(language, c.rule, c.k, c.threshold, known(c.balanced_accuracy), n,
                         c.n_draws, used=False)
            for c in curve
        ]  # fmt: skip
        achieved = known(balanced_accuracy(*val, threshold))
        rows.append(
            ThresholdRow(language, settings.rule, settings.shots, threshold, achieved, n, 1, True)
        )
    return thresholds, shots, rows


def draw_shots(pool: Sequence[Prompt], k: int, seed: list[int], language: str) -> list[Prompt]:
    """Return k prompts of each class, drawn from a language's pool by a seed.

    Raises:
        PromptError: if a class has fewer.
    """
    rng = np.random.default_rng(seed)
    picked: list[Prompt] = []
    for harmful in (True, False):
        side = [p for p in pool if p.harmful is harmful]
        if len(side) < k:
            raise PromptError(
                f"{k} shots per class were asked for, but {language} has {len(side)} usable train "
                f"prompts that are {'harmful' if harmful else 'harmless'}"
            )
        picked += [side[i] for i in rng.permutation(len(side))[:k]]
    return picked


def _separability(plan: Plan, fitter: Fitter, choices: list[Choice]) -> list[Separability]:
    """Return the single-layer probes' AUROC per layer, language and contrast."""
    single = {c.layers[0]: c.l2 for c in choices if len(c.layers) == 1}
    rows = []
    for layer in sorted(single):
        languages = [*plan.sources, *plan.targets]
        scores = fitter.scores([layer], single[layer], languages)
        for language in languages:
            for contrast in CONTRASTS:
                sides = pick(scores[language], fitter.data.held_out(language, contrast))
                rows.append(
                    Separability(
                        language, tier(language), _role(plan, language), contrast, layer,
                        known(auroc(*sides)), len(sides[0]), len(sides[1]),
                    )
                )  # fmt: skip
    return rows


def _gate_scores(
    plan: Plan, fitter: Fitter, scores: dict[str, np.ndarray], gate: Gate
) -> list[GateScores]:
    rows = []
    for language in (*plan.sources, *plan.targets):
        pools: dict[str, list[float]] = {"harmful": [], "harmless": [], "harmless_twins": []}
        for prompt in fitter.data.pool(language, "val"):
            score = float(scores[language][fitter.data.row[prompt.key]])
            pools[side_of(prompt)].append(round(score, 5))
        rows.append(
            GateScores(
                language=language,
                tier=tier(language),
                role=_role(plan, language),
                threshold=gate.threshold(language),
                **{side: tuple(values) for side, values in pools.items()},
            )
        )
    return rows


def _contrast_rows(
    plan: Plan, fitter: Fitter, scores: dict[str, np.ndarray], gate: Gate
) -> list[ContrastRow]:
    rows = []
    for language in (*plan.sources, *plan.targets):
        for contrast in CONTRASTS:
            sides = pick(scores[language], fitter.data.held_out(language, contrast))
            rows.append(
                ContrastRow(
                    language, tier(language), _role(plan, language), contrast,
                    known(auroc(*sides)),
                    known(balanced_accuracy(*sides, gate.threshold(language))),
                    len(sides[0]), len(sides[1]),
                )
            )  # fmt: skip
    return rows


def _layer_choice(choice: Choice, *, chosen: bool) -> LayerChoice:
    return LayerChoice(
        layers=choice.layers,
        balanced_accuracy=known(choice.balanced_accuracy),
        auroc_topic=known(choice.by_contrast["topic"]),
        auroc_twins=known(choice.by_contrast["twins"]),
        chosen=chosen,
    )


def _role(plan: Plan, language: str) -> str:
    return "source" if language in plan.sources else "target"
