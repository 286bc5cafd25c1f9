"""The jobs behind the commands: measure, calibrate, evaluate, demo. Files in, files out.

Each job is a few resumable stages in one run folder; running it again does what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from . import calibration
from .action_file import Actions, fixed_actions, load_actions, remove_actions, save_actions
from .action_recipe import choose_actions, save_search, search_key
from .action_search import NothingToLearn
from .artifacts import RunFolder, timed, write_json
from .capture_languages import capture_languages
from .config import CalibrateSettings, EvaluateSettings
from .console import note
from .errors import GateError, StoreError
from .evaluation import evaluate, measure
from .gate import Gate
from .gate_file import load_gate, save_gate
from .judges.choosing import chosen_judge
from .models.chat import ChatModel
from .plan import Plan, States, candidate_layers
from .prompts import load_prompts
from .results import Diagnosis, Results, load_diagnosis
from .run_files import open_run
from .types import PromptSet

__all__ = ["Calibrated", "calibrate", "capture_languages", "demo", "evaluate", "measure", "score"]


@dataclass(frozen=True)
class Calibrated:
    """A fitted gate, what follows its decisions (None: the paper's actions), and what was found."""

    gate: Gate
    diagnosis: Diagnosis
    actions: Actions | None = None


def calibrate(model: ChatModel, prompts: PromptSet, settings: CalibrateSettings) -> Calibrated:
    """Capture activations, fit a gate, choose its actions, and write ``gate/`` and
    ``diagnosis.json`` (and ``actions_tried.json``).

    ``prompts`` holds the contrast set too where one is used.

    Raises:
        PromptError: if a language lacks train or val prompts, or has fewer than the shots.
        LanguageError: for a source or target without prompts.
        StoreError: if activations cannot be stored.
    """
    plan = Plan.of(prompts, settings)
    run = open_run(settings.out, "calibrate", settings, model, prompts)
    with timed() as seconds:
        states = capture_languages(
            model,
            plan.prompts,
            settings.out / "activations",
            layers=candidate_layers(model.identity.n_layers, settings),
            batch_tokens=settings.batch_tokens,
        )
    run.set_done("capture", plan.prompts.fingerprint(), seconds[0], prompts=len(plan.prompts))
    for reason, n in states.exclusions().items():
        run.note(f"{n} prompts were left out of calibration: {reason}.")
    key = calibration.fit_key(plan, states, model.identity, settings)
    found = _kept_fit(settings.out, key) if run.is_done("fit", key) else None
    if found is None:
        with timed() as seconds:
            result = calibration.run(plan, states, model.identity, settings)
        remove_actions(settings.out / "gate")  # they followed another gate's decisions
        save_gate(result.gate, settings.out / "gate")
        write_json(settings.out / "diagnosis.json", result.diagnosis.to_json())
        run.set_done("fit", key, seconds[0])
        found = Calibrated(result.gate, result.diagnosis)
    return replace(found, actions=_actions(run, model, plan, states, found.gate, settings))


def _actions(
    run: RunFolder,
    model: ChatModel,
    plan: Plan,
    states: States,
    gate: Gate,
    settings: CalibrateSettings,
) -> Actions | None:
    """Choose what follows the gate's decisions as the settings say, and keep it beside the gate."""
    folder, tried = settings.out / "gate", settings.out / "actions_tried.json"
    if settings.action != "search":
        tried.unlink(missing_ok=True)  # of an earlier search
    if settings.action == "paper":
        remove_actions(folder)
        return None
    if settings.action == "fixed":
        return _kept_actions(folder, fixed_actions("asked for by `--action fixed`"))
    # The judge comes first: a mistake in its name must not cost the search.
    with chosen_judge(settings, device=settings.device) as judge:
        key = search_key(gate, judge, settings)
        if run.is_done("actions", key) and (kept := _kept_search(folder, key)) is not None:
            return kept
        with timed() as seconds:
            try:
                search = choose_actions(model, plan, states, gate, judge, settings)
                actions, n_tried = search.actions, len(search.pairs)
                save_search(search, settings.out)
            except NothingToLearn as error:
                run.note(f"Actions were not searched: {error}.")
                note(f"actions were not searched: {error}; using a fixed refusal")
                tried.unlink(missing_ok=True)
                fixed, n_tried = fixed_actions(str(error)), 0
                # With the key, so that the next run does not try in vain again.
                found = replace(fixed, provenance={**fixed.provenance, "key": key})
                actions = _kept_actions(folder, found)
        run.set_done("actions", key, seconds[0], tried=n_tried)
    return actions


def _kept_actions(folder: Path, actions: Actions) -> Actions:
    save_actions(actions, folder)
    return actions


def _kept_search(folder: Path, key: str) -> Actions | None:
    """Return the actions that the folder holds, if they are whole and the search's own."""
    try:
        kept = load_actions(folder)
    except GateError:
        return None
    return kept if kept is not None and kept.provenance.get("key") == key else None


def _kept_fit(out: Path, key: str) -> Calibrated | None:
    """Return the fit that the folder holds, if it is whole and the one that is wanted.

    Fitting again would cost little, but sums in another order change the last bits of a gate, and
    with them the key of every reply generated under it.
    """
    try:
        gate, diagnosis = load_gate(out / "gate"), load_diagnosis(out)
    except (GateError, StoreError):
        return None
    if diagnosis is None or gate.provenance.get("key") != key:
        return None
    return Calibrated(gate, diagnosis)


def score(model: ChatModel, gate: Gate, prompts: PromptSet, folder: Path) -> dict[str, float]:
    """Return the gate's score per prompt key, reading only the layers that the gate needs.

    Prompts without usable activations (too long, not finite) are absent.
    """
    gate.check_model(model.identity)
    states = capture_languages(model, prompts, folder, layers=gate.layers)
    keys = [p.key for p in prompts if p.key not in states.excluded]
    values = gate.score({layer: states.layer(layer, keys) for layer in gate.layers})
    return dict(zip(keys, values.tolist()))


#: What `babelgate demo` runs: sources and targets of the starter set, sized for two cores.
DEMO_SOURCES = ("en", "de", "ru", "zh")
DEMO_TARGETS = ("ar", "sw", "yo")
DEMO_EVALUATED = ("en", "de", "ar", "sw", "yo")


def demo(model: ChatModel, out: Path, *, seed: int = 0) -> Results:
    """Run the whole job on the starter set: capture, calibrate, evaluate."""
    prompts = load_prompts("starter", languages=[*DEMO_SOURCES, *DEMO_TARGETS])
    calibrated = calibrate(
        model,
        prompts,
        CalibrateSettings(
            prompts="starter",
            sources=DEMO_SOURCES,
            targets=DEMO_TARGETS,
            train_per_cell=48,
            val_per_cell=28,
            action_prompts=12,
            direction_prompts=32,
            out=out,
            seed=seed,
        ),
    )
    return evaluate(
        model,
        prompts,
        EvaluateSettings(
            prompts="starter",
            languages=DEMO_EVALUATED,
            out=out,
            per_cell=12,
            max_new_tokens=20,
            seed=seed,
        ),
        {"gate": calibrated.gate},
        calibrated.actions,
    )
