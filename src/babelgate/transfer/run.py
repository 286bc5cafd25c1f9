"""A transfer matrix of a model: measured edit by edit, resumable, and summed up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ..completions import reply_limits
from ..directions import Direction
from ..errors import UserError
from ..first_token import refusal_tokens
from ..judges import Judge
from ..models.chat import ChatModel
from ..types import Prompt, PromptSet
from .edits import Plan, plan_edits
from .matrix import BaseRates, base_rates, draw, matrix_cells
from .measured import Measured
from .native import native_against
from .replies import Base, base_replies, measured_replies, reply_scores
from .results import SourceFacts, Transfer
from .scores import first_token_scores
from .settings import TransferSettings
from .sources import Source


def transfer_matrix(
    model: ChatModel,
    prompts: PromptSet | Sequence[Prompt],
    directions: Mapping[str, Direction | Source],
    judge: Judge | None,
    settings: TransferSettings,
    folder: Path,
    *,
    tokens: Mapping[str, frozenset[int]] | None = None,
    base: Base | None = None,
    limits: Mapping[str, int] | None = None,
) -> Transfer:
    """Return the effect of every language's direction on every language's prompts.

    Languages of ``directions`` are the rows, those of ``prompts`` the columns; harmful and harmless
    prompts are told apart by their labels. A bare :class:`Direction` has no length, so it is only
    projected out, and beside random controls alone.

    Args:
        judge: of replies; None where replies are neither evidence nor needed for refusal tokens.
        folder: what it holds of the same model, prompts and directions is kept, so that a killed
            run goes on where it stopped and another language computes its own row and column.
        tokens: first tokens of refusals per language; from the untouched model's own judged replies
            by default.
        base: the untouched model's judged replies to the same prompts in the same order, where they
            are there already; made with ``limits`` as their lengths.
        limits: reply length per language; ``settings.max_new_tokens`` by fertility by default.

    Raises:
        UserError: for directions that do not fit the model, no prompts, or a judge that is needed.
        StoreError: if a file of the folder is damaged or cannot be written.
    """
    asked = tuple(prompts)
    sources = {k: d if isinstance(d, Source) else Source(d) for k, d in directions.items()}
    _check(model, asked, sources, settings)
    targets = tuple(dict.fromkeys(p.language for p in asked))
    plan = plan_edits(sources, targets, settings)
    lengths = limits or reply_limits(model, asked, settings.max_new_tokens)
    if base is None and ("replies" in settings.evidence or tokens is None):
        files = folder / "replies" / "base"
        base = base_replies(
            model, asked, _needed(judge), files / "completions.jsonl", files / "verdicts.jsonl",
            limits=lengths, rows=settings.rows,
        )  # fmt: skip
    _check_base(base, asked)
    rates: BaseRates = {}
    if base is not None:
        rates = base_rates(measured_replies(asked, base.outcomes, {}, {}))
        if tokens is None:
            tokens = refusal_tokens(model, base.completions, base.verdicts)
    found: list[Measured] = []
    if "first_token" in settings.evidence:
        file = folder / "first_token.jsonl"
        found.append(
            first_token_scores(
                model, asked, plan, tokens or {}, file, batch_tokens=settings.batch_tokens
            )
        )
    if "replies" in settings.evidence:
        assert base is not None
        found.append(
            reply_scores(
                model, asked, plan, _needed(judge), base, settings, folder / "replies",
                limits=lengths,
            )
        )  # fmt: skip
    return summed_up(model, judge, sources, plan, targets, settings, found, rates, tokens or {})


def summed_up(
    model: ChatModel,
    judge: Judge | None,
    sources: Mapping[str, Source],
    plan: Plan,
    targets: tuple[str, ...],
    settings: TransferSettings,
    found: Sequence[Measured],
    rates: BaseRates,
    tokens: Mapping[str, frozenset[int]],
) -> Transfer:
    """Return the matrices of what was measured, with notes on what they lack."""
    cells, native = [], []
    for measured in found:
        resamples = draw(measured, settings)
        cells += matrix_cells(measured, plan, targets, settings, rates, resamples)
        native += native_against(measured, plan, targets, settings, resamples)
    return Transfer(
        asdict(model.identity),
        None if judge is None else {"name": judge.name, "version": judge.version},
        tuple(_facts(language, source) for language, source in sources.items()),
        targets,
        tuple(cells),
        tuple(native),
        {language: tuple(sorted(tokens.get(language, ()))) for language in targets},
        asdict(settings),
        tuple(_notes(sources, targets, rates, tokens, settings)),
    )


def _facts(language: str, source: Source) -> SourceFacts:
    d = source.direction
    length = math.nan if source.length is None else source.length
    return SourceFacts(language, d.layer, d.position, d.method, d.source, length)


def _notes(
    sources: Mapping[str, Source],
    targets: Sequence[str],
    rates: BaseRates,
    tokens: Mapping[str, frozenset[int]],
    settings: TransferSettings,
) -> list[str]:
    """Return what a reader of the matrices must know."""
    found = []
    for what, lacking in (
        ("a length, and were not added", [k for k, s in sources.items() if s.length is None]),
        ("shuffled-label controls", [k for k, s in sources.items() if not s.shuffled]),
        ("a language-identity control", [k for k, s in sources.items() if s.identity is None]),
    ):
        if lacking:
            found.append(f"directions without {what}: {', '.join(lacking)}")
    if settings.control_scope == "layer":
        found.append(
            "random and shuffled controls are shared by the directions of a block and are as long "
            "as the longest of them"
        )
    shown = {(x, label): rates[x, label] for x, label in rates if x in targets}
    never = [x for x in targets if shown.get((x, "harmful")) == 0]
    always = [x for x in targets if all(shown.get((x, y)) == 1 for y in ("harmful", "harmless"))]
    if never:
        found.append(f"the untouched model refuses no harmful prompt in {', '.join(never)}")
    if always:
        found.append(f"the untouched model refuses every prompt in {', '.join(always)}")
    own = [tokens[x] for x in targets if x in tokens]
    if own and len(set(own)) < len(own):
        found.append(
            "some languages have the same refusal tokens; those derived from replies are every "
            "language's together where a language has too few refusals of its own"
        )
    return found


def _needed(judge: Judge | None) -> Judge:
    if judge is None:
        raise UserError(
            "a judge is needed: replies are evidence here, or refusal tokens come from them; give "
            "one, or give the tokens and ask for first_token evidence only"
        )
    return judge


def _check(
    model: ChatModel,
    prompts: Sequence[Prompt],
    sources: Mapping[str, Source],
    settings: TransferSettings,
) -> None:
    if not prompts:
        raise UserError("there are no prompts to measure transfer on")
    if len({p.key for p in prompts}) < len(prompts):
        raise UserError("prompts share a key; language and id together must be unique")
    n, size = len(model.blocks), model.identity.d_model
    for language, source in sources.items():
        d = source.direction
        if not 0 <= d.layer < n:
            raise UserError(
                f"the direction of {language} is of block {d.layer}; this model has 0 to {n - 1}"
            )
        if len(d.vector) != size:
            raise UserError(
                f"the direction of {language} has {len(d.vector)} numbers; this model has {size}"
            )
        if not np.isfinite(d.vector.numpy()).all():
            raise UserError(f"the direction of {language} holds numbers that are not finite")
    languages = {p.language for p in prompts}
    if unknown := set(settings.reply_languages or ()) - languages:
        raise UserError(
            f"reply_languages {sorted(unknown)} have no prompts; there are {sorted(languages)}"
        )
    if unknown := set(settings.reply_sources or ()) - {*sources, "mean"}:
        raise UserError(
            f"reply_sources {sorted(unknown)} have no direction; there are {sorted(sources)}"
        )


def _check_base(base: Base | None, prompts: Sequence[Prompt]) -> None:
    if base is None:
        return
    keys = [p.key for p in prompts]
    if [c.key for c in base.completions] != keys or [v.key for v in base.verdicts] != keys:
        raise UserError("the base replies are not those of the prompts, in the same order")
