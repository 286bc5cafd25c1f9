"""The job behind `babelgate thresholds`: activations in, a threshold study and its picture out."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .artifacts import timed, write_text
from .capture_languages import capture_languages
from .config import CalibrateSettings
from .fit import Fitter
from .fit_data import Data
from .models.chat import ChatModel
from .plan import Plan, States, candidate_layers
from .report.figures_study import study_figure, study_markdown
from .run_files import open_run
from .study_results import StudyMean, StudyResults, StudyRow
from .threshold_study import RANKS, SHOTS, Readout, Study, run_study
from .types import PromptSet


@dataclass(frozen=True)
class StudyOptions:
    """What a study varies; prompts, languages, layers and seed are those of a calibration.

    ``l2`` is of the single-block probes; ``unlabelled`` the number of (harmful, harmless) train
    prompts per language that are set aside as the pool without labels.
    """

    ranks: tuple[int, ...] = RANKS
    l2: float = 1e-2
    shots: tuple[int, ...] = SHOTS
    draws: int = 100
    unlabelled: tuple[int, int] = (16, 16)


def study_thresholds(
    model: ChatModel, prompts: PromptSet, settings: CalibrateSettings, options: StudyOptions
) -> StudyResults:
    """Capture what is missing, compute the study, write ``study.json``, ``.md`` and ``.svg``.

    Every candidate block is studied alone, at every rank; so is the set of blocks (with its L2
    strength) that left-out source languages choose, or the set of all blocks that are named.

    Raises:
        PromptError: if a language lacks train or val prompts.
        LanguageError: for a source or target without prompts.
        StoreError: if activations or results cannot be stored.
        UserError: with fewer than three source languages.
    """
    plan = Plan.of(prompts, settings.model_copy(update={"shots": 0}))
    run = open_run(settings.out, "thresholds", settings, model, prompts)
    layers = candidate_layers(model.identity.n_layers, settings)
    with timed() as seconds:
        states = capture_languages(
            model,
            plan.prompts,
            settings.out / "activations",
            layers=layers,
            batch_tokens=settings.batch_tokens,
        )
    run.set_done("capture", plan.prompts.fingerprint(), seconds[0], prompts=len(plan.prompts))
    for reason, n in states.exclusions().items():
        run.note(f"{n} prompts were left out of the study: {reason}.")
    with timed() as seconds:
        results = study_states(plan, states, layers, settings, options)
    results = StudyResults(
        model.identity.to_json(), results.prompts, results.chosen, results.rows, results.means
    )
    write_study(results, settings.out)
    run.set("study_seconds", round(seconds[0], 2))
    return results


def study_states(
    plan: Plan,
    states: States,
    layers: Sequence[int],
    settings: CalibrateSettings,
    options: StudyOptions,
) -> StudyResults:
    """Compute the study from stored activations."""
    usable = tuple(p for p in plan.prompts if p.key not in states.excluded)
    keys = [p.key for p in usable]
    data = Data(usable, lambda layer: states.layer(layer, keys), plan.sources)
    rank, named = max(options.ranks), settings.layers is not None
    fitter = Fitter(data, rank)
    best = (
        fitter.best_l2(layers)
        if named
        else fitter.choose_layers(layers, settings.readout_layers)[0]
    )
    alone = [Readout((layer,), options.l2, options.ranks) for layer in layers]
    readouts = [r for r in alone if r.layers != best.layers]
    readouts.append(Readout(best.layers, best.l2, options.ranks))
    study = run_study(
        data,
        readouts,
        [*plan.sources, *plan.targets],
        shots=options.shots,
        seeds=options.draws,
        pool=options.unlabelled,
        seed=settings.seed,
    )
    facts = {"name": plan.prompts.name, "fingerprint": plan.prompts.fingerprint()}
    return summarise_study(study, facts, (best.layers, rank))


def summarise_study(
    study: Study, prompts: dict[str, str], chosen: tuple[tuple[int, ...], int]
) -> StudyResults:
    """Return rows and means over languages of a study's values."""
    mean, sd = study.values.mean(-1), study.values.std(-1, ddof=study.values.shape[-1] > 1)
    roles = {x: "source" if x in study.sources else "target" for x in study.languages}
    reference = study.rules.index("source") if "source" in study.rules else None
    rows: list[StudyRow] = []
    means: list[StudyMean] = []
    for c, (readout, rank) in enumerate(study.cells):
        for j, rule in enumerate(study.rules):
            for i, k in enumerate(study.shots):
                n_draws = study.values.shape[-1] if k else 1
                at = (readout.layers, readout.l2, rank, rule, k)
                rows += [
                    StudyRow(
                        *at, language, roles[language], _known(mean[c, x, j, i]),
                        _known(sd[c, x, j, i]), n_draws, sum(study.counts[language]),
                    )
                    for x, language in enumerate(study.languages)
                ]  # fmt: skip
                for role in dict.fromkeys(roles.values()):
                    own = [x for x, name in enumerate(study.languages) if roles[name] == role]
                    base = None if reference is None else mean[c, own, reference, i]
                    names = [study.languages[x] for x in own]
                    means.append(_mean_row(at, role, names, study.values[c, own, j, i], base))
    return StudyResults({}, prompts, chosen, tuple(rows), tuple(means))


def _mean_row(
    at: tuple[tuple[int, ...], float, int, str, int],
    role: str,
    names: Sequence[str],
    values: np.ndarray,
    base: np.ndarray | None,
) -> StudyMean:
    """Summarise ``[languages, draws]``; ``base`` is the rule ``source`` per language."""
    by_draw, by_language = values.mean(0), values.mean(1)
    if np.isnan(by_language).any():
        return StudyMean(*at, role, len(names), None, None, None, None, None, None)
    worst = int(np.argmin(by_language))
    change = None if base is None else by_language - base
    return StudyMean(
        *at,
        role,
        len(names),
        _known(by_draw.mean()),
        _known(by_draw.std(ddof=len(by_draw) > 1)),
        _known(by_language[worst]),
        names[worst],
        None if change is None else _known(change.mean()),
        None if change is None else _known(change.min()),
    )


def write_study(results: StudyResults, folder: Path) -> None:
    """Write ``study.json``, the tables as ``study.md`` and the picture as ``study.svg``."""
    # On one line: indented, its many thousand rows would take three times the room.
    write_text(folder / "study.json", json.dumps(results.to_json(), allow_nan=False) + "\n")
    write_text(folder / "study.md", study_markdown(results))
    write_text(folder / "study.svg", study_figure(results).standalone())


def _known(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 5)
