"""Treatments that several methods share: a fixed refusal, chosen actions, the paper's actions."""

from __future__ import annotations

from ..action_file import Actions
from ..gate import Gate
from ..interventions.actions import AddDirection, ProjectOut, Say
from ..interventions.gated import harmfulness_direction
from ..interventions.refusal_words import REFUSALS
from .contenders import UNTOUCHED, Treatment


def fixed_refusal() -> Treatment:
    """Return the fixed refusal in the prompt's language."""
    return Treatment("fixed-refusal", Say("fixed-refusal", texts=REFUSALS, final=True))


def sides(actions: Actions) -> tuple[Treatment, Treatment]:
    """Return a pair of actions as treatments."""
    return tuple(
        UNTOUCHED if action.key == "none" else Treatment(action.name, action)
        for action in (actions.fired, actions.silent)
    )  # type: ignore[return-value]


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
