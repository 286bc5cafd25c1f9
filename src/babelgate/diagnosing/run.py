"""The job behind `babelgate diagnose`: activations, replies, geometry, what breaks. Resumable."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import calibration
from ..action_replies import BaseReplies
from ..artifacts import fingerprint, timed, write_json
from ..breaks import Breaks, breaks_of
from ..capture_languages import capture_languages
from ..comparing.fitted import FittedGate
from ..config import CalibrateSettings, DiagnoseSettings
from ..console import note, progress
from ..errors import StoreError, UserError
from ..fit_data import threshold_prompts
from ..geometry.driver import pairwise_geometry
from ..geometry.results import Geometry, LayerGeometry
from ..geometry.table import PromptTable
from ..geometry.table import Settings as GeometrySettings
from ..judges.choosing import chosen_judge
from ..models.chat import ChatModel
from ..plan import Plan, States, candidate_layers
from ..results import Results, load_results
from ..run_files import open_run
from ..types import Outcome, PromptSet, contrast_members
from ..untouched import POSITIONS, untouched_replies
from .evidence import Decided, evidence_of


@dataclass(frozen=True)
class Diagnosed:
    """What a diagnosis found."""

    breaks: Breaks
    geometry: Geometry


def diagnose(model: ChatModel, prompts: PromptSet, settings: DiagnoseSettings) -> Diagnosed:
    """Say where each language fails, and write ``geometry.json`` and ``breaks.json``.

    Stages: activations at ``t_inst`` and ``t_post`` (train and val prompts), the untouched model's
    judged replies to some of them, the geometry layer by layer, a gate fitted on the sources, and
    the evidence of each step. Each resumes. An evaluation in the run folder (``results.json``) is
    used where there is one.

    Raises:
        PromptError: if a source language lacks train or val prompts.
        LanguageError: for a source or target without prompts.
        UserError: for layers that the model lacks.
        StoreError: if activations or results cannot be stored.
    """
    own = settings.calibration()
    plan = Plan.of(prompts, own)
    layers = _layers(model, settings)
    pivot = _pivot(plan, settings)
    run = open_run(settings.out, "diagnose", settings, model, prompts)
    with timed() as seconds:
        states = capture_languages(
            model,
            plan.prompts,
            settings.out / "states",
            # The gate may read blocks whose geometry was not asked for.
            layers=sorted({*layers, *candidate_layers(model.identity.n_layers, own)}),
            positions=POSITIONS,
            batch_tokens=settings.batch_tokens,
        )
    run.set_done("states", plan.prompts.fingerprint(), seconds[0], prompts=len(plan.prompts))
    for reason, n in states.exclusions().items():
        run.note(f"{n} prompts were left out of the diagnosis: {reason}.")
    with timed() as seconds:
        replies = _replies(model, plan, states, settings)
    run.set_done("replies", plan.prompts.fingerprint(), seconds[0],
                 replies=0 if replies is None else len(replies.prompts))  # fmt: skip
    fitted = _fitted(model, plan, states, own)
    with timed() as seconds:
        geometry = _geometry(model, plan, states, replies, fitted, layers, pivot, settings)
    run.set_done("geometry", plan.prompts.fingerprint(), seconds[0], layers=len(layers))
    # What is written counts, rounded as it is, so that a resumed run says exactly the same.
    geometry = Geometry.from_json(geometry.to_json())
    write_json(settings.out / "geometry.json", geometry.to_json())
    decided = {x: _decided(x, fitted, replies) for x in (*plan.sources, *plan.targets)}
    results = _results(settings.out)
    breaks = breaks_of(
        evidence_of(x, decided[x], geometry, results, seed=settings.seed)
        for x in (*plan.sources, *plan.targets)
    )
    write_json(settings.out / "breaks.json", breaks.to_json())
    return Diagnosed(breaks, geometry)


def _layers(model: ChatModel, settings: DiagnoseSettings) -> list[int]:
    n = model.identity.n_layers
    if settings.layers is None:
        return list(range(n))
    layers = sorted(set(settings.layers))
    if not layers or layers[0] < 0 or layers[-1] >= n:
        raise UserError(f"layers {list(settings.layers)}: this model has blocks 0 to {n - 1}")
    return layers


def _pivot(plan: Plan, settings: DiagnoseSettings) -> str:
    languages = (*plan.sources, *plan.targets)
    if settings.pivot is None:
        return "en" if "en" in languages else languages[0]
    if settings.pivot not in languages:
        raise UserError(
            f"the pivot language {settings.pivot} has no prompts; there are {', '.join(languages)}"
        )
    return settings.pivot


def _replies(
    model: ChatModel, plan: Plan, states: States, settings: DiagnoseSettings
) -> BaseReplies | None:
    if settings.reply_prompts == 0:
        return None
    with chosen_judge(settings, device=settings.device) as judge:
        return untouched_replies(model, plan, states, judge, settings)


def _fitted(
    model: ChatModel, plan: Plan, states: States, settings: CalibrateSettings
) -> FittedGate:
    found = calibration.run(plan, states, model.identity, settings)
    return FittedGate.of(found.gate, plan, states, settings)


def _geometry(
    model: ChatModel,
    plan: Plan,
    states: States,
    replies: BaseReplies | None,
    fitted: FittedGate,
    layers: Sequence[int],
    pivot: str,
    settings: DiagnoseSettings,
) -> Geometry:
    """Compute the geometry layer by layer; layers that are on disk are read back."""
    usable = [p for p in plan.prompts if p.key not in states.excluded]
    keys = [p.key for p in usable]
    outcomes: list[Outcome | None] | None = None
    if replies is not None:
        outcomes = [replies.outcomes.get(k) for k in keys]
    table = PromptTable.of(usable, model.encode([p.text for p in usable]).lengths, outcomes)
    last = max(fitted.gate.layers)
    chosen = GeometrySettings(pivot=pivot, seed=settings.seed, projection_layers=(last,))
    key = fingerprint(
        [plan.prompts.fingerprint(), sorted(states.excluded), outcomes, plan.sources, pivot,
         settings.seed, last, POSITIONS, model.identity.weights, model.identity.template,
         model.identity.dtype]
    )  # fmt: skip
    folder = settings.out / "geometry" / key
    done = {x: found for x in layers if (found := _kept(folder / f"{x}.json")) is not None}
    with progress() as bar:
        task = bar.add_task("geometry", total=len(layers))
        return pairwise_geometry(
            lambda layer, position: states.layer(layer, keys, position),  # type: ignore[arg-type]
            table,
            layers=layers,
            positions=POSITIONS,
            sources=plan.sources,
            settings=chosen,
            done=done,
            threads=min(2, os.cpu_count() or 1),
            on_layer=lambda _: bar.advance(task, 1),
            save=lambda one: write_json(folder / f"{one.layer}.json", one.to_json()),
        )


def _kept(path: Path) -> LayerGeometry | None:
    if not path.exists():
        return None
    try:
        return LayerGeometry.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (StoreError, OSError, ValueError) as error:
        note(f"{path.name} is computed again: {error}")
        return None


def _decided(language: str, fitted: FittedGate, replies: BaseReplies | None) -> Decided | None:
    fitter = fitted.fitter
    pool = threshold_prompts(fitter.data.pool(language, "val"))
    if not pool:
        return None
    scores = fitter.scores(fitted.choice.layers, fitted.choice.l2, [language])[language]
    told: Mapping[str, Outcome] = {} if replies is None else replies.outcomes
    twins = fitter.data.sides(contrast_members(fitter.data.pool(language, "val"), "twins"))
    return Decided(
        tuple(pool),
        np.array([scores[fitter.data.row[p.key]] for p in pool]),
        fitted.statistics.threshold,
        fitted.gate.threshold(language),
        tuple(told.get(p.key) for p in pool),
        (scores[twins[0]], scores[twins[1]]),
    )


def _results(out: Path) -> Results | None:
    return load_results(out) if (out / "results.json").exists() else None
