"""The actions that are tried: words, the harmfulness direction and directions of refusal."""

from __future__ import annotations

from collections.abc import Sequence

from .action_replies import BaseReplies
from .directions import Direction, mean_difference
from .gate import Gate
from .interventions.actions import AddDirection, Nothing, ProjectOut, Say, everywhere
from .interventions.gated import harmfulness_direction
from .interventions.refusal_words import REFUSALS
from .plan import States

#: Refusals and answers that a direction between them needs, of each.
_LEAST_EXAMPLES = 4


def direction_blocks(gate: Gate, states: States) -> list[int]:
    """Return a few blocks, half-way to four fifths of the depth, that activations are stored for"""
    stored = sorted(set.intersection(*(set(s.store.layers) for s in states.stores)))
    n = gate.model.n_layers
    wanted = [round(n * share) for share in (0.5, 0.58, 0.67, 0.75)]
    return sorted({x for x in wanted if x in stored}) or stored[-1:]


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


def distinct(
    fired: Sequence[Nothing], silent: Sequence[Nothing]
) -> tuple[list[Nothing], list[Nothing]]:
    """Return both sides with each action once, by what it does (its key), under its first name.

    Replies are kept by name, so that one action under two names would be generated twice.
    """
    first: dict[str, Nothing] = {}
    sides = [{a.key: first.setdefault(a.key, a) for a in side} for side in (fired, silent)]
    return list(sides[0].values()), list(sides[1].values())


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
    return distinct(fired, silent)
