"""Other people's methods and controls as contenders, fitted on the setting's labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..errors import UserError
from ..interventions.actions import Say
from ..interventions.adasteer import AdaSteerIntervention
from ..interventions.cast import BehaviourVectors, CastCondition
from ..interventions.omniguard import OmniGuardDecider
from ..interventions.readouts import LinearDecider
from ..interventions.refusal_words import REFUSALS
from ..interventions.vectors import vector_key
from ..metrics import auroc, known
from ..rivals import probes
from ..rivals.adasteer import LabelledStates, fit_adasteer
from ..rivals.cast import (
    behaviour_layers,
    condition_layers,
    condition_score,
    contrast_vectors,
    find_condition,
)
from ..rivals.omniguard import best_layer, fit_omniguard, mean_u_score
from ..rivals.probes import LinearReadout
from ..rivals.released import load_cast
from ..types import Prompt
from .contenders import UNTOUCHED, Contender, Routes, Treatment
from .guard_front import GuardDecider, guard_of_kind
from .setting import Score, Setting, labels_in_words, thresholds_of
from .suffixes import suffix_states

if TYPE_CHECKING:
    from .methods import Given

#: Questions, and pairs of prompts, that CAST's vectors are made from: its own number of questions
#: would take most of an hour on a processor, and the vectors hardly move after the first hundred.
CAST_QUESTIONS = 100
CAST_PAIRS = 300
#: Harmless and harmful prompts per source language that CAST (adapted) and OmniGuard read: the same
#: labelled prompts as the gate's.
NEEDS_CAST_DATA = ("cast-zero-shot", "cast-adapted")

Builder = Callable[[Setting, "Given"], Contender]
BUILDERS: dict[str, Builder] = {}


def _register(name: str) -> Callable[[Builder], Builder]:
    def register(build: Builder) -> Builder:
        BUILDERS[name] = build
        return build

    return register


def _refuse() -> Treatment:
    return Treatment("fixed-refusal", Say("fixed-refusal", texts=REFUSALS, final=True))


def _harmful(prompts: Sequence[Prompt]) -> np.ndarray:
    return np.array([p.harmful for p in prompts], dtype=bool)


# ---------------------------------------------------------------------------------------------
# linear readouts of one block with our rule and actions: what the subspace adds, and controls


def _readout(
    name: str,
    summary: str,
    family: str,
    fit: Callable[[Setting, np.ndarray, np.ndarray, list[Prompt]], LinearReadout],
) -> None:
    def build(setting: Setting, given: Given) -> Contender:
        from .methods import sides

        layer = given.ours.gate.steer_layer

        @cache
        def fitted(left_out: str | None) -> LinearReadout:
            train = [p for p in setting.source_prompts("train") if p.language != left_out]
            states = setting.states(train, layer, "t_post").double().numpy()
            return fit(setting, states, _harmful(train), train)

        def scored(readout: LinearReadout) -> Score:
            return lambda prompts: readout.score(
                setting.states(prompts, layer, "t_post").double().numpy()
            )

        statistics = setting.statistics(
            lambda left_out: scored(fitted(left_out)), given.actions.false_alarm
        )
        readout = fitted(None)
        routes = setting.routes(scored(readout), statistics)
        return Contender(
            name, family, summary, *sides(given.actions), routes=routes,  # type: ignore[arg-type]
            labels=labels_in_words(setting), layer=layer,
            decider=LinearDecider(readout, layer, thresholds_of(routes, setting.test)),
        )  # fmt: skip

    BUILDERS[name] = build


def _cells(prompts: Sequence[Prompt]) -> list[tuple[str, ...]]:
    return [(p.language, "plain" if p.pair_id is None else "twin") for p in prompts]


_readout(
    "full-space-logistic",
    "logistic regression on the whole state of one block",
    "rival",
    lambda setting, x, y, prompts: probes.full_space_logistic(x, y, cells=_cells(prompts)),
)
_readout(
    "mean-difference",
    "difference of class means at one block",
    "rival",
    lambda setting, x, y, prompts: probes.mean_difference(x, y),
)


def _pca(
    setting: Setting, x: np.ndarray, y: np.ndarray, prompts: Sequence[Prompt]
) -> LinearReadout:
    # The sign is the only thing that labels decide: as many as a gate's shots.
    k = max(1, setting.shots)
    few = np.concatenate([np.flatnonzero(y)[:k], np.flatnonzero(~y)[:k]])
    return probes.unsupervised_pca(x, x[few], y[few])


_readout("unsupervised-pca", "first principal component at one block", "rival", _pca)
_readout(
    "random-direction",
    "control: a random direction at one block",
    "control",
    lambda setting, x, y, prompts: probes.random_direction(x, y, seed=setting.seeds[0]),
)
_readout(
    "shuffled-labels",
    "control: logistic regression on shuffled labels",
    "control",
    lambda setting, x, y, prompts: probes.shuffled_labels(x, y, seed=setting.seeds[0]),
)


# ---------------------------------------------------------------------------------------------
# CAST


def _behaviour(setting: Setting, given: Given) -> Treatment:
    assert given.cast_data is not None
    data = load_cast(given.cast_data)
    n = min(CAST_QUESTIONS, len(data.questions), len(data.refusing), len(data.complying))
    questions = data.questions[:n]
    refusing = suffix_states(setting.model, questions, data.refusing[:n])
    complying = suffix_states(setting.model, questions, data.complying[:n])
    vectors = contrast_vectors(refusing, complying)
    layers = behaviour_layers(len(setting.model.blocks))
    return Treatment(
        "cast-behaviour", BehaviourVectors("cast-behaviour", layers=layers, vectors=vectors)
    )


def _cast(
    setting: Setting,
    given: Given,
    name: str,
    summary: str,
    labels: str,
    pair: tuple[Sequence[Prompt], Sequence[Prompt]],
) -> Contender:
    """Fit vectors and condition on (harmful, harmless) prompts, and route by the condition."""
    layers = condition_layers(len(setting.model.blocks))
    harmful, harmless = (
        torch.stack([setting.states(side, x, "mean") for x in layers], dim=1) for side in pair
    )
    n = min(len(harmful), len(harmless))
    vectors = contrast_vectors(harmful[:n], harmless[:n])
    scores = [condition_score(side, vectors).double().numpy() for side in (harmful, harmless)]
    point = find_condition(scores[0], scores[1], tuple(range(len(layers))))
    layer = layers[point.layer]
    test = setting.states(setting.test, layer, "mean")
    values = point.sign * condition_score(test, vectors[point.layer]).double().numpy()
    routes = Routes(values, np.full((1, len(values)), point.sign * point.threshold))
    return Contender(
        name, "rival", summary, _behaviour(setting, given), UNTOUCHED, routes=routes,
        labels=labels, layer=layer,
        decider=CastCondition(vectors[point.layer], replace(point, layer=layer)),
        facts={"threshold": point.threshold, "threshold_is": point.threshold_is, "f1": point.f1},
    )  # fmt: skip


@_register("cast-zero-shot")
def cast_zero_shot(setting: Setting, given: Given) -> Contender:
    """Build CAST from its released data alone (arXiv 2409.05907)."""
    assert given.cast_data is not None
    data = load_cast(given.cast_data)
    pairs = data.pairs[:CAST_PAIRS]
    harmful, harmless = (
        [
            Prompt(f"cast-{label}-{i}", "en", pair[side], label, "train", source="cast")  # type: ignore[arg-type]
            for i, pair in enumerate(pairs)
        ]
        for side, label in enumerate(("harmful", "harmless"))
    )
    return _cast(
        setting, given, "cast-zero-shot", "CAST from its released English data", "its own",
        (harmful, harmless),
    )  # fmt: skip


@_register("cast-adapted")
def cast_adapted(setting: Setting, given: Given) -> Contender:
    """Build CAST with its condition fitted on our sources and shots (arXiv 2409.05907)."""
    train = [*setting.source_prompts("train"), *setting.all_shots(setting.seeds[0])]
    sides = ([p for p in train if p.harmful], [p for p in train if not p.harmful])
    return _cast(
        setting, given, "cast-adapted", "CAST, condition fitted on our labels",
        labels_in_words(setting), sides,
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------
# OmniGuard


@_register("omniguard")
def omniguard(setting: Setting, given: Given) -> Contender:
    """Build OmniGuard on mean-pooled states with a fixed refusal (arXiv 2505.23856)."""
    layers = range(1, max(2, round(0.8 * len(setting.model.blocks))))
    layer = list(layers)[best_layer(_u_scores(setting, layers))]
    val = setting.source_prompts("val")
    guards, scores = [], []
    for seed in setting.seeds:
        train = [*setting.source_prompts("train"), *setting.all_shots(seed)]
        guard = fit_omniguard(
            setting.states(train, layer, "mean"),
            _harmful(train),
            layer=layer,
            seed=seed,
            validation=(setting.states(val, layer, "mean"), _harmful(val)),
        )
        guards.append(guard)
        scores.append(
            guard.score(setting.states(setting.test, layer, "mean")).detach().double().numpy()
        )
    # One score per seed: the first seed's is kept and the thresholds carry the difference, so that
    # `score >= threshold` decides as each seed's own classifier does at even odds.
    rows = [scores[0] - values for values in scores]
    return Contender(
        "omniguard", "rival", "OmniGuard: an MLP on mean-pooled states; a fixed refusal",
        _refuse(), UNTOUCHED, routes=Routes(scores[0], np.stack(rows)),
        labels=labels_in_words(setting), layer=layer, decider=OmniGuardDecider(guards[0]),
    )  # fmt: skip


def _u_scores(setting: Setting, layers: range) -> np.ndarray:
    """Return the mean U-score of every block over the sources' aligned train prompts."""
    by_group: dict[str, dict[str, Prompt]] = {}
    for prompt in setting.source_prompts("train"):
        by_group.setdefault(f"{prompt.label} {prompt.group_id}", {})[prompt.language] = prompt
    languages = list(setting.plan.sources)
    shared = [found for found in by_group.values() if len(found) == len(languages)]
    if len(shared) < 2 or len(languages) < 2:
        # Not all are aligned with each other: English against the one it shares most with.
        counts = {
            x: sum("en" in f and x in f for f in by_group.values()) for x in languages if x != "en"
        }
        if not counts or max(counts.values()) < 2:
            raise UserError(
                "OmniGuard chooses its block by translations; the source languages share none"
            )
        languages = ["en", max(counts, key=lambda x: counts[x])]
        shared = [f for f in by_group.values() if all(x in f for x in languages)]
    states = {
        x: torch.stack([setting.states([f[x] for f in shared], i, "mean") for i in layers], dim=1)
        for x in languages
    }
    return mean_u_score(states)


# ---------------------------------------------------------------------------------------------
# AdaSteer and a guard in front


@_register("adasteer-adapted")
def adasteer_adapted(setting: Setting, given: Given) -> Contender:
    """Build AdaSteer with vectors and coefficients refitted (arXiv 2504.09466)."""
    n_layers = len(setting.model.blocks)

    def states(prompts: Sequence[Prompt]) -> torch.Tensor:
        if not prompts:  # which class is missing is said by what is fitted
            return torch.zeros(0, n_layers, setting.model.identity.d_model)
        return torch.stack([setting.states(prompts, x, "t_post") for x in range(n_layers)], dim=1)

    def labelled(split: str) -> LabelledStates:
        refused, answered, harmless = (
            [p for p in setting.judged if p.split == split and keep(p)]
            for keep in (
                lambda p: p.harmful and setting.outcomes.get(p.key) == "refused",
                lambda p: p.harmful and setting.outcomes.get(p.key) == "answered",
                lambda p: not p.harmful and setting.outcomes.get(p.key) == "answered",
            )
        )
        return LabelledStates(states(refused), states(answered), states(harmless))

    fitted = fit_adasteer(labelled("train"), labelled("val"), layers=range(1, n_layers - 1))
    vectors = torch.cat([fitted.vectors.refusal, fitted.vectors.harmfulness])
    key = vector_key("adasteer", vectors, fitted.a, fitted.b)
    treatment = Treatment("adasteer-adapted", intervention=AdaSteerIntervention(fitted), key=key)
    return Contender(
        "adasteer-adapted", "rival", "AdaSteer, vectors and coefficients refitted", treatment,
        labels=f"{len(setting.judged)} judged replies", layer=max(fitted.a.layer, fitted.b.layer),
    )  # fmt: skip


@_register("guard")
def guard(setting: Setting, given: Given) -> Contender:
    """Build a guard in front: a model asked about the prompt; a fixed refusal."""
    assert given.guard is not None
    model, kind = given.guard()
    asked = guard_of_kind(model, kind)
    scores = asked.score([p.text for p in setting.test])
    return Contender(
        "guard", "rival", f"{model.identity.name} asked about the prompt; a fixed refusal",
        _refuse(), UNTOUCHED, routes=Routes(scores, np.zeros((1, len(scores)))),
        decider=GuardDecider(asked), facts={"auroc": known(_overall(scores, setting.test))},
    )  # fmt: skip


def _overall(scores: np.ndarray, prompts: Sequence[Prompt]) -> float:
    harmful = _harmful(prompts)
    return auroc(scores[harmful], scores[~harmful])
