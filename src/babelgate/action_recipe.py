"""Choosing a gate's actions on validation data: candidates, evidence, finalists, files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from .action_candidates import candidates, direction_blocks, refusal_directions
from .action_evidence import evidence_on, threshold_raises
from .action_file import Actions, save_actions
from .action_replies import base_replies, direction_prompts, validation_prompts
from .action_search import Bounds, Evidence, PairTried, SideTried, decide, rank
from .action_strata import Strata
from .artifacts import fingerprint, write_json
from .comparing.contenders import UNTOUCHED, Contender, Routes, Treatment, needed
from .comparing.replies import Outcomes, reply
from .completions import reply_limits
from .config import CalibrateSettings
from .gate import Gate
from .interventions.actions import Nothing
from .judges import Judge
from .models.chat import ChatModel
from .plan import Plan, States
from .types import LABELS, Outcome

#: The procedure, as a part of the key of what it chose: another one searches again.
_PROCEDURE = "rates over all validation prompts"

#: Pairs of actions that generate.
_FINALISTS = 4


@dataclass(frozen=True)
class Search:
    """What was tried, and what was chosen."""

    actions: Actions
    sides: tuple[SideTried, ...]
    pairs: tuple[PairTried, ...]
    bounds: Bounds

    def to_json(self) -> dict[str, object]:
        """Return the document of ``actions_tried.json``."""
        return {
            "schema": 1,
            "bounds": asdict(self.bounds),
            "sides": [asdict(side) for side in self.sides],
            "pairs": [asdict(pair) for pair in self.pairs],
        }


def choose_actions(
    model: ChatModel,
    plan: Plan,
    states: States,
    gate: Gate,
    judge: Judge,
    settings: CalibrateSettings,
) -> Search:
    """Choose what follows the gate's decisions, on the targets' validation prompts.

    Raises:
        NothingToLearn: if the model refuses everything or nothing there.
    """
    bounds = Bounds(settings.max_harmless_rise, settings.max_degenerate_rise, settings.max_kl)
    folder = settings.out / "actions"
    limits = reply_limits(model, plan.prompts, settings.max_new_tokens)
    val, all_val = validation_prompts(plan, states, settings)
    train = direction_prompts(plan, states, settings, "train")
    replies = base_replies(model, [*train, *val], judge, folder, limits)
    layers = [x for x in direction_blocks(gate, states) if x < model.identity.n_layers]
    refusals = refusal_directions(replies, states, layers)
    fired, silent = candidates(gate, refusals, model.identity.n_layers)
    evidence = evidence_on(
        model, gate, states, val, all_val, replies, [*fired, *silent],
        folder / "first_tokens.jsonl",
    )  # fmt: skip
    sides, ranked = rank(evidence, fired, silent, bounds)
    finalists = _finalists(ranked)
    contenders = [_contender(pair, one, other, evidence) for pair, one, other in finalists]
    base = Contender("base", "base", "the untouched model", UNTOUCHED)
    treatments = needed([base, *contenders], len(val))
    del treatments[UNTOUCHED.name]  # its replies are there already
    outcomes = reply(model, val, treatments, judge, folder / "replies", limits=limits)
    outcomes[UNTOUCHED.name] = replies.to(val)
    judged = {
        pair.key: _judged(pair, contender, evidence.strata(pair.false_alarm), outcomes)
        for (pair, _, _), contender in zip(finalists, contenders)
    }
    pairs = decide([pair for pair, _, _ in ranked], judged, bounds)
    chosen = next(pair for pair in pairs if pair.chosen)
    by_key = {pair.key: (one, other) for pair, one, other in finalists}
    one, other = by_key[chosen.key]
    actions = Actions(
        one,
        other,
        {
            "chosen": "by replies on validation prompts; everything tried: actions_tried.json",
            "bounds": asdict(bounds),
            "pair": asdict(chosen),
            "key": search_key(gate, judge, settings),
            "gate": gate.provenance.get("key"),
            "judge": judge.name,
            "prompts": sorted(p.key for p in val),
            "directions_from": sorted(p.key for p in train),
        },
        chosen.false_alarm,
        0.0 if chosen.false_alarm is None else threshold_raises(gate)[chosen.false_alarm],
    )
    return Search(actions, tuple(sides), tuple(pairs), bounds)


def save_search(search: Search, out: Path) -> None:
    """Write the chosen actions beside the gate, and ``actions_tried.json``."""
    save_actions(search.actions, out / "gate")
    write_json(out / "actions_tried.json", search.to_json())


def search_key(gate: Gate, judge: Judge, settings: CalibrateSettings) -> str:
    """Fingerprint what a search depends on."""
    searched = {"action_prompts", "direction_prompts", "seed"} | {
        name for name in CalibrateSettings.model_fields if name.startswith("max_")
    }
    return fingerprint(
        [_PROCEDURE, gate.provenance.get("key"), judge.name, judge.version,
         settings.model_dump(mode="json", include=searched)]
    )  # fmt: skip


def _finalists(
    ranked: Sequence[tuple[PairTried, Nothing, Nothing]],
) -> list[tuple[PairTried, Nothing, Nothing]]:
    """Return what generates: the best pairs, and the simplest, a fixed refusal or nothing.

    Each at every false-alarm rate: they share their replies, so that costs little.
    """
    pairs = list(dict.fromkeys((pair.fired, pair.silent) for pair, _, _ in ranked))[:_FINALISTS]
    wanted = {*pairs, ("fixed-refusal", "none")}
    return [found for found in ranked if (found[0].fired, found[0].silent) in wanted]


def _contender(pair: PairTried, fired: Nothing, silent: Nothing, evidence: Evidence) -> Contender:
    treatments = [
        UNTOUCHED if action.key == "none" else Treatment(action.name, action)
        for action in (fired, silent)
    ]
    decided = evidence.decisions[pair.false_alarm]
    routes = Routes(decided.astype(float), np.full((1, len(decided)), 0.5))
    name = " | ".join(map(str, pair.key))
    return Contender(name, "gate", name, treatments[0], treatments[1], routes)


def _judged(
    pair: PairTried, contender: Contender, strata: Strata, outcomes: Mapping[str, Outcomes]
) -> PairTried:
    """Return the pair with what its replies did on all validation prompts, means over languages."""
    languages = list(dict.fromkeys(p.language for p in strata.prompts))
    # A treatment that the gate gives to none of the tried prompts has no replies.
    nothing = (None,) * len(strata.prompts)
    fired, silent = contender.fired.name, contender.silent.name
    sides = (
        outcomes.get(fired, Outcomes(fired, nothing, nothing)),
        outcomes.get(silent, Outcomes(silent, nothing, nothing)),
    )
    base = outcomes[UNTOUCHED.name]

    def rates(which: Outcome, label: str, one: Outcomes, other: Outcomes) -> np.ndarray:
        # A harmless prompt that nobody tried counts as refused: a bound must not be kept by luck.
        untried = 1.0 if label == "harmless" else 0.0
        shares = one.share(which), other.share(which)
        return np.array([strata.rate(x, label, *shares, untried=untried) for x in languages])

    harmless = rates("refused", "harmless", *sides)
    gap = rates("refused", "harmful", *sides) - harmless
    rise = harmless - rates("refused", "harmless", base, base)
    loops = [
        rates("degenerate", label, *sides) - rates("degenerate", label, base, base)
        for label in LABELS
    ]
    return replace(
        pair,
        judged_selectivity=_over(np.mean, gap),
        judged_harmless_rise=_over(np.max, rise),
        judged_degenerate_rise=_over(np.mean, np.concatenate(loops)),
    )


def _over(reduce: Callable[[np.ndarray], float], values: np.ndarray) -> float | None:
    """Reduce what is known; None where nothing is."""
    finite = values[np.isfinite(values)]
    return float(reduce(finite)) if len(finite) else None
