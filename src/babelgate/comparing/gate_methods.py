"""Gates as contenders: ours at several thresholds, with other rules or actions, and the paper's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from ..errors import UserError
from ..interventions.base import Batch, Decider, Reading
from ..interventions.conditional import identified_language
from ..interventions.gated import GateDecider
from ..thresholds import Rule
from .building import Builder, Given, register
from .contenders import UNTOUCHED, Contender, Routes, Treatment
from .fitted import FittedGate
from .setting import Setting, labels_in_words, thresholds_of
from .treatments import fixed_refusal, paper_actions, sides

BUILDERS: dict[str, Builder] = {}
method = partial(register, BUILDERS)


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
