"""The methods of a comparison by name, each built from the same setting.

A builder takes the setting and what the run was given (gates, actions, folders of released data)
and returns a contender. What is fitted uses the sources' labelled train prompts and, for
thresholds, the shots of the targets: the same ones for every method.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..action_file import Actions
from ..errors import UserError, did_you_mean
from ..gate import Gate
from ..interventions.actions import AddDirection, ProjectOut, Say
from ..interventions.base import Batch, Decider, Reading
from ..interventions.conditional import identified_language
from ..interventions.gated import GateDecider, harmfulness_direction
from ..interventions.refusal_words import REFUSALS
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
    #: The paper's gate, reading at most so many blocks (1).
    paper: Callable[..., FittedGate]
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


def chosen_methods(names: Sequence[str] | None, *, cast_data: bool, guard: bool) -> list[str]:
    """Return the methods to compare, ``base`` first; by default all that can run.

    ``cast_data`` and ``guard`` say whether CAST's data and a guard were given.

    Raises:
        UserError: for a name that does not exist, or one that needs what was not given.
    """
    missing = set() if cast_data else set(rivals.NEEDS_CAST_DATA)
    missing |= set() if guard else {"guard"}
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
    rate: float | None = None,
    routes: Routes | None = None,
    decider: Decider | None = None,
) -> Contender:
    """Build a gate with a pair of treatments; ``rate`` raises its thresholds to false alarms."""
    if routes is None:
        routes = setting.routes(fitted.score(setting), fitted.raised(rate), rule)
    if decider is None:
        decider = GateDecider(replace(fitted.gate, thresholds=thresholds_of(routes, setting.test)))
    return Contender(
        name,
        family,  # type: ignore[arg-type]
        summary,
        *pair,
        routes=routes,
        labels=labels_in_words(setting),
        layer=fitted.gate.steer_layer,
        decider=decider,
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
        sides(given.actions), rate=given.actions.false_alarm,
    )  # fmt: skip


def _at_false_alarms(percent: int) -> Builder:
    """Return a builder of our gate with thresholds raised to a rate of false alarms."""
    name = f"gate-false-alarm-{percent}"

    def build(setting: Setting, given: Given) -> Contender:
        return _gated(
            setting, given, name,
            f"our gate, thresholds for at most {percent} % false alarms on left-out sources",
            given.ours, sides(given.actions), rate=percent / 100,
        )  # fmt: skip

    return build


#: False-alarm rates that are methods of their own, in percent: points of one frontier.
FALSE_ALARM_PERCENTS = (1, 2, 5, 10)

for _percent in FALSE_ALARM_PERCENTS:
    method(f"gate-false-alarm-{_percent}")(_at_false_alarms(_percent))


def _directions(
    setting: Setting, given: Given, name: str, summary: str, rate: float | None
) -> Contender:
    fitted = given.paper(len(given.ours.gate.layers))
    return _gated(setting, given, name, summary, fitted, sides(given.actions), rate=rate)


@method("gate-directions")
def gate_directions(setting: Setting, given: Given) -> Contender:
    """Build a gate on the paper's subspaces at as many blocks as ours, without a contrast set."""
    return _directions(
        setting, given, "gate-directions",
        "the paper's subspaces at several blocks, no contrast set; our rule and actions",
        given.actions.false_alarm,
    )  # fmt: skip


@method("gate-directions-false-alarm-5")
def gate_directions_bounded(setting: Setting, given: Given) -> Contender:
    """Build the same with thresholds raised to 5 % false alarms on left-out sources."""
    return _directions(
        setting, given, "gate-directions-false-alarm-5",
        "the same, thresholds for at most 5 % false alarms on left-out sources", 0.05,
    )  # fmt: skip


@method("gate-no-recalibration")
def gate_unshifted(setting: Setting, given: Given) -> Contender:
    """Build our gate at the source threshold in every language."""
    return _gated(
        setting, given, "gate-no-recalibration", "our gate without recalibration", given.ours,
        sides(given.actions), rule="source", rate=given.actions.false_alarm,
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


@dataclass(frozen=True)
class LanguageIdentified:
    """A decider that goes by the identified language, whatever language it is told."""

    decider: GateDecider
    whole_prompt: bool = False

    @property
    def layers(self) -> tuple[int, ...]:
        """Blocks that are read."""
        return self.decider.layers

    def start(self, batch: Batch) -> Reading:
        """Identify the language of every row."""
        found = tuple(identified_language(text) for text in batch.texts)
        return self.decider.start(Batch(batch.texts, found))


@method("gate-identified-language")
def gate_identified(setting: Setting, given: Given) -> Contender:
    """Build our gate where nobody says which language a prompt is in."""
    fitted, name = given.ours, "gate-identified-language"
    score = fitted.score(setting)
    found = [identified_language(p.text) for p in setting.test]
    statistics = fitted.raised(given.actions.false_alarm)
    routes = setting.routes(score, statistics, languages=found)
    own = setting.thresholds(score, statistics)
    told = replace(
        fitted.gate,
        thresholds={x: float(t[0]) for x, t in own.items()},
        default_threshold=setting.default_threshold(statistics),
    )
    return _gated(
        setting, given, name, "our gate, languages identified", fitted, sides(given.actions),
        routes=routes, decider=LanguageIdentified(GateDecider(told)),
    )  # fmt: skip


@method("gate-wrong-language")
def gate_wrong(setting: Setting, given: Given) -> Contender:
    """Build our gate with the threshold of another target forced on every prompt: the next one in
    the list of targets, so that each is used once. Worst cases by language: babelgate.ood.
    """
    targets = list(setting.plan.targets)
    if len(targets) < 2:
        raise UserError("another target's threshold needs two target languages; there is one")
    after = dict(zip(targets, [*targets[1:], *targets[:1]]))
    found = [after.get(p.language) for p in setting.test]
    fitted = given.ours
    statistics = fitted.raised(given.actions.false_alarm)
    routes = setting.routes(fitted.score(setting), statistics, languages=found)
    return _gated(
        setting, given, "gate-wrong-language", "our gate, another language's threshold", fitted,
        sides(given.actions), routes=routes,
    )  # fmt: skip


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
