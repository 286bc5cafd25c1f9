"""OmniGuard as a contender: a classifier of mean-pooled states where languages agree."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from ..errors import UserError
from ..interventions.omniguard import OmniGuardDecider
from ..rivals.omniguard import best_layer, fit_omniguard, mean_u_score
from ..types import Prompt
from .building import Builder, Given, register
from .contenders import UNTOUCHED, Contender, Routes
from .setting import Setting, harmful_of, labels_in_words
from .treatments import fixed_refusal

BUILDERS: dict[str, Builder] = {}
method = partial(register, BUILDERS)


@method("omniguard")
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
            harmful_of(train),
            layer=layer,
            seed=seed,
            validation=(setting.states(val, layer, "mean"), harmful_of(val)),
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
        fixed_refusal(), UNTOUCHED, routes=Routes(scores[0], np.stack(rows)),
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
