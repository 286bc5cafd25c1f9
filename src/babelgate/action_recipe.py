"""Choosing a gate's actions on validation data: candidates, evidence, finalists, files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from .action_file import Actions, save_actions
from .action_search import (
    Bounds,
    Evidence,
    NothingToLearn,
    PairTried,
    SideTried,
    decide,
    rank,
)
from .artifacts import fingerprint, write_json
from .comparing.contenders import UNTOUCHED, Contender, Routes, Treatment, needed
from .comparing.replies import Outcomes, reply
from .comparing.summary import Compared
from .completions import BASE, complete, reply_limits
from .config import CalibrateSettings
from .console import progress
from .directions import Direction, mean_difference
from .first_token import first_tokens, refusal_tokens
from .fit import threshold_prompts
from .gate import Gate
from .interventions.actions import AddDirection, Nothing, ProjectOut, Say, everywhere
from .interventions.conditional import Ungated
from .interventions.gated import harmfulness_direction
from .interventions.refusal_words import REFUSALS
from .judges import Judge, Reply
from .judges.running import judge_all
from .models.chat import ChatModel
from .plan import Plan, States
from .prompts import take
from .types import LABELS, Completion, Outcome, Prompt, PromptSet, Split, Verdict

#: Refusals and answers that a direction between them needs, of each.
_LEAST_EXAMPLES = 4
#: Pairs of actions that generate.
_FINALISTS = 4


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

    The replies are where the search for actions looks for the untouched model's. Verdicts have a
    file of their own, since a file of verdicts holds those of one list of replies.
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


def refusal_directions(
    replies: BaseReplies, states: States, layers: Sequence[int]
) -> list[Direction]:
    """Return ``unit(mean(refused) - mean(not refused))`` of train prompts at some blocks.

    From the model's own judged replies (arXiv 2406.11717 takes harmful refused against harmless
    answered ones; here both classes are on both sides, so that the direction is one of the decision
    and not of harm). Empty where the model refuses, or answers, hardly anything.
    """
    outcome = replies.outcomes
    train = [p for p in replies.prompts if p.split == "train" and p.key not in states.excluded]
    known = [p for p in train if outcome[p.key] != "unparsed"]
    refused = [p.key for p in known if outcome[p.key] == "refused"]
    other = [p.key for p in known if outcome[p.key] != "refused"]
    if min(len(refused), len(other)) < _LEAST_EXAMPLES:
        return []
    source = ",".join(dict.fromkeys(p.language for p in known))
    return [
        Direction(
            mean_difference(states.layer(layer, refused), states.layer(layer, other)),
            layer,
            "t_post",
            "refused - not refused",
            source,
        )
        for layer in layers
    ]


def candidates(
    gate: Gate, refusals: Sequence[Direction], n_layers: int
) -> tuple[list[Nothing], list[Nothing]]:
    """Return the actions that are tried where the gate fires, and where it does not."""
    harm = harmfulness_direction(gate)
    fired: list[Nothing] = [
        Say("fixed-refusal", texts=REFUSALS, final=True),
        Say("open-with-refusal", texts=REFUSALS),
        *(
            AddDirection(f"add-harmfulness-x{factor:g}", direction=harm, alpha=factor * gate.alpha)
            for factor in (1.0, 2.0)
        ),
    ]
    silent: list[Nothing] = [
        Nothing(),
        ProjectOut("project-harmfulness", layers=(harm.layer,), direction=harm),
    ]
    for direction in refusals:
        name = f"refusal-{direction.layer}"
        fired.append(AddDirection(f"add-{name}", direction=direction, alpha=2 * gate.alpha))
        silent.append(
            ProjectOut(f"project-{name}-everywhere", layers=everywhere(n_layers),
                       direction=direction)
        )  # fmt: skip
    for direction in refusals[len(refusals) // 2 :][:1]:
        silent.append(
            ProjectOut(f"project-refusal-{direction.layer}-one-block", layers=(direction.layer,),
                       direction=direction)
        )  # fmt: skip
    return fired, silent


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
    val = _validation(plan, states, settings)
    train = direction_prompts(plan, states, settings, "train")
    replies = base_replies(model, [*train, *val], judge, folder, limits)
    layers = [x for x in _spread(gate, states) if x < model.identity.n_layers]
    refusals = refusal_directions(replies, states, layers)
    fired, silent = candidates(gate, refusals, model.identity.n_layers)
    evidence = _evidence(model, gate, states, val, replies, [*fired, *silent])
    sides, ranked = rank(evidence, fired, silent, bounds)
    finalists = _finalists(ranked)
    contenders = [_contender(pair, one, other, evidence) for pair, one, other in finalists]
    base = Contender("base", "base", "the untouched model", UNTOUCHED)
    treatments = needed([base, *contenders], len(val))
    del treatments[UNTOUCHED.name]  # its replies are there already
    outcomes = reply(model, val, treatments, judge, folder / "replies", limits=limits)
    outcomes[UNTOUCHED.name] = replies.to(val)
    compared = Compared(tuple(val), (base, *contenders), outcomes)
    judged = {
        (pair.fired, pair.silent): _judged(pair, contender, compared)
        for (pair, _, _), contender in zip(finalists, contenders)
    }
    pairs = decide([pair for pair, _, _ in ranked], judged, bounds)
    chosen = next(pair for pair in pairs if pair.chosen)
    by_name = {(pair.fired, pair.silent): (one, other) for pair, one, other in finalists}
    one, other = by_name[chosen.fired, chosen.silent]
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
        [gate.provenance.get("key"), judge.name, judge.version,
         settings.model_dump(mode="json", include=searched)]
    )  # fmt: skip


def _validation(plan: Plan, states: States, settings: CalibrateSettings) -> list[Prompt]:
    """Return the val prompts that actions are tried on.

    Those of the targets that have both classes there; without such targets the sources'. Of the
    prompts that thresholds are for: a set of twins is there to train the gate.
    """
    pool = _plain(plan, states, "val")
    cells = {(p.language, p.label) for p in pool}
    both = [x for x in plan.targets if all((x, label) in cells for label in LABELS)]
    chosen = pool.select(languages=both or plan.sources)
    return list(take(chosen, settings.action_prompts, settings.seed))


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


def _spread(gate: Gate, states: States) -> list[int]:
    """Return a few blocks, half-way to four fifths of the depth, that activations are stored for"""
    stored = sorted(set.intersection(*(set(s.store.layers) for s in states.stores)))
    n = gate.model.n_layers
    wanted = [round(n * share) for share in (0.5, 0.58, 0.67, 0.75)]
    return sorted({x for x in wanted if x in stored}) or stored[-1:]


def _evidence(
    model: ChatModel,
    gate: Gate,
    states: States,
    val: Sequence[Prompt],
    replies: BaseReplies,
    actions: Sequence[Nothing],
) -> Evidence:
    keys = [p.key for p in val]
    scores = gate.score({x: states.layer(x, keys) for x in gate.layers}).numpy()
    fired = np.array([s >= gate.threshold(p.language) for s, p in zip(scores, val)])
    tokens = refusal_tokens(model, replies.completions, replies.verdicts)
    if not any(tokens.values()):
        raise NothingToLearn(
            "no reply of the untouched model was judged a refusal, or refusals begin like answers, "
            "so nothing shows what an action does to refusals"
        )
    outcome = replies.outcomes
    refused = np.array(
        [np.nan if outcome[k] == "unparsed" else float(outcome[k] == "refused") for k in keys]
    )
    ways = {
        a.key: Ungated(a, a.name) for a in actions if not isinstance(a, Say) and a.key != "none"
    }
    with progress() as bar:
        task = bar.add_task("trying actions", total=len(val))
        found = first_tokens(
            model,
            [p.text for p in val],
            ways,
            [tokens.get(p.language, frozenset()) for p in val],
            languages=[p.language for p in val],
            on_rows=lambda n: bar.advance(task, n),
        )
    return Evidence(tuple(val), fired, refused, found)


def _finalists(
    ranked: Sequence[tuple[PairTried, Nothing, Nothing]],
) -> list[tuple[PairTried, Nothing, Nothing]]:
    """Return the pairs that generate: the best, and the simplest: nothing where it is silent."""
    best = list(ranked[:_FINALISTS])
    plain = [x for x in ranked if x[0].fired == "fixed-refusal" and x[0].silent == "none"]
    return best + [x for x in plain if x not in best]


def _contender(pair: PairTried, fired: Nothing, silent: Nothing, evidence: Evidence) -> Contender:
    treatments = [
        UNTOUCHED if action.key == "none" else Treatment(action.name, action)
        for action in (fired, silent)
    ]
    routes = Routes(evidence.fired.astype(float), np.full((1, len(evidence.fired)), 0.5))
    name = f"{pair.fired} | {pair.silent}"
    return Contender(name, "gate", name, treatments[0], treatments[1], routes)


def _judged(pair: PairTried, contender: Contender, compared: Compared) -> PairTried:
    """Return the pair with what its replies did, means over languages."""

    def rates(method: str, share: str, label: str) -> np.ndarray:
        return np.array(
            [compared.cell(method, x, label, share).rate for x in compared.languages]  # type: ignore[arg-type]
        )

    name = contender.name
    gap = rates(name, "refusal", "harmful") - rates(name, "refusal", "harmless")
    rise = rates(name, "refusal", "harmless") - rates("base", "refusal", "harmless")
    loops = [
        np.concatenate([rates(m, "degenerate", label) for label in LABELS]) for m in (name, "base")
    ]
    return replace(
        pair,
        judged_selectivity=_over(np.mean, gap),
        judged_harmless_rise=_over(np.max, rise),
        judged_degenerate_rise=_over(np.mean, loops[0] - loops[1]),
    )


def _over(reduce: Callable[[np.ndarray], float], values: np.ndarray) -> float | None:
    """Reduce what is known; None where nothing is."""
    finite = values[np.isfinite(values)]
    return float(reduce(finite)) if len(finite) else None
