"""What all methods of a comparison share: data, labels, shots, activations and base replies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch

from ..calibration import draw_shots
from ..fit_data import Data, threshold_prompts
from ..models.chat import ChatModel
from ..plan import Plan
from ..thresholds import (
    POOL_RULES,
    Rule,
    SourceStatistics,
    least_threshold,
    threshold_for,
)
from ..types import Outcome, Position, Prompt
from .contenders import Routes

#: Prompts and layers to states: ``[N, d]`` float32 in the order of the keys.
StatesOf = Callable[[Sequence[Prompt], int, Position], torch.Tensor]
#: A fitted reading: scores ``[N]`` of prompts.
Score = Callable[[Sequence[Prompt]], np.ndarray]


@dataclass(frozen=True)
class Setting:
    """The inputs that every method is fitted and tried on.

    ``train`` and ``val`` prompts are the sources'; ``pools`` the targets' train prompts that shots
    are drawn from; ``test`` the prompts compared on. ``outcomes`` are the judged base replies to
    the prompts that refusal directions come from, by prompt key.
    """

    model: ChatModel
    plan: Plan
    test: tuple[Prompt, ...]
    shots: int
    seeds: tuple[int, ...]
    rule: Rule
    states: StatesOf
    data: Data
    outcomes: Mapping[str, Outcome]
    #: Prompts with outcomes, for directions of refusal.
    judged: tuple[Prompt, ...]
    facts: dict[str, object] = field(default_factory=dict)

    def source_prompts(self, split: str, languages: Sequence[str] | None = None) -> list[Prompt]:
        """Return the sources' prompts of a split (all sources, or those named)."""
        wanted = self.plan.sources if languages is None else languages
        return [p for x in wanted for p in self.data.pool(x, split)]

    @cached_property
    def pools(self) -> dict[str, list[Prompt]]:
        """The targets' train prompts that thresholds may be set on."""
        return {x: threshold_prompts(self.data.pool(x, "train")) for x in self.plan.targets}

    @cached_property
    def draws(self) -> dict[tuple[int, str], list[Prompt]]:
        """The same shots for every method, by seed and target language."""
        return {
            (seed, language): draw_shots(pool, self.shots, [seed, number], language)
            for seed in self.seeds
            for number, (language, pool) in enumerate(self.pools.items())
        }

    def all_shots(self, seed: int) -> list[Prompt]:
        """Return one seed's shots of every target."""
        return [p for x in self.plan.targets for p in self.draws[seed, x]]

    def statistics(
        self, left_out: Callable[[str | None], Score], false_alarm: float | None = None
    ) -> SourceStatistics:
        """Return threshold statistics from readings that left out the language they score.

        ``left_out(language)`` fits without that source; ``left_out(None)`` on all of them, which is
        what a single source is scored by. With ``false_alarm`` the source threshold is raised to
        that rate on the left-out scores.
        """
        several = len(self.plan.sources) > 1
        scores, like_shots = {}, {}
        for source in self.plan.sources:
            score = left_out(source if several else None)
            for found, split in ((scores, "val"), (like_shots, "train")):
                pool = threshold_prompts(self.data.pool(source, split))
                values, harmful = score(pool), harmful_of(pool)
                found[source] = values[harmful], values[~harmful]
        train = self.source_prompts("train")
        values = left_out(None)(train)
        harmful = harmful_of(train)
        found = SourceStatistics.from_scores(
            scores,
            train=(values[harmful], values[~harmful]),
            like_shots=like_shots if several else None,
        )
        if false_alarm is None:
            return found
        least = least_threshold(np.concatenate([h for _, h in scores.values()]), false_alarm)
        return replace(found, threshold=max(found.threshold, least))

    def thresholds(
        self, score: Score, statistics: SourceStatistics, rule: Rule | None = None
    ) -> dict[str, np.ndarray]:
        """Return the targets' thresholds ``[S]``, one per seed of the shots; one without shots."""
        chosen = self.rule if rule is None else rule
        found: dict[str, np.ndarray] = {}
        for language, pool in self.pools.items():
            own = score(pool)
            row = {p.key: i for i, p in enumerate(pool)}
            per_seed = []
            for seed in self.seeds[:1] if self.shots == 0 or chosen == "source" else self.seeds:
                shots = self.draws[seed, language]
                picked = np.array([row[p.key] for p in shots], dtype=int)
                harmful = harmful_of(shots)
                labelled = own[picked]
                rest = np.delete(own, picked) if chosen in POOL_RULES else ()
                per_seed.append(
                    threshold_for(chosen, labelled[harmful], labelled[~harmful], statistics, rest)
                )
            found[language] = np.array(per_seed)
        return found

    def routes(
        self,
        score: Score,
        statistics: SourceStatistics,
        rule: Rule | None = None,
        languages: Sequence[str | None] | None = None,
    ) -> Routes:
        """Return who fires on the test prompts, with thresholds set from every seed's shots.

        Sources, and languages that are neither, have the source threshold. ``languages`` are the
        ones whose thresholds the test prompts get; by default their own.
        """
        default = self.default_threshold(statistics, rule)
        found = self.thresholds(score, statistics, rule)
        n_seeds = max((len(own) for own in found.values()), default=1)
        told = [p.language for p in self.test] if languages is None else languages
        columns = [found.get(x or "", np.full(n_seeds, default)) for x in told]
        return Routes(score(self.test), np.stack(columns, axis=1))

    def default_threshold(self, statistics: SourceStatistics, rule: Rule | None = None) -> float:
        """Return the threshold of a language without one of its own."""
        chosen = self.rule if rule is None else rule
        return statistics.paper_threshold if chosen == "paper" else statistics.threshold

    def by_outcome(self, refused: bool, *, harmful: bool | None = None) -> list[Prompt]:
        """Return the judged train prompts whose base reply refused, or was something else."""
        return [
            p
            for p in self.judged
            if p.split == "train"
            and self.outcomes.get(p.key) not in (None, "unparsed")
            and (self.outcomes[p.key] == "refused") is refused
            and (harmful is None or p.harmful is harmful)
        ]


def harmful_of(prompts: Sequence[Prompt]) -> np.ndarray:
    """Return which prompts are harmful, bool ``[N]``."""
    return np.array([p.harmful for p in prompts], dtype=bool)


def labels_in_words(setting: Setting) -> str:
    """Say which labelled prompts a gate of this setting uses."""
    n = len(setting.source_prompts("train"))
    targets = f" + {setting.shots} per class and target" if setting.shots else ""
    return f"{n} source{targets}"


def thresholds_of(routes: Routes, test: Sequence[Prompt]) -> dict[str, float]:
    """Return the first seed's threshold per language of the test prompts."""
    return {p.language: float(t) for p, t in zip(test, routes.thresholds[0])}
