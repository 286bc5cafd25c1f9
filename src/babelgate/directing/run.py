"""The job behind `babelgate directions`: replies, selection, transfer, files. Resumable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..action_replies import BaseReplies
from ..artifacts import timed, versions, write_json
from ..capture_languages import capture_languages
from ..completions import reply_limits
from ..config import DirectionsSettings
from ..console import note, progress
from ..errors import LanguageError, UserError
from ..judges import Judge
from ..judges.choosing import chosen_judge
from ..models.chat import ChatModel
from ..plan import Plan, States
from ..prompts import require, take
from ..refusal import Selection, SelectionSettings, derive_tokens, select_directions
from ..run_files import open_run
from ..transfer.results import Transfer
from ..transfer.run import transfer_matrix
from ..transfer.settings import TransferSettings
from ..transfer.sources import Source
from ..types import LABELS, PromptSet
from ..untouched import POSITIONS, untouched_replies
from ..vectors import DirectionSet, Provenance, save_directions
from .sources import (
    LEAST,
    classes_of,
    mean_difference_sources,
    measured_directions,
    selected_sources,
)


@dataclass(frozen=True)
class Directions:
    """What was selected in each language, its transfer, and all directions as vectors."""

    selections: Mapping[str, Selection]
    transfer: Transfer | None
    vectors: DirectionSet


def find_directions(
    model: ChatModel, prompts: PromptSet, settings: DirectionsSettings
) -> Directions:
    """Select refusal directions, measure their transfer, and write ``directions.json`` and
    ``vectors.safetensors``.

    Directions come from train prompts, are selected on val prompts and transferred to test prompts.
    Stages: the untouched model's judged replies, activations, a selection per language, the
    transfer matrix. Each resumes.

    Raises:
        PromptError: if a language lacks train or val prompts, or all lack test prompts for the
            transfer; a language that others do not is left out of it, with a note.
        LanguageError: for a language without prompts.
        StoreError: if results cannot be stored.
    """
    plan = Plan.of(prompts, settings.calibration())
    languages = (*plan.sources, *plan.targets)
    chosen = _among("select", settings.select, languages) or languages
    _among("reply_sources", settings.reply_sources, languages)
    _among("reply_languages", settings.reply_languages, languages)
    if settings.reply_prompts == 0:
        raise UserError("refusal directions need replies; give `--reply-prompts` of at least 4")
    tested = () if settings.transfer == "none" else _tested(prompts, languages)
    run = open_run(settings.out, "directions", settings, model, prompts)
    if tested and (left := [x for x in languages if x not in tested]):
        run.note(
            f"No effects were measured in {', '.join(left)}: fewer than {LEAST} test prompts of a "
            "label."
        )
    with timed() as seconds:
        states = capture_languages(
            model,
            plan.prompts,
            settings.out / "states",
            positions=POSITIONS,
            batch_tokens=settings.batch_tokens,
        )
    run.set_done("states", plan.prompts.fingerprint(), seconds[0], prompts=len(plan.prompts))
    with chosen_judge(settings, device=settings.device) as judge:
        with timed() as seconds:
            replies = untouched_replies(model, plan, states, judge, settings)
        run.set_done("replies", plan.prompts.fingerprint(), seconds[0], n=len(replies.prompts))
        with timed() as seconds:
            selections = _selected(model, replies, chosen, settings)
        run.set_done("selection", plan.prompts.fingerprint(), seconds[0], languages=len(chosen))
        transfer = None
        if tested:
            test = take(
                prompts.select(split="test", languages=tested, where=lambda p: p.pair_id is None),
                settings.transfer_prompts,
                settings.seed,
            )
            with timed() as seconds:
                transfer = _transferred(
                    model, test, plan, states, replies, selections, judge, settings
                )
            run.set_done("transfer", plan.prompts.fingerprint(), seconds[0])
    vectors = DirectionSet(
        tuple(measured_directions(plan, states, replies, selections)),
        model.identity,
        Provenance("measured", plan.prompts.fingerprint(), settings.seed, versions()),
    )
    save_directions(vectors, settings.out / "vectors.safetensors")
    document = {
        "schema": 1,
        "languages": list(languages),
        "selections": {x: {**s.to_json(), "kept": _kept(s)} for x, s in selections.items()},
        "transfer": None if transfer is None else transfer.to_json(),
    }
    write_json(settings.out / "directions.json", document)
    return Directions(selections, transfer, vectors)


def _among(
    name: str, asked: tuple[str, ...] | None, languages: Sequence[str]
) -> tuple[str, ...] | None:
    if missing := [x for x in asked or () if x not in languages]:
        raise LanguageError(
            f"--{name.replace('_', '-')} {', '.join(missing)}: not among the languages of this "
            f"run, {', '.join(languages)}"
        )
    return asked


def _selected(
    model: ChatModel,
    replies: BaseReplies,
    languages: Sequence[str],
    settings: DirectionsSettings,
) -> dict[str, Selection]:
    chosen = SelectionSettings(
        full_maps=settings.full_maps,
        fallback=settings.fallback,
        min_induce=settings.min_induce,
        max_kl=settings.max_kl,
        layers=settings.candidates,
        batch_tokens=settings.batch_tokens,
    )
    with progress() as bar:
        task = bar.add_task("selecting", total=len(languages))
        found: dict[str, Selection] = {}
        for language in languages:
            found |= select_directions(
                model,
                replies.prompts,
                replies.completions,
                replies.verdicts,
                chosen,
                languages=[language],
                folder=settings.out / "selection",
            )
            bar.advance(task, 1)
    for language, selection in found.items():
        if selection.direction is None:
            note(f"{language}: no refusal direction: {selection.words}")
    return found


def _kept(selection: Selection) -> list[list[bool]]:
    """Return which candidates passed every filter, ``[n_positions, n_layers]``: for pictures."""
    if selection.map is None:
        return []
    positions, n = selection.map.positions, selection.map.n_layers
    kept = [[False] * n for _ in positions]
    for candidate in selection.candidates():
        kept[positions.index(candidate.position)][candidate.layer] = candidate.removed_by is None
    return kept


def _tested(prompts: PromptSet, languages: Sequence[str]) -> tuple[str, ...]:
    """Return the languages with enough test prompts of both labels; at least one must have."""
    counts = prompts.counts()
    found = tuple(
        x for x in languages if all(counts.get((x, "test", y), 0) >= LEAST for y in LABELS)
    )
    if not found:
        require(prompts, languages, "test", at_least=LEAST)
    return found


def _transferred(
    model: ChatModel,
    test: PromptSet,
    plan: Plan,
    states: States,
    replies: BaseReplies,
    selections: Mapping[str, Selection],
    judge: Judge,
    settings: DirectionsSettings,
) -> Transfer | None:
    languages = (*plan.sources, *plan.targets)
    classes = classes_of(plan, states)
    if settings.transfer_layer is None:
        sources: dict[str, Source] = selected_sources(
            model, replies, selections, classes, settings, settings.out / "selection"
        )
    else:
        sources = mean_difference_sources(states, replies, classes, languages, settings)
    if not sources:
        note("no language has a refusal direction: there is nothing to transfer")
        return None
    with_replies = settings.transfer == "replies"
    asked = settings.reply_languages
    rows = set(settings.reply_sources or sources) & {*sources, "mean"}
    chosen = TransferSettings(
        evidence=("first_token", "replies") if with_replies else ("first_token",),
        reply_languages=None if asked is None else tuple(x for x in asked if x in test.languages),
        reply_sources=tuple(x for x in sources if x in rows),
        reply_controls=("random",),
        random_seeds=settings.controls,
        reference="en" if "en" in sources else next(iter(sources)),
        max_new_tokens=settings.max_new_tokens,
        rows=settings.rows,
        batch_tokens=settings.batch_tokens,
        seed=settings.seed,
    )
    # Also of languages that no direction is selected in; one without tokens borrows all others'.
    train = {p.key for p in replies.prompts if p.split == "train"}
    tokens = derive_tokens(
        model, [c for c in replies.completions if c.key in train], replies.verdicts
    )
    return transfer_matrix(
        model,
        test,
        sources,
        judge,
        chosen,
        settings.out / "transfer",
        tokens={x: frozenset(tokens[x].ids) for x in languages},
        limits=reply_limits(model, plan.prompts, settings.max_new_tokens),
    )
