"""Cheap evidence on actions: what each does to the first token of validation prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from .action_replies import BaseReplies
from .action_search import Evidence, NothingToLearn
from .action_strata import fired_shares
from .artifacts import JsonLines, fingerprint
from .console import progress
from .first_token import FirstTokens, first_tokens, refusal_tokens
from .gate import Gate
from .interventions.actions import Nothing, Say
from .interventions.base import Intervention
from .interventions.conditional import Ungated
from .models.chat import ChatModel
from .plan import States
from .types import Prompt

#: Prompts whose first tokens are kept together.
_PORTION = 32


def evidence_on(
    model: ChatModel,
    gate: Gate,
    states: States,
    val: Sequence[Prompt],
    all_val: Sequence[Prompt],
    replies: BaseReplies,
    actions: Sequence[Nothing],
    file: Path,
) -> Evidence:
    """Apply every action to every prompt and read its first token, beside the gate's decisions.

    ``all_val`` are the prompts that ``val`` was drawn from: the gate decides on all of them.

    Raises:
        NothingToLearn: if no reply refused, or refusals begin like other replies.
    """
    keys = [p.key for p in val]
    margins = _margins(gate, states, val)
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
    found = _kept_first_tokens(model, val, ways, tokens, file)
    raises = threshold_raises(gate)
    raised = {rate: margins >= by for rate, by in raises.items()}
    everywhere = _margins(gate, states, all_val)
    shares = {rate: fired_shares(all_val, everywhere >= by) for rate, by in raises.items()}
    shares |= {None: fired_shares(all_val, everywhere >= 0)}
    return Evidence(tuple(val), margins >= 0, refused, found, raised, shares)


def _margins(gate: Gate, states: States, prompts: Sequence[Prompt]) -> np.ndarray:
    """Return scores above the thresholds ``[N]``."""
    keys = [p.key for p in prompts]
    scores = gate.score({x: states.layer(x, keys) for x in gate.layers}).numpy()
    return np.array([s - gate.threshold(p.language) for s, p in zip(scores, prompts)])


def threshold_raises(gate: Gate) -> dict[float, float]:
    """Return by how much the gate's thresholds rise for each false-alarm rate that is tried.

    Rates that the thresholds keep to already are no candidates of their own.
    """
    raises = gate.provenance.get("false_alarm_raises", {})
    return {float(rate): float(by) for rate, by in raises.items() if by > 0}


def _kept_first_tokens(
    model: ChatModel,
    val: Sequence[Prompt],
    ways: Mapping[str, Intervention],
    tokens: Mapping[str, frozenset[int]],
    file: Path,
) -> dict[str, FirstTokens]:
    """Return what every action does to every prompt's first token, reading what ``file`` holds.

    A portion of prompts is on disk before the next one starts. Each line names the model, the
    action, the prompt and the refusal tokens that it depends on.
    """
    m = model.identity

    def line_key(action: str, prompt: Prompt) -> str:
        own = sorted(tokens.get(prompt.language, frozenset()))
        return fingerprint(
            [m.weights, m.template, m.dtype, action, prompt.language, prompt.text, own]
        )

    log = JsonLines(file)
    known = {line["key"]: (line["refusal"], line["kl"]) for line in log.read()}
    names = ["base", *ways]
    with progress() as bar:
        task = bar.add_task("trying actions", total=len(val))
        for at in range(0, len(val), _PORTION):
            part = val[at : at + _PORTION]
            missing = {
                name: way
                for name, way in ways.items()
                if any(line_key(name, p) not in known for p in part)
            }
            if missing or any(line_key("base", p) not in known for p in part):
                new = first_tokens(
                    model,
                    [p.text for p in part],
                    missing,
                    [tokens.get(p.language, frozenset()) for p in part],
                    languages=[p.language for p in part],
                )
                lines = {
                    line_key(name, p): (float(found.refusal[i]), float(found.kl[i]))
                    for name, found in new.items()
                    for i, p in enumerate(part)
                }
                log.append(
                    {"key": key, "refusal": refusal, "kl": kl}
                    for key, (refusal, kl) in lines.items()
                )
                known |= lines
            bar.advance(task, len(part))
    values = {name: np.array([known[line_key(name, p)] for p in val]) for name in names}
    return {name: FirstTokens(both[:, 0], both[:, 1]) for name, both in values.items()}
