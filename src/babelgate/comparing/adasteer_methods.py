"""AdaSteer as a contender: vectors and coefficients fitted on the setting's judged replies."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from ..interventions.adasteer import AdaSteerIntervention
from ..interventions.vectors import vector_key
from ..rivals.adasteer import LabelledStates, fit_adasteer
from ..types import Prompt
from .building import Builder, Given, register
from .contenders import Contender, Treatment
from .setting import Setting

BUILDERS: dict[str, Builder] = {}
method = partial(register, BUILDERS)


@method("adasteer-adapted")
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
