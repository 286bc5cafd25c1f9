"""Contenders that treat every prompt alike: untouched, ungated actions, a system prompt."""

from __future__ import annotations

from functools import partial

from .building import Builder, Given, register
from .contenders import UNTOUCHED, Contender, Treatment
from .setting import Setting, labels_in_words
from .system_prompts import safety_prompts
from .treatments import paper_actions, sides

BUILDERS: dict[str, Builder] = {}
method = partial(register, BUILDERS)


def base(setting: Setting, given: Given) -> Contender:
    """Build the untouched model."""
    return Contender("base", "base", "the untouched model", UNTOUCHED)


@method("add-harmfulness")
def ungated_addition(setting: Setting, given: Given) -> Contender:
    """Build the harmfulness direction added to every prompt."""
    fired, _ = paper_actions(given.ours.gate, "ours")
    return Contender(
        "add-harmfulness", "rival", "harmfulness direction added everywhere it can, ungated", fired,
        labels=labels_in_words(setting),
    )  # fmt: skip


@method("ablate-refusal")
def ungated_ablation(setting: Setting, given: Given) -> Contender:
    """Build the silent side's action on every prompt: ablation without a gate."""
    return Contender(
        "ablate-refusal", "rival", "the silent side's action on every prompt, ungated",
        sides(given.actions)[1], labels=f"{len(setting.judged)} judged replies",
    )  # fmt: skip


@method("system-prompt")
def system_prompt(setting: Setting, given: Given) -> Contender:
    """Build a system prompt in the prompt's language that asks for refusals."""
    treatment = Treatment("system-prompt", systems=safety_prompts())
    return Contender(
        "system-prompt", "rival", "a system prompt in the prompt's language", treatment
    )
