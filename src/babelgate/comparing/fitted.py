"""A gate with what sets its thresholds again: for other rules, shots and seeds than its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..config import CalibrateSettings
from ..fit import Choice, Fitter
from ..fit_data import Basis, Data, threshold_prompts
from ..gate import Gate
from ..plan import POSITION, Plan, States, candidate_layers
from ..thresholds import SourceStatistics, least_threshold
from ..types import ModelIdentity, Prompt
from .setting import Score, Setting


@dataclass(frozen=True)
class FittedGate:
    """A gate, the fits behind it, and its threshold statistics from left-out sources."""

    gate: Gate
    fitter: Fitter
    choice: Choice
    statistics: SourceStatistics

    @staticmethod
    def of(gate: Gate, plan: Plan, states: States, settings: CalibrateSettings) -> FittedGate:
        """Return a calibrated gate with its fits; layers are not chosen again."""
        fitter = _fitter(plan, states, settings, settings.basis)
        choice = fitter.judge(gate.layers, float(gate.provenance["l2"]))
        return FittedGate(gate, fitter, choice, fitter.statistics(choice.layers, choice.l2))

    @staticmethod
    def papers(
        plan: Plan,
        states: States,
        model: ModelIdentity,
        settings: CalibrateSettings,
        blocks: int = 1,
    ) -> FittedGate:
        """Fit the paper's gate, without a contrast set (where there is anything else).

        The paper reads one block; with more, the same subspaces of mean differences at several.
        """
        plain = {p.source for p in plan.prompts if p.harmful and p.pair_id is None}
        if plain:
            own = plan.prompts.select(where=lambda p: p.source in plain and p.pair_id is None)
            plan = replace(plan, prompts=own)
        fitter = _fitter(plan, states, settings, "directions")
        choice = fitter.choose_layers(candidate_layers(model.n_layers, settings), blocks)[0]
        statistics = fitter.statistics(choice.layers, choice.l2)
        gate = fitter.gate(
            choice,
            position=POSITION,
            model=model,
            strength=1.0,
            thresholds={},
            default_threshold=statistics.paper_threshold,
            provenance={"roles": dict.fromkeys(plan.sources, "source"), "l2": choice.l2},
        )
        return FittedGate(gate, fitter, choice, statistics)

    def score(self, setting: Setting) -> Score:
        """Return the gate's score of prompts, from their states."""

        def scores(prompts: Sequence[Prompt]) -> np.ndarray:
            states = {x: setting.states(prompts, x, "t_post") for x in self.gate.layers}
            return self.gate.score(states).double().numpy()

        return scores

    def raised(self, rate: float | None) -> SourceStatistics:
        """Return the statistics with the source threshold raised to a false-alarm rate.

        At most ``rate`` of the left-out sources' harmless val scores reach it. Rules move the
        source threshold by what the shots say of a language, so they keep the raise.
        """
        if rate is None:
            return self.statistics
        fitter, sources = self.fitter, self.fitter.data.sources
        scores = fitter.scores(self.choice.layers, self.choice.l2, sources)
        pools = [threshold_prompts(fitter.data.pool(source, "val")) for source in sources]
        harmless = [scores[s][fitter.data.sides(pool)[1]] for s, pool in zip(sources, pools)]
        least = least_threshold(np.concatenate(harmless), rate)
        return replace(self.statistics, threshold=max(self.statistics.threshold, least))


def _fitter(plan: Plan, states: States, settings: CalibrateSettings, basis: Basis) -> Fitter:
    usable = tuple(p for p in plan.prompts if p.key not in states.excluded)
    keys = [p.key for p in usable]
    data = Data(usable, lambda layer: states.layer(layer, keys), plan.sources)
    return Fitter(data, settings.components if basis == "states" else settings.rank, basis)
