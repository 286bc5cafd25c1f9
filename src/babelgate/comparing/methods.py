"""The methods of a comparison by name, each built from the same setting.

A builder takes the setting and what the run was given (gates, actions, folders of released data)
and returns a contender. What is fitted uses the sources' labelled train prompts and, for
thresholds, the shots of the targets: the same ones for every method.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..action_file import Actions
from ..errors import UserError, did_you_mean
from ..gate import Gate
from ..interventions.actions import AddDirection, ProjectOut, Say
from ..interventions.gated import GateDecider, harmfulness_direction
from ..interventions.refusal_words import REFUSALS
from ..language_id import identify
from ..models.chat import ChatModel
from ..thresholds import Rule
from . import rival_methods as rivals
from .contenders import UNTOUCHED, Contender, Routes, Treatment
from .fitted import FittedGate
from .setting import Setting, labels_in_words, thresholds_of
from .system_prompts import safety_prompts


@dataclass(frozen=True)
class Given:
    """What a comparison was given beside its setting."""

    ours: FittedGate
    paper: Callable[[], FittedGate]
    actions: Actions
    cast_data: Path | None = None
    guard: Callable[[], tuple[ChatModel, str]] | None = None


Builder = Callable[[Setting, Given], Contender]
METHODS: dict[str, Builder] = {}


def method(name: str) -> Callable[[Builder], Builder]:
    """Register a builder under a name."""

    def register(build: Builder) -> Builder:
        METHODS[name] = build
        return build

    return register


def chosen_methods(names: Sequence[str] | None, given: Given) -> list[str]:
    """Return the methods to compare, ``base`` first; by default all that can run.

    Raises:
        UserError: for a name that does not exist, or one that needs what was not given.
    """
    missing = {name for name in rivals.NEEDS_CAST_DATA if given.cast_data is None}
    missing |= {"guard"} if given.guard is None else set()
    if names is None:
        return [name for name in METHODS if name not in missing]
    for name in names:
        if name not in METHODS:
            raise UserError(f"method {name!r} does not exist.{did_you_mean(name, list(METHODS))}")
        if name in missing:
            flag = "--guard MODEL" if name == "guard" else "--cast-data FOLDER"
            raise UserError(f"method {name!r} needs `{flag}`")
    return list(dict.fromkeys(["base", *names]))


def fixed_refusal() -> Treatment:
    """Return the fixed refusal in the prompt's language."""
    return Treatment("fixed-refusal", Say("fixed-refusal", texts=REFUSALS, final=True))


def sides(actions: Actions) -> tuple[Treatment, Treatment]:
    """Return a pair of actions as treatments."""
    return tuple(
        UNTOUCHED if action.key == "none" else Treatment(action.name, action)
        for action in (actions.fired, actions.silent)
    )  # type: ignore[return-value]


@method("base")
def base(setting: Setting, given: Given) -> Contender:
    """Build the untouched model."""
    return Contender("base", "base", "the untouched model", UNTOUCHED)


def _gated(
    setting: Setting,
    given: Given,
    name: str,
    summary: str,
    fitted: FittedGate,
    pair: tuple[Treatment, Treatment],
    *,
    rule: Rule | None = None,
    family: str = "gate",
    routes: Routes | None = None,
) -> Contender:
    if routes is None:
        routes = setting.routes(fitted.score(setting), fitted.statistics, rule)
    return Contender(
        name,
        family,  # type: ignore[arg-type]
        summary,
        *pair,
        routes=routes,
        labels=labels_in_words(setting),
        layer=fitted.gate.steer_layer,
        decider=GateDecider(replace(fitted.gate, thresholds=thresholds_of(routes, setting.test))),
        facts={"layers": list(fitted.gate.layers), "l2": fitted.choice.l2},
    )


def papers_actions(gate: Gate) -> Actions:
    """Return the paper's actions as a pair of files' kind."""
    pair = paper_actions(gate, "ours")
    assert pair[0].action is not None
    assert pair[1].action is not None
    return Actions(pair[0].action, pair[1].action, {"chosen": "the paper's"})  # type: ignore[arg-type]


def paper_actions(gate: Gate, name: str) -> tuple[Treatment, Treatment]:
    """Return the paper's actions for a gate: add the harmfulness direction, or project it out."""
    direction = harmfulness_direction(gate)
    fired = AddDirection(f"add-harmfulness-{name}", direction=direction, alpha=gate.alpha)
    silent = ProjectOut(
        f"project-harmfulness-{name}", layers=(direction.layer,), direction=direction
    )
    return Treatment(fired.name, fired), Treatment(silent.name, silent)


@method("gate")
def gate(setting: Setting, given: Given) -> Contender:
    """Build our gate with the actions that calibration chose."""
    return _gated(
        setting, given, "gate", "our gate, threshold rule and actions", given.ours,
        sides(given.actions),
    )  # fmt: skip


@method("gate-false-alarm-5")
def gate_bounded(setting: Setting, given: Given) -> Contender:
    """Build our gate with thresholds raised to 5 % false alarms on left-out sources."""
    fitted = given.ours
    routes = setting.routes(fitted.score(setting), fitted.raised(0.05))
    return _gated(
        setting, given, "gate-false-alarm-5",
        "our gate, thresholds for at most 5 % false alarms on left-out sources", fitted,
        sides(given.actions), routes=routes,
    )  # fmt: skip


@method("gate-no-recalibration")
def gate_unshifted(setting: Setting, given: Given) -> Contender:
    """Build our gate at the source threshold in every language."""
    return _gated(
        setting, given, "gate-no-recalibration", "our gate without recalibration", given.ours,
        sides(given.actions), rule="source",
    )  # fmt: skip


@method("gate-paper-threshold")
def gate_paper_rule(setting: Setting, given: Given) -> Contender:
    """Build our gate with the paper's threshold rule."""
    return _gated(
        setting, given, "gate-paper-threshold", "our gate, the paper's threshold rule", given.ours,
        sides(given.actions), rule="paper",
    )  # fmt: skip


@method("gate-paper-actions")
def gate_paper_actions(setting: Setting, given: Given) -> Contender:
    """Build our gate with the paper's actions."""
    return _gated(
        setting, given, "gate-paper-actions", "our gate, the paper's actions", given.ours,
        paper_actions(given.ours.gate, "ours"),
    )  # fmt: skip


@method("gate-fixed-refusal")
def gate_fixed(setting: Setting, given: Given) -> Contender:
    """Build our gate with a fixed refusal where it fires and nothing elsewhere."""
    return _gated(
        setting, given, "gate-fixed-refusal", "our gate; a fixed refusal, or nothing", given.ours,
        (fixed_refusal(), UNTOUCHED),
    )  # fmt: skip


def _identified(text: str) -> str | None:
    return identify(text).code


@method("gate-identified-language")
def gate_identified(setting: Setting, given: Given) -> Contender:
    """Build our gate where nobody says which language a prompt is in."""
    found = [_identified(p.text) for p in setting.test]
    return _language_routed(
        setting, given, "gate-identified-language", "our gate, languages identified", found
    )


@method("gate-wrong-language")
def gate_wrong(setting: Setting, given: Given) -> Contender:
    """Build our gate with the threshold of another target forced on every prompt: the next one in
    the list of targets, so that each is used once. Worst cases by language: babelgate.ood.
    """
    targets = list(setting.plan.targets)
    after = dict(zip(targets, [*targets[1:], *targets[:1]]))
    found = [after.get(p.language) for p in setting.test]
    return _language_routed(
        setting, given, "gate-wrong-language", "our gate, another language's threshold", found
    )


def _language_routed(
    setting: Setting, given: Given, name: str, summary: str, languages: Sequence[str | None]
) -> Contender:
    """Route by the thresholds of the given languages; the default where there is none."""
    fitted = given.ours
    stated = setting.routes(fitted.score(setting), fitted.statistics)
    default = fitted.gate.default_threshold
    by_language = {p.language: stated.thresholds[:, i] for i, p in enumerate(setting.test)}
    missing = np.full(len(stated.thresholds), default)
    columns = [by_language.get(x or "", missing) for x in languages]
    routes = Routes(stated.scores, np.stack(columns, axis=1))
    return _gated(setting, given, name, summary, fitted, sides(given.actions), routes=routes)


@method("paper")
def paper(setting: Setting, given: Given) -> Contender:
    """Build the paper's gate, threshold rule and actions (arXiv 2606.01196)."""
    fitted = given.paper()
    return _gated(
        setting, given, "paper", "one block, the paper's rule and actions (arXiv 2606.01196)",
        fitted, paper_actions(fitted.gate, "paper"), rule="paper", family="paper",
    )  # fmt: skip


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


for _name, _build in rivals.BUILDERS.items():
    METHODS[_name] = _build
