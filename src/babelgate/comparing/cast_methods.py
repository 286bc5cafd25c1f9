"""CAST as a contender: from its released data, and with its condition fitted on our labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from ..interventions.cast import BehaviourVectors, CastCondition
from ..rivals.cast import (
    THRESHOLDS,
    behaviour_layers,
    condition_layers,
    condition_score,
    contrast_vectors,
    find_condition,
    observed_thresholds,
)
from ..rivals.released import load_cast
from ..types import Prompt
from .building import Builder, Given, register
from .contenders import UNTOUCHED, Contender, Routes, Treatment
from .setting import Setting, labels_in_words
from .suffixes import suffix_states

#: Questions, and pairs of prompts, that CAST's vectors are made from: its own number of questions
#: would take most of an hour on a processor, and the vectors hardly move after the first hundred.
CAST_QUESTIONS = 100
CAST_PAIRS = 300

#: All of these need CAST's released data.
BUILDERS: dict[str, Builder] = {}
method = partial(register, BUILDERS)


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
    *,
    own_range: bool,
) -> Contender:
    """Fit vectors and condition on (harmful, harmless) prompts, and route by the condition.

    With ``own_range`` thresholds are tried where the model's scores lie, else in the paper's range.
    """
    layers = condition_layers(len(setting.model.blocks))
    harmful, harmless = (
        torch.stack([setting.states(side, x, "mean") for x in layers], dim=1) for side in pair
    )
    n = min(len(harmful), len(harmless))
    vectors = contrast_vectors(harmful[:n], harmless[:n])
    scores = [condition_score(side, vectors).double().numpy() for side in (harmful, harmless)]
    tried = observed_thresholds(scores[0], scores[1]) if own_range else THRESHOLDS
    point = find_condition(scores[0], scores[1], tuple(range(len(layers))), tried)
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


@method("cast-zero-shot")
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
        setting, given, "cast-zero-shot", "CAST as published, from its released English data",
        "its own", (harmful, harmless), own_range=False,
    )  # fmt: skip


@method("cast-adapted")
def cast_adapted(setting: Setting, given: Given) -> Contender:
    """Build CAST with its condition fitted on our sources and shots (arXiv 2409.05907)."""
    train = [*setting.source_prompts("train"), *setting.all_shots(setting.seeds[0])]
    sides = ([p for p in train if p.harmful], [p for p in train if not p.harmful])
    return _cast(
        setting, given, "cast-adapted", "CAST, condition and its range fitted on our labels",
        labels_in_words(setting), sides, own_range=True,
    )  # fmt: skip
