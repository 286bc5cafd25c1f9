"""Judged replies of the untouched model and under every edit that replies are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..comparing.contenders import UNTOUCHED, Treatment
from ..comparing.replies import Outcomes, reply
from ..completions import BASE, complete
from ..judges import Judge, Reply
from ..judges.running import judge_all
from ..models.chat import ChatModel
from ..types import Completion, Prompt, Verdict
from .edits import Edit, Plan
from .measured import Measured, prompt_facts
from .settings import TransferSettings


@dataclass(frozen=True)
class Base:
    """The untouched model's judged replies, in the order of the prompts."""

    completions: tuple[Completion, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def outcomes(self) -> Outcomes:
        """The same as of a treatment."""
        return Outcomes(UNTOUCHED.name, tuple(v.outcome for v in self.verdicts), self.completions)


def base_replies(
    model: ChatModel,
    prompts: Sequence[Prompt],
    judge: Judge,
    completions: Path,
    verdicts: Path,
    *,
    limits: Mapping[str, int],
    rows: int | None,
) -> Base:
    """Return the untouched model's replies, generated where ``completions`` lacks them, and judged.

    A run's own base replies can be shared: its file of completions keeps all of them. Verdicts have
    a file of their own, since a file of verdicts holds those of one list of replies.
    """
    made = complete(model, prompts, [BASE], completions, limits=limits, rows=rows)
    found = judge_all(judge, [Reply(p, c) for p, c in zip(prompts, made)], verdicts)
    return Base(tuple(made), tuple(found))


def reply_scores(
    model: ChatModel,
    prompts: Sequence[Prompt],
    plan: Plan,
    judge: Judge,
    base: Base,
    settings: TransferSettings,
    folder: Path,
    *,
    limits: Mapping[str, int],
) -> Measured:
    """Return whether each prompt is refused under every edit that replies are asked for.

    Each edit is a treatment with a folder of files of its own: a killed run goes on in the middle
    of one, and one more language adds its own treatments and its own prompts to the others'.
    """
    chosen = settings.reply_languages
    asked = np.array([chosen is None or p.language in chosen for p in prompts], dtype=bool)
    needed, skipped = _needed(plan, settings)
    treatments = {}
    for edit in needed:
        where = np.array([edit.wanted(p.language, p.label) for p in prompts], dtype=bool) & asked
        if where.any():
            treatment = Treatment(edit.name, edit.action(len(model.blocks)))
            treatments[edit.name] = (treatment, where)
    found = reply(model, prompts, treatments, judge, folder, limits=limits, rows=settings.rows)
    for language in dict.fromkeys(p.language for p in prompts):
        if chosen is not None and language not in chosen:
            skipped[language] = f"replies in {language} were not asked for"
    return measured_replies(prompts, base.outcomes, found, skipped)


def _needed(plan: Plan, settings: TransferSettings) -> tuple[list[Edit], dict[str, str]]:
    """Return the edits of the sources that replies are asked for, and why others are left out."""
    sources = plan.sources if settings.reply_sources is None else settings.reply_sources
    found: dict[str, Edit] = {}
    skipped: dict[str, str] = {}
    for (source, _, _), name in plan.rows.items():
        if source not in sources:
            skipped[name] = f"replies with the direction of {source} were not asked for"
            continue
        found[name] = plan.edits[name]
        for control in plan.controls[name]:
            if plan.edits[control].kind in settings.reply_controls:
                found[control] = plan.edits[control]
    return [*found.values()], skipped


def measured_replies(
    prompts: Sequence[Prompt],
    base: Outcomes,
    edited: Mapping[str, Outcomes],
    skipped: Mapping[str, str],
) -> Measured:
    """Return outcomes as numbers: refused or not, and whether neither refused nor answered."""
    languages, labels, groups = prompt_facts(prompts)
    return Measured(
        "replies",
        languages,
        labels,
        groups,
        base.share("refused"),
        {name: outcomes.share("refused") for name, outcomes in edited.items()},
        _broken(base),
        {name: _broken(outcomes) for name, outcomes in edited.items()},
        skipped,
    )


def _broken(outcomes: Outcomes) -> np.ndarray:
    return outcomes.share("degenerate") + outcomes.share("wrong_language")
