"""Linear readouts of one block with our rule and actions: what the subspace adds, and controls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from ..interventions.readouts import LinearDecider
from ..rivals import probes
from ..rivals.probes import LinearReadout
from ..types import Prompt
from .building import Builder, Given
from .contenders import Contender
from .setting import Score, Setting, harmful_of, labels_in_words, thresholds_of
from .treatments import sides

BUILDERS: dict[str, Builder] = {}


def _readout(
    name: str,
    summary: str,
    family: str,
    fit: Callable[[Setting, np.ndarray, np.ndarray, list[Prompt]], LinearReadout],
) -> None:
    def build(setting: Setting, given: Given) -> Contender:
        layer = given.ours.gate.steer_layer

        @cache
        def fitted(left_out: str | None) -> LinearReadout:
            train = [p for p in setting.source_prompts("train") if p.language != left_out]
            states = setting.states(train, layer, "t_post").double().numpy()
            return fit(setting, states, harmful_of(train), train)

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
