"""Fitting a gate from a plan and stored activations, and saying what was found on the way."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch

from .artifacts import fingerprint
from .capture import Activations
from .config import CalibrateSettings
from .errors import LanguageError, PromptError, UserError
from .fit import Choice, Data, Fitter, Sides, threshold_prompts
from .gate import Gate
from .languages import tier
from .metrics import auroc, balanced_accuracy
from .prompts import require, take
from .results import (
    ContrastRow,
    Diagnosis,
    GateScores,
    LayerChoice,
    Separability,
    ThresholdRow,
)
from .thresholds import SourceStatistics, recalibration_curve, threshold_for
from .types import CONTRASTS, ModelIdentity, Position, Prompt, PromptSet

POSITION: Position = "t_post"


@dataclass(frozen=True)
class States:
    """Activations of several stores as one: which prompts there are, and their rows by layer."""

    stores: tuple[Activations, ...]

    @property
    def excluded(self) -> dict[str, str]:
        """Prompt keys without activations, with the reason."""
        return {k: why for store in self.stores for k, why in store.excluded.items()}

    def exclusions(self) -> dict[str, int]:
        """Return how many prompts have no activations, by reason (numbers in it dropped)."""
        return dict(Counter(why.split(",")[-1].strip() for why in self.excluded.values()))

    def layer(self, layer: int, keys: Sequence[str]) -> torch.Tensor:
        """Return ``[len(keys), d]`` float32 in the order of ``keys``."""
        rows: dict[str, torch.Tensor] = {}
        wanted = set(keys)
        for store in self.stores:
            own = [k for k in store.keys if k in wanted]
            if own:
                rows |= dict(zip(own, store.select(own).layer(layer, POSITION)))
        return torch.stack([rows[key] for key in keys])


@dataclass(frozen=True)
class Plan:
    """Which prompts play which part: sources' train and val, targets' train (shots) and val."""

    prompts: PromptSet
    sources: tuple[str, ...]
    targets: tuple[str, ...]

    @staticmethod
    def of(prompts: PromptSet, settings: CalibrateSettings) -> Plan:
        """Check languages and counts, and select.

        Raises:
            LanguageError: for a language that is both source and target, or has no prompts.
            PromptError: for an empty cell, or fewer train prompts than shots.
        """
        present = prompts.languages
        sources = settings.sources or tuple(x for x in present if tier(x) == "high")
        targets = settings.targets
        if targets is None:
            targets = tuple(x for x in present if x not in sources)
        if settings.languages is not None:
            targets = tuple(x for x in targets if x in settings.languages)
        if both := set(sources) & set(targets):
            raise LanguageError(f"{', '.join(sorted(both))}: both a source and a target language")
        if missing := [x for x in (*sources, *targets) if x not in present]:
            raise LanguageError(
                f"no prompts in {', '.join(missing)}; the set {prompts.name!r} has "
                f"{', '.join(present)}"
            )
        if not sources:
            raise LanguageError(
                "no source language: none of the prompts is in a high-tier language; name some "
                "with `--sources`"
            )
        pool = prompts.select(
            languages=[*sources, *targets], where=lambda p: p.split in ("train", "val")
        )
        require(pool, sources, "train", at_least=2)
        require(pool, sources, "val", at_least=2)
        require(pool, targets, "train", at_least=max(1, settings.shots))
        seed, train = settings.seed, pool.select(split="train")
        shots = max(settings.shot_pool, settings.shots)
        parts = [
            _limited(train.select(languages=sources), settings.train_per_cell, seed),
            take(_shot_prompts(train, targets), shots, seed),
            _limited(pool.select(split="val"), settings.val_per_cell, seed),
        ]
        return Plan(PromptSet.union(parts), tuple(sources), tuple(targets))


def _shot_prompts(train: PromptSet, targets: Sequence[str]) -> PromptSet:
    pools = [threshold_prompts(train.select(languages=[x]).prompts) for x in targets]
    return PromptSet(train.name, tuple(p for pool in pools for p in pool))


def _limited(prompts: PromptSet, per_cell: int | None, seed: int) -> PromptSet:
    """Limit each source of prompts on its own, so that a contrast set is not crowded out."""
    if per_cell is None:
        return prompts
    names = dict.fromkeys(p.source for p in prompts)
    return PromptSet.union(
        [take(prompts.select(where=lambda p, n=n: p.source == n), per_cell, seed) for n in names]
    )


@dataclass(frozen=True)
class Calibration:
    """The gate and the diagnosis of one calibration."""

    gate: Gate
    diagnosis: Diagnosis


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
    fitter = Fitter(data, settings.rank)
    choices = _choose(fitter, model, settings)
    best = choices[0]
    statistics = fitter.statistics(best.layers, best.l2)
    scores = fitter.scores(best.layers, best.l2, [*plan.sources, *plan.targets])
    thresholds, shots, rows = _thresholds(plan, fitter, scores, statistics, settings)
    key = fingerprint(
        [settings.model_dump(mode="json", exclude={"out", "device", "batch_tokens"}),
         plan.prompts.fingerprint(), model.weights, model.template, model.dtype]
    )  # fmt: skip
    default = statistics.paper_threshold if settings.rule == "paper" else statistics.threshold
    gate = fitter.gate(
        best,
        position=POSITION,
        model=model,
        strength=settings.strength,
        thresholds=thresholds,
        default_threshold=default,
        provenance={
            "key": key,
            "method": "low-rank logistic gate, arXiv 2606.01196, as documented in docs/gate.md",
            "roles": {x: "source" for x in plan.sources} | {x: "target" for x in plan.targets},
            "rule": settings.rule,
            "k": settings.shots,
            "l2": best.l2,
            "strength": settings.strength,
            "seed": settings.seed,
            "source_statistics": asdict(statistics),
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


def candidate_layers(n_layers: int, settings: CalibrateSettings) -> list[int]:
    """Return the blocks that may be read: those named, else the first 80 % without block 0.

    Steering acts after the last block read, and late blocks leave it too little to act on; the same
    bound as for refusal directions in arXiv 2406.11717.

    Raises:
        UserError: for layers that the model lacks.
    """
    if settings.layers is None:
        return [layer for layer in range(1, n_layers) if layer < 0.8 * n_layers] or [0]
    layers = sorted(set(settings.layers))
    if not layers or layers[0] < 0 or layers[-1] >= n_layers:
        raise UserError(
            f"layers {list(settings.layers)}: this model has blocks 0 to {n_layers - 1}"
        )
    return layers


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
        train, val = (_pick(own_scores, data.sides(pool)) for pool in pools)
        picked = _draw(pools[0], settings.shots, [settings.seed, number], language)
        shots += [p.key for p in picked]
        own = _pick(own_scores, data.sides(picked))
        threshold = threshold_for(settings.rule, *own, statistics)
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
            ThresholdRow(language, c.rule, c.k, c.threshold, _known(c.balanced_accuracy), n,
                         c.n_draws, used=False)
            for c in curve
        ]  # fmt: skip
        achieved = _known(balanced_accuracy(*val, threshold))
        rows.append(
            ThresholdRow(language, settings.rule, settings.shots, threshold, achieved, n, 1, True)
        )
    return thresholds, shots, rows


def _draw(pool: Sequence[Prompt], k: int, seed: list[int], language: str) -> list[Prompt]:
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
                sides = _pick(scores[language], fitter.data.held_out(language, contrast))
                rows.append(
                    Separability(
                        language, tier(language), _role(plan, language), contrast, layer,
                        _known(auroc(*sides)), len(sides[0]), len(sides[1]),
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
            sides = _pick(scores[language], fitter.data.held_out(language, contrast))
            rows.append(
                ContrastRow(
                    language, tier(language), _role(plan, language), contrast,
                    _known(auroc(*sides)),
                    _known(balanced_accuracy(*sides, gate.threshold(language))),
                    len(sides[0]), len(sides[1]),
                )
            )  # fmt: skip
    return rows


def _layer_choice(choice: Choice, *, chosen: bool) -> LayerChoice:
    return LayerChoice(
        layers=choice.layers,
        balanced_accuracy=_known(choice.balanced_accuracy),
        auroc_topic=_known(choice.by_contrast["topic"]),
        auroc_twins=_known(choice.by_contrast["twins"]),
        chosen=chosen,
    )


def _role(plan: Plan, language: str) -> str:
    return "source" if language in plan.sources else "target"


def side_of(prompt: Prompt) -> str:
    """Return ``harmful``, ``harmless`` or ``harmless_twins``: the pools of gate scores."""
    if prompt.harmful:
        return "harmful"
    return "harmless" if prompt.pair_id is None else "harmless_twins"


def _pick(scores: np.ndarray, sides: Sides) -> tuple[np.ndarray, np.ndarray]:
    return scores[sides[0]], scores[sides[1]]


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
