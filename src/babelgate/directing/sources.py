"""Directions of every language from stored states: for transfer, and for files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch

from ..action_replies import BaseReplies
from ..capture import capture
from ..config import DirectionsSettings
from ..directions import Direction
from ..models.chat import ChatModel
from ..plan import Plan, States
from ..refusal import Selection
from ..refusal.examples import choose_examples
from ..transfer.sources import Classes, Source, source_from_states
from ..types import Prompt
from ..vectors import NamedDirection, named_direction

#: Prompts per class below which a direction is not made.
LEAST = 4

#: Harmful and harmless train states of one language at a block.
ClassesAt = Mapping[str, tuple[list[str], list[str]]]


def classes_of(plan: Plan, states: States) -> dict[str, tuple[list[str], list[str]]]:
    """Return each language's (harmful, harmless) train prompt keys that have states."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    for language in (*plan.sources, *plan.targets):
        own = [
            p
            for p in plan.prompts
            if p.language == language and p.split == "train" and p.key not in states.excluded
        ]
        found[language] = (
            [p.key for p in own if p.harmful],
            [p.key for p in own if not p.harmful],
        )
    return found


def refused_and_answered(replies: BaseReplies, language: str) -> tuple[list[Prompt], list[Prompt]]:
    """Return one language's train prompts that are harmful and refused, and harmless and answered.

    As published (arXiv 2406.11717): what the model did not treat as intended is left out.
    """
    outcome = replies.outcomes
    own = [p for p in replies.prompts if p.language == language and p.split == "train"]
    return (
        [p for p in own if p.harmful and outcome[p.key] == "refused"],
        [p for p in own if not p.harmful and outcome[p.key] == "answered"],
    )


def selected_sources(
    model: ChatModel,
    replies: BaseReplies,
    selections: Mapping[str, Selection],
    classes: ClassesAt,
    settings: DirectionsSettings,
    folder: Path,
) -> dict[str, Source]:
    """Return the selected directions with controls from states at the same block and position."""
    chosen = {
        x: d for x, s in selections.items() if (d := s.direction) is not None and d.layer >= 0
    }
    if not chosen:
        return {}
    by_key = {p.key: p for p in replies.prompts}
    train = [p for p in by_key.values() if p.split == "train"]
    states = capture(
        model,
        train,
        folder / "controls",
        layers=sorted({d.layer for d in chosen.values()}),
        positions=sorted({d.position for d in chosen.values()}),
        batch_tokens=settings.batch_tokens,
    )
    usable = [p for p in train if p.key not in states.excluded]
    found: dict[str, Source] = {}
    for language, direction in chosen.items():
        selection = selections[language]

        def at(prompts: Sequence[Prompt], direction: Direction = direction) -> torch.Tensor:
            return states.select(p.key for p in prompts).layer(direction.layer, direction.position)

        own = [p for p in usable if p.language == language]
        examples = choose_examples(
            [p for p in by_key.values() if p.language == language],
            replies.outcomes,
            selection.settings,
        )
        high = [p for p in examples.train_harmful if p.key not in states.excluded]
        low = [p for p in examples.train_harmless if p.key not in states.excluded]
        others: list[Classes] = []
        for code in classes:
            sides = tuple(
                [p for p in usable if p.language == code and p.harmful is harmful]
                for harmful in (True, False)
            )
            if code != language and all(sides):
                others.append((at(sides[0]), at(sides[1])))
        mine = [p for p in own if p.harmful], [p for p in own if not p.harmful]
        controls = source_from_states(
            at(high),
            at(low),
            language=language,
            layer=direction.layer,
            position=direction.position,
            own=(at(mine[0]), at(mine[1])) if all(mine) else None,
            others=others,
            shuffles=settings.controls,
            seed=settings.seed,
        )
        found[language] = Source(
            direction, selection.strength, controls.shuffled, controls.identity
        )
    return found


def mean_difference_sources(
    states: States,
    replies: BaseReplies,
    classes: ClassesAt,
    languages: Sequence[str],
    settings: DirectionsSettings,
) -> dict[str, Source]:
    """Return every language's refused minus answered direction at one block and ``t_post``.

    Where a language has too few of either side, harmful minus harmless, as its method says.
    """
    layer = settings.transfer_layer
    assert layer is not None
    read = {x: (states.layer(layer, a), states.layer(layer, b))
            for x, (a, b) in classes.items() if a and b}  # fmt: skip
    found: dict[str, Source] = {}
    for language in languages:
        high, low = refused_and_answered(replies, language)
        method = "refused - answered"
        if min(len(high), len(low)) >= LEAST:
            pair = (
                states.layer(layer, [p.key for p in high]),
                states.layer(layer, [p.key for p in low]),
            )
        elif settings.fallback and language in read:
            pair, method = read[language], "harmful - harmless"
        else:
            continue
        found[language] = source_from_states(
            *pair,
            language=language,
            layer=layer,
            method=method,
            own=read.get(language),
            others=[read[x] for x in read if x != language],
            shuffles=settings.controls,
            seed=settings.seed,
        )
    return found


def measured_directions(
    plan: Plan, states: States, replies: BaseReplies, selections: Mapping[str, Selection]
) -> Iterator[NamedDirection]:
    """Yield harmfulness and refusal directions at ``t_post`` of every block, and the selected ones.

    ``harmfulness/LANGUAGE`` (harmful minus harmless), ``refusal/LANGUAGE`` (harmful refused minus
    harmless answered) and ``selected/LANGUAGE`` (the published selection), in units of the stream.
    """
    classes = classes_of(plan, states)
    layers = states.stores[0].store.layers
    sides: dict[str, tuple[str, list[str], list[str]]] = {}
    for language, (harmful, harmless) in classes.items():
        high, low = refused_and_answered(replies, language)
        for name, a, b in (
            ("harmfulness", harmful, harmless),
            ("refusal", [p.key for p in high], [p.key for p in low]),
        ):
            if min(len(a), len(b)) >= LEAST:
                sides[f"{name}/{language}"] = language, a, b
    for layer in layers:
        for name, (language, a, b) in sides.items():
            gap = states.layer(layer, a).double().mean(0) - states.layer(layer, b).double().mean(0)
            harm = name.startswith("harmfulness")
            yield named_direction(
                name,
                gap,
                layer=layer,
                position="t_post",
                method="harmful - harmless" if harm else "harmful refused - harmless answered",
                source=language,
                language=language,
                examples={"positive": len(a), "negative": len(b)},
            )
    for language, selection in selections.items():
        direction = selection.direction
        if direction is not None and direction.layer >= 0:
            yield NamedDirection(
                f"selected/{language}",
                direction,
                selection.strength,
                "mean_difference",
                language,
                dict(selection.examples),
            )
