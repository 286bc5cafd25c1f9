"""Log-odds of refusal of every prompt under every edit, kept prompt by prompt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..artifacts import JsonLines, fingerprint
from ..capture import default_batch_tokens
from ..console import progress
from ..errors import StoreError
from ..models.chat import ChatModel
from ..types import Prompt
from .edits import Edit, Plan
from .growing import BASE, EditedRows, log_odds
from .measured import Measured, prompt_facts


def first_token_scores(
    model: ChatModel,
    prompts: Sequence[Prompt],
    plan: Plan,
    tokens: Mapping[str, frozenset[int]],
    file: Path,
    *,
    batch_tokens: int | None = None,
) -> Measured:
    """Return the first token's refusal log-odds (nats) of every prompt and edit.

    Only what ``file`` lacks is computed; each prompt's line is on disk before the next prompt
    starts. Lines carry a key of model, prompt text and refusal tokens, and scores by what the edit
    does, so that another name or one more source leaves them valid. A language without refusal
    tokens and a prompt longer than the context have no score. Source: arXiv 2406.11717.

    Raises:
        StoreError: if the file is damaged or cannot be written.
    """
    log = JsonLines(file)
    keys = {p.key: _key(model, p, tokens.get(p.language, frozenset())) for p in prompts}
    known = _known(log, {*keys.values()})
    edits = {
        p.key: [e for e in plan.edits.values() if e.wanted(p.language, p.label)] for p in prompts
    }
    usable = [p for p in prompts if tokens.get(p.language)]
    lengths = dict(zip((p.key for p in usable), model.encode([p.text for p in usable]).lengths))
    limit = model.context_length or math.inf
    todo = []
    # The longest first: what does not fit the memory fails at once.
    for prompt in sorted(usable, key=lambda p: -lengths[p.key]):
        have = known.get(keys[prompt.key], {})
        missing = {e.key: e for e in edits[prompt.key] if e.key not in have}
        if lengths[prompt.key] <= limit and (missing or BASE not in have):
            todo.append((prompt, [*missing.values()]))
    if todo:
        rows = EditedRows(model, batch_tokens or default_batch_tokens(model))
        with progress() as bar:
            task = bar.add_task("first tokens", total=sum(1 + len(own) for _, own in todo))
            for prompt, own in todo:
                made = _scores(rows, prompt, own, tokens[prompt.language])
                known.setdefault(keys[prompt.key], {}).update(made)
                line = {"prompt": prompt.key, "key": keys[prompt.key], "scores": made}
                log.append([line])
                bar.advance(task, 1 + len(own))
    return _measured(prompts, plan, [known.get(keys[p.key], {}) for p in prompts], edits, tokens)


def _scores(
    rows: EditedRows, prompt: Prompt, edits: Sequence[Edit], tokens: frozenset[int]
) -> dict[str, float | None]:
    found = rows.logits(prompt.text, edits)
    by_key = {BASE: found[BASE], **{e.key: found[e.name] for e in edits}}
    values = zip(by_key, log_odds(torch.stack([*by_key.values()]), tokens))
    return {key: value if math.isfinite(value) else None for key, value in values}


def _known(log: JsonLines, wanted: set[str]) -> dict[str, dict[str, float | None]]:
    """Return stored scores by key; lines of other prompts, tokens or models are left alone."""
    found: dict[str, dict[str, float | None]] = {}
    for number, line in enumerate(log.read(), 1):
        if not isinstance(line.get("scores"), dict):
            raise StoreError(f"{log.path}, line {number} holds no scores; remove the file")
        if line.get("key") in wanted:
            found.setdefault(line["key"], {}).update(line["scores"])
    return found


def _measured(
    prompts: Sequence[Prompt],
    plan: Plan,
    scores: Sequence[Mapping[str, Any]],
    edits: Mapping[str, Sequence[Edit]],
    tokens: Mapping[str, frozenset[int]],
) -> Measured:
    languages, labels, groups = prompt_facts(prompts)
    number = lambda x: math.nan if x is None else float(x)  # noqa: E731
    edited = {name: np.full(len(prompts), np.nan) for name in plan.edits}
    for i, prompt in enumerate(prompts):
        for edit in edits[prompt.key]:
            edited[edit.name][i] = number(scores[i].get(edit.key))
    skipped = {
        language: f"no refusal tokens are known for {language}, so its log-odds are undefined"
        for language in dict.fromkeys(languages)
        if not tokens.get(language)
    }
    base = np.array([number(s.get(BASE)) for s in scores])
    return Measured("first_token", languages, labels, groups, base, edited, skipped=skipped)


def _key(model: ChatModel, prompt: Prompt, tokens: frozenset[int]) -> str:
    m = model.identity
    return fingerprint([m.weights, m.template, m.dtype, prompt.text, sorted(tokens)])
