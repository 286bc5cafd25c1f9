"""Which prompts actions are searched on, and the untouched model's judged replies to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .comparing.contenders import UNTOUCHED
from .comparing.replies import Outcomes
from .completions import BASE, complete
from .config import CalibrateSettings
from .console import progress
from .fit_data import threshold_prompts
from .judges import Judge, Reply
from .judges.running import judge_all
from .models.chat import ChatModel
from .plan import Plan, States
from .prompts import take
from .types import LABELS, Completion, Outcome, Prompt, PromptSet, Split, Verdict


@dataclass(frozen=True)
class BaseReplies:
    """The untouched model's judged replies to some prompts."""

    prompts: tuple[Prompt, ...]
    completions: tuple[Completion, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def outcomes(self) -> dict[str, Outcome]:
        """Outcome by prompt key."""
        return {v.key: v.outcome for v in self.verdicts}

    def to(self, prompts: Sequence[Prompt]) -> Outcomes:
        """Return the outcomes of some of the prompts, in their order."""
        outcome, said = self.outcomes, {c.key: c for c in self.completions}
        return Outcomes(
            UNTOUCHED.name,
            tuple(outcome[p.key] for p in prompts),
            tuple(said[p.key] for p in prompts),
        )


def base_replies(
    model: ChatModel,
    prompts: Sequence[Prompt],
    judge: Judge,
    folder: Path,
    limits: Mapping[str, int],
) -> BaseReplies:
    """Generate and judge the untouched model's replies, keeping them in the folder of a search.

    The replies are where the search for actions looks for the untouched model's; their verdicts
    have a file of their own.
    """
    with progress() as bar:
        task = bar.add_task("base replies", total=len(prompts))
        made = complete(
            model,
            prompts,
            [BASE],
            folder / "replies" / BASE.name / "completions.jsonl",
            limits=limits,
            on_replies=lambda n: bar.advance(task, n),
        )
    by_key = {p.key: p for p in prompts}
    replies = [Reply(by_key[c.key], c) for c in made]
    verdicts = judge_all(judge, replies, folder / "base_verdicts.jsonl")
    return BaseReplies(tuple(prompts), tuple(made), tuple(verdicts))


def validation_prompts(
    plan: Plan, states: States, settings: CalibrateSettings
) -> tuple[list[Prompt], list[Prompt]]:
    """Return the val prompts that actions are tried on, and all that these were drawn from.

    Those of the targets that have both classes there; without such targets the sources'. Of the
    prompts that thresholds are for: a set of twins is there to train the gate.
    """
    pool = _plain(plan, states, "val")
    cells = {(p.language, p.label) for p in pool}
    both = [x for x in plan.targets if all((x, label) in cells for label in LABELS)]
    chosen = pool.select(languages=both or plan.sources)
    return list(take(chosen, settings.action_prompts, settings.seed)), list(chosen)


def direction_prompts(
    plan: Plan, states: States, settings: CalibrateSettings, split: Split
) -> list[Prompt]:
    """Return the prompts whose replies refusal directions are made from (train) or tried on (val).

    One source language: English where it is one, otherwise the first.
    """
    language = "en" if "en" in plan.sources else plan.sources[0]
    pool = _plain(plan, states, split).select(languages=[language])
    return list(take(pool, settings.direction_prompts, settings.seed))


def _plain(plan: Plan, states: States, split: Split) -> PromptSet:
    """Return the usable prompts of a split that thresholds are for, language by language."""
    pool = plan.prompts.select(split=split, where=lambda p: p.key not in states.excluded)
    parts = [threshold_prompts(pool.select(languages=[x]).prompts) for x in pool.languages]
    return PromptSet(pool.name, tuple(p for part in parts for p in part))
