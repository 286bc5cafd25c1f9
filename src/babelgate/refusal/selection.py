"""Selecting one language's refusal direction, from prompts and judged replies to the choice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from ..artifacts import fingerprint
from ..capture import Activations, capture, post_instruction_positions
from ..directions import Direction
from ..errors import UserError
from ..models.chat import ChatModel
from ..types import Completion, Outcome, Position, Prompt, Verdict
from .choice import choose, late
from .edits import attention_writes
from .examples import Examples, choose_examples
from .passes import Passes
from .results import Selection, SelectionMap, Status
from .scoring import Journal, OnProgress, score_candidates
from .settings import SelectionSettings
from .tokens import RefusalTokens, derive_tokens


def select_directions(
    model: ChatModel,
    prompts: Sequence[Prompt],
    completions: Sequence[Completion],
    verdicts: Sequence[Verdict],
    settings: SelectionSettings | None = None,
    *,
    languages: Iterable[str] | None = None,
    folder: Path | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, Selection]:
    """Select a direction for every language of the prompts, each from its own replies.

    ``completions`` and ``verdicts`` are the untouched model's judged replies to train and val
    prompts. Refusal tokens come from those to train prompts in all languages, also where
    ``languages`` names a few to select in: one without tokens of its own borrows them. With a
    folder each language keeps its work in a folder of its name.

    Raises:
        UserError: for a language without replies to train prompts.
    """
    train = {p.key for p in prompts if p.split == "train"}
    tokens = derive_tokens(model, [c for c in completions if c.key in train], verdicts)
    outcomes: dict[str, Outcome] = {v.key: v.outcome for v in verdicts}
    found = {}
    wanted = (p.language for p in prompts) if languages is None else languages
    for language in dict.fromkeys(wanted):
        own = [p for p in prompts if p.language == language]
        if language not in tokens:
            raise UserError(
                f"language {language!r} has no replies to train prompts; generate and judge the "
                "untouched model's replies to them first"
            )
        found[language] = select_direction(
            model, own, outcomes, tokens[language], settings,
            folder=None if folder is None else folder / language, on_progress=on_progress,
        )  # fmt: skip
    return found


def select_direction(
    model: ChatModel,
    prompts: Sequence[Prompt],
    outcomes: Mapping[str, Outcome],
    tokens: RefusalTokens,
    settings: SelectionSettings | None = None,
    *,
    folder: Path | None = None,
    on_progress: OnProgress | None = None,
) -> Selection:
    """Select one language's refusal direction by bypass, induce and KL scores.

    Candidates are ``mean(refused harmful) - mean(answered harmless)`` of train prompts at every
    post-instruction token and the input of every block; scores are of val prompts. A language
    without enough examples, or in which no candidate passes the filters, gives a result without a
    direction that says why.

    Args:
        prompts: train and val prompts of one language.
        outcomes: of the untouched model's replies, by prompt key.
        tokens: the language's refusal tokens (:func:`babelgate.refusal.derive_tokens`).
        folder: where activations and finished scores are kept; a killed run goes on there.
        on_progress: called with stage, candidates done and candidates in all.

    Raises:
        UserError: for prompts of several languages, or a layer that the model lacks.

    Source: arXiv 2406.11717, section 2.3 and appendix C; across languages arXiv 2505.17306.
    """
    settings = settings or SelectionSettings()
    n_layers = len(model.blocks)
    languages = list(dict.fromkeys(p.language for p in prompts))
    if len(languages) > 1:
        raise UserError(f"prompts of one language are expected; these are of {languages}")
    if bad := [x for x in settings.layers or () if not 0 <= x < n_layers]:
        raise UserError(f"layer {bad[0]}: this model has blocks 0 to {n_layers - 1}")
    fitting, notes = _fitting(model, prompts)
    found = choose_examples(fitting, outcomes, settings)
    language = tokens.language

    def without(status: Status, words: str) -> Selection:
        return Selection(
            language, status, words, found.contrast, settings, tokens, found.counts(),
            notes=(*notes, *found.notes),
        )  # fmt: skip

    if found.lack is not None:
        return without(found.lack, found.words)
    if not tokens.ids:
        return without("no_tokens", "no token tells refusals from other replies in any language")
    with nullcontext(folder) if folder is not None else TemporaryDirectory() as place:
        positions = post_instruction_positions(model)
        states = _capture(model, found, positions, settings, Path(place) / "activations")
        found, dropped = _usable(found, states)
        notes = [*notes, *dropped, *_notes(model, tokens)]
        if min(len(found.train_harmful), len(found.train_harmless)) < settings.min_examples:
            return without("too_few_examples", "too few train prompts have finite activations")
        vectors = candidate_vectors(states, found, positions, n_layers, settings)
        journal = Journal(
            None if folder is None else folder / "scores.jsonl",
            _key(model, found, tokens, settings, vectors),
        )
        harmful = Passes(model, [p.text for p in found.val_harmful], settings.batch_tokens)
        harmless = Passes(model, [p.text for p in found.val_harmless], settings.batch_tokens)
        scores = score_candidates(
            vectors, harmful, harmless, tokens.ids, settings, journal, on_progress
        )
    scored = SelectionMap(
        positions,
        tuple(_position_texts(model, len(positions))),
        vectors.double().norm(dim=-1).numpy(),
        scores.induce, scores.kl, scores.kl_at_least, scores.bypass,
        scores.base_harmful, scores.base_harmless,
    )  # fmt: skip
    return _result(found, settings, tokens, scored, vectors, notes)


def _result(
    examples: Examples,
    settings: SelectionSettings,
    tokens: RefusalTokens,
    scored: SelectionMap,
    vectors: torch.Tensor,
    notes: Sequence[str],
) -> Selection:
    chosen, removed, n_passed = choose(scored, settings)
    direction = None
    if chosen is None:
        counted = ", ".join(f"{name} removes {n}" for name, n in removed.items() if n)
        words = f"no candidate passes the filters: {counted or 'there is none'}"
        if removed.get("induce") and np.isfinite(scored.induce).any():
            words += (
                f"; the highest induce score is {np.nanmax(scored.induce):.2f}, the filter asks "
                f"for more than {settings.min_induce:g}"
            )
    else:
        vector = vectors[scored.positions.index(chosen.position), chosen.layer].double()
        direction = Direction(
            (vector / vector.norm()).float(), chosen.after_block, chosen.position,
            f"selected {examples.contrast}", tokens.language,
        )  # fmt: skip
        words = (
            f"the input of block {chosen.layer} at {chosen.position}: bypass {chosen.bypass:.2f} "
            f"(untouched {scored.base_harmful:.2f}), induce {chosen.induce:.2f} "
            f"(untouched {scored.base_harmless:.2f}), KL {chosen.kl:.3f} nats"
        )
    return Selection(
        tokens.language, "none_passes" if chosen is None else "selected", words, examples.contrast,
        settings, tokens, examples.counts(), scored, removed, n_passed, chosen, direction,
        (*notes, *examples.notes),
    )  # fmt: skip


def candidate_vectors(
    states: Activations,
    examples: Examples,
    positions: Sequence[Position],
    n_layers: int,
    settings: SelectionSettings,
) -> torch.Tensor:
    """Return ``mean(refused harmful) - mean(answered harmless)``, ``[n_positions, n_layers, d]``.

    Entry l is of the input of block l, which is stored as the output of block l - 1. Means are
    taken in float64. Entry 0 is 0: what the embedding makes of the template's tokens is the same in
    every prompt. Entries that no filter can pass are NaN unless all maps are wanted.
    """
    yes = states.select(p.key for p in examples.train_harmful)
    no = states.select(p.key for p in examples.train_harmless)
    vectors = torch.full((len(positions), n_layers, states.store.d_model), torch.nan)
    vectors[:, 0] = 0
    for i, position in enumerate(positions):
        for block in states.store.layers:
            high = yes.layer(block, position).double().mean(0)
            vectors[i, block + 1] = (high - no.layer(block, position).double().mean(0)).float()
    return vectors


def _capture(
    model: ChatModel,
    examples: Examples,
    positions: tuple[Position, ...],
    settings: SelectionSettings,
    folder: Path,
) -> Activations:
    n = len(model.blocks)
    layers = [
        layer - 1
        for layer in (settings.layers if settings.layers is not None else range(n))
        if layer > 0 and (settings.full_maps or not late(layer, n, settings))
    ]
    return capture(
        model,
        [*examples.train_harmful, *examples.train_harmless],
        folder,
        # With nothing to look at, one block keeps the shapes; its candidates are not asked for.
        layers=sorted(set(layers)) or [0],
        positions=positions,
        batch_tokens=settings.batch_tokens,
    )


def _fitting(model: ChatModel, prompts: Sequence[Prompt]) -> tuple[list[Prompt], list[str]]:
    """Return the prompts that fit the context, and a note of those that do not."""
    limit = model.context_length
    if limit is None or not prompts:
        return list(prompts), []
    lengths = model.encode([p.text for p in prompts]).lengths
    kept = [p for p, n in zip(prompts, lengths) if n <= limit]
    n = len(prompts) - len(kept)
    return kept, [f"{n} prompts are longer than the context of {limit}: left out"] if n else []


def _usable(examples: Examples, states: Activations) -> tuple[Examples, list[str]]:
    """Return the examples without train prompts that have no activations, and a note of those."""
    from dataclasses import replace

    if not states.excluded:
        return examples, []
    kept = replace(
        examples,
        train_harmful=tuple(p for p in examples.train_harmful if p.key not in states.excluded),
        train_harmless=tuple(p for p in examples.train_harmless if p.key not in states.excluded),
    )
    return kept, [f"{len(states.excluded)} train prompts have no finite activations: left out"]


def _notes(model: ChatModel, tokens: RefusalTokens) -> list[str]:
    notes = []
    if not model.template.closing:
        notes.append(
            "the chat template has no tokens after the user's text: the prompt's last token is the "
            "only position"
        )
    if tokens.borrowed:
        notes.append("no refusal tokens of its own: those of all languages are used")
    if attention_writes(model.blocks) is None:
        notes.append(
            "the attention of this architecture is not known: directions are projected out of "
            "blocks' inputs and outputs only"
        )
    return notes


def _position_texts(model: ChatModel, n: int) -> list[str]:
    closing = model.template.closing or model.encode(["a"]).ids[0][-1:]
    return [model.tokenizer.decode([token]) for token in closing[len(closing) - n :]]


def _key(
    model: ChatModel,
    examples: Examples,
    tokens: RefusalTokens,
    settings: SelectionSettings,
    vectors: torch.Tensor,
) -> str:
    """Return a fingerprint of all that scores depend on, and of what is computed at all."""
    m = model.identity
    content = np.ascontiguousarray(vectors.numpy()).tobytes()
    return fingerprint(
        [
            [m.weights, m.template, m.dtype, m.n_layers],
            [[p.key, p.text] for p in (*examples.val_harmful, *examples.val_harmless)],
            [len(examples.val_harmful), sorted(tokens.ids)],
            settings.to_json(),
            hashlib.sha256(content).hexdigest(),
        ]
    )
