"""Every treatment's judged replies, each generated once and kept."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..completions import complete
from ..console import progress
from ..judges import Judge, Reply
from ..judges.running import judge_all
from ..models.chat import ChatModel
from ..types import Completion, Outcome, Prompt
from .contenders import Treatment


@dataclass(frozen=True)
class Outcomes:
    """A treatment's outcome per prompt, ``[N]``; None where its reply was not needed."""

    treatment: str
    outcomes: tuple[Outcome | None, ...]
    completions: tuple[Completion | None, ...]

    def share(self, which: Outcome) -> np.ndarray:
        """Return ``[N]`` 1 where the outcome is that, 0 where another, NaN where unparsed."""
        return np.array(
            [
                np.nan if found in (None, "unparsed") else float(found == which)
                for found in self.outcomes
            ]
        )


def reply(
    model: ChatModel,
    prompts: Sequence[Prompt],
    treatments: Mapping[str, tuple[Treatment, np.ndarray]],
    judge: Judge,
    folder: Path,
    *,
    limits: Mapping[str, int],
    rows: int | None = None,
) -> dict[str, Outcomes]:
    """Generate and judge what each treatment lacks; one folder of files per treatment.

    Replies of fixed words are judged like all others.
    """
    total = sum(int(where.sum()) for _, where in treatments.values())
    found: dict[str, Outcomes] = {}
    with progress() as bar:
        task = bar.add_task("replies", total=total)
        for name, (treatment, where) in treatments.items():
            own = [prompt for prompt, wanted in zip(prompts, where) if wanted]
            files = folder / file_name(name)
            if treatment.fixed:
                made = fixed_replies(treatment, own)
                bar.advance(task, len(own))
            else:
                made = complete(
                    model,
                    own,
                    [treatment.method()],
                    files / "completions.jsonl",
                    limits=limits,
                    rows=rows,
                    on_replies=lambda n: bar.advance(task, n),
                )
            verdicts = judge_all(
                judge, [Reply(p, c) for p, c in zip(own, made)], files / "verdicts.jsonl"
            )
            outcome: dict[str, Outcome] = {v.key: v.outcome for v in verdicts}
            said = {c.key: c for c in made}
            found[name] = Outcomes(
                name,
                tuple(outcome.get(p.key) for p in prompts),
                tuple(said.get(p.key) for p in prompts),
            )
    return found


def fixed_replies(treatment: Treatment, prompts: Sequence[Prompt]) -> list[Completion]:
    """Return the replies of a treatment that generates nothing."""
    assert treatment.action is not None
    found = []
    for prompt in prompts:
        words = treatment.action.words(prompt.language)
        text = "" if words is None else words.text
        found.append(Completion(prompt.language, prompt.id, treatment.name, text, 0, "fixed"))
    return found


def file_name(name: str) -> str:
    """Return a treatment's name as a folder name."""
    return re.sub(r"[^\w.+-]+", "_", name)
