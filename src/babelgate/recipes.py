"""The jobs behind the commands: measure, calibrate, evaluate, demo. Files in, files out.

Each job is a few resumable stages in one run folder; running it again does what is missing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import calibration, rates
from .artifacts import JsonLines, RunFolder, fingerprint, timed, write_json
from .capture import Activations, capture
from .completions import BASE, Method, complete, reply_limits
from .config import CalibrateSettings, EvaluateSettings, MeasureSettings
from .console import progress
from .errors import PromptError
from .gate import Gate
from .gate_file import load_gate, save_gate
from .interventions.gated import GatedIntervention
from .judges import Judge, Reply, get_judge
from .languages import tier
from .models.chat import ChatModel
from .prompts import leaks, load_prompts, require, take
from .results import Diagnosis, GateScores, Results, load_diagnosis
from .types import Completion, PromptSet, Split, Verdict

# ---------------------------------------------------------------------------------------------
# measure and evaluate


def measure(model: ChatModel, prompts: PromptSet, settings: MeasureSettings) -> Results:
    """Generate replies of the untouched model, judge them, and write ``results.json``.

    Raises:
        PromptError: if the split is empty for a language.
        UserError: for an unknown judge.
    """
    run = _open(settings.out, "measure", settings, model, prompts)
    return _judged_run(run, model, prompts, settings, [BASE], {})[0]


def evaluate(
    model: ChatModel,
    prompts: PromptSet,
    settings: EvaluateSettings,
    gates: Mapping[str, Gate] | None = None,
) -> Results:
    """Generate without and with each gate on the same prompts, judge, and write ``results.json``.

    ``gates`` are named methods; by default one, ``gate``, from the run folder.

    Raises:
        GateError: if there is no gate, or it belongs to another model, template or dtype.
        PromptError: if the split is empty for a language, or holds a gate's own examples.
    """
    gates = gates or {"gate": load_gate(settings.gate or settings.out / "gate")}
    for gate in gates.values():
        gate.check_model(model.identity)
        _check_unseen(gate, prompts, settings.split)
    run = _open(settings.out, "evaluate", settings, model, prompts)
    methods = [
        Method(name, GatedIntervention(gate, name), _gate_key(gate), settings.language_known)
        for name, gate in gates.items()
    ]
    results, completions = _judged_run(run, model, prompts, settings, [BASE, *methods], gates)
    name, gate = next(iter(gates.items()))
    sides = {p.key: calibration.side_of(p) for p in prompts}
    _update_scores(settings.out, gate, [c for c in completions if c.method == name], sides)
    return results


def _gate_key(gate: Gate) -> str:
    """Fingerprint what a gate's replies depend on: its tensors are named by the fit's key."""
    return fingerprint(
        [gate.provenance.get("key"), gate.layers, gate.bias, gate.alpha,
         dict(gate.thresholds), gate.default_threshold]
    )  # fmt: skip


def _check_unseen(gate: Gate, prompts: PromptSet, split: Split) -> None:
    used = set(gate.provenance.get("fitted_on", ())) | set(gate.provenance.get("shots", ()))
    own = [p.key for p in prompts if p.split == split and p.key in used]
    if own:
        raise PromptError(
            f"{len(own)} prompts of split {split!r} were used to fit this gate, such as {own[0]}; "
            "evaluate on a split that it has not seen"
        )


def _roles(gates: Mapping[str, Gate]) -> dict[str, str]:
    first = next(iter(gates.values()), None)
    return {} if first is None else dict(first.provenance.get("roles", {}))


def _judged_run(
    run: RunFolder,
    model: ChatModel,
    prompts: PromptSet,
    settings: MeasureSettings,
    methods: Sequence[Method],
    gates: Mapping[str, Gate],
) -> tuple[Results, list[Completion]]:
    judge = get_judge(settings.judge)
    chosen = _select(run, model, prompts, settings)
    limits = reply_limits(model, prompts, settings.max_new_tokens)
    with timed() as seconds, progress() as bar:
        task = bar.add_task("generating", total=len(methods) * len(chosen))
        completions = complete(
            model,
            chosen.prompts,
            methods,
            settings.out / "completions.jsonl",
            limits=limits,
            rows=settings.rows,
            on_replies=lambda n: bar.advance(task, n),
        )
    run.set_done("generate", chosen.fingerprint(), seconds[0], replies=len(completions))
    run.set("reply_limits", limits)
    if model.identity.dtype != "float32":
        run.note(
            f"Replies were generated in {model.identity.dtype}, where the batch size can change a "
            "greedy reply; compare in float32 where single replies matter."
        )
    verdicts = _judge(judge, chosen, completions, settings.out / "verdicts.jsonl")
    thresholds = {
        name: {language: gate.threshold(language) for language in chosen.languages}
        for name, gate in gates.items()
    }
    judged = rates.Judged.of(chosen.prompts, completions, verdicts, _roles(gates))
    results = Results(
        model=_identity(model),
        prompts={
            "name": chosen.name,
            "fingerprint": chosen.fingerprint(),
            "n": len(chosen),
            "languages": list(chosen.languages),
            "split": settings.split,
        },
        judge=judge.describe(),
        rows=tuple(rates.rows(judged, thresholds)),
        macro=tuple(rates.macro_rows(judged, seed=settings.seed)),
        comparisons=tuple(rates.comparisons(judged, seed=settings.seed)),
    )
    write_json(settings.out / "results.json", results.to_json())
    return results, completions


def _select(
    run: RunFolder, model: ChatModel, prompts: PromptSet, settings: MeasureSettings
) -> PromptSet:
    """Return the prompts to measure on; what is left out is counted in the run's notes."""
    languages = settings.languages or prompts.languages
    require(prompts, languages, settings.split)
    # Leaks are looked for in the whole set: a test prompt may repeat a train one.
    leaking = leaks(prompts) if settings.split == "test" else set()
    pool = prompts.select(languages=languages, split=settings.split)
    chosen = pool.select(where=lambda p: p.key not in leaking)
    if len(chosen) < len(pool):
        run.note(
            f"{len(pool) - len(chosen)} test prompts were left out: they repeat another test "
            "prompt or one of another split."
        )
    if settings.per_cell is not None:
        chosen = take(chosen, settings.per_cell, settings.seed)
    fitting = _fitting(model, chosen, settings.max_new_tokens)
    if len(fitting) < len(chosen):
        run.note(
            f"{len(chosen) - len(fitting)} prompts were left out: longer than the model's context."
        )
    require(fitting, languages, settings.split)
    return fitting


def _fitting(model: ChatModel, prompts: PromptSet, reply: int) -> PromptSet:
    """Return the prompts that leave room for the longest reply within the context."""
    context = model.context_length
    if context is None:
        return prompts
    lengths = model.encode([p.text for p in prompts]).lengths
    room = context - 4 * reply  # the longest reply any language may get
    kept = {p.key for p, n in zip(prompts, lengths) if n <= room}
    return prompts.select(where=lambda p: p.key in kept)


def _judge(
    judge: Judge, prompts: PromptSet, completions: Sequence[Completion], file: Path
) -> list[Verdict]:
    by_key = {p.key: p for p in prompts}
    verdicts = judge.judge([Reply(by_key[c.key], c) for c in completions])
    JsonLines(file).rewrite(v.to_json() for v in verdicts)
    return verdicts


def _update_scores(
    out: Path, gate: Gate, completions: Sequence[Completion], sides: Mapping[str, str]
) -> None:
    """Put a gate's scores on the evaluated prompts into ``diagnosis.json``, if there is one."""
    diagnosis = load_diagnosis(out)
    if diagnosis is None:
        return
    pools: dict[str, dict[str, list[float]]] = {}
    for made in completions:
        empty: dict[str, list[float]] = {"harmful": [], "harmless": [], "harmless_twins": []}
        if made.gate_score is not None:
            pool = pools.setdefault(made.language, empty)
            pool[sides[made.key]].append(round(made.gate_score, 5))
    roles = dict(gate.provenance.get("roles", {}))
    scores = tuple(
        GateScores(
            language=language,
            tier=tier(language),
            role=str(roles.get(language, "")),
            threshold=gate.threshold(language),
            **{side: tuple(values) for side, values in pool.items()},
        )
        for language, pool in pools.items()
    )
    write_json(out / "diagnosis.json", replace(diagnosis, gate_scores=scores).to_json())


# ---------------------------------------------------------------------------------------------
# calibrate


@dataclass(frozen=True)
class Calibrated:
    """A fitted gate and what was found on the way."""

    gate: Gate
    diagnosis: Diagnosis


def calibrate(model: ChatModel, prompts: PromptSet, settings: CalibrateSettings) -> Calibrated:
    """Capture activations, fit a gate, and write ``gate/`` and ``diagnosis.json``.

    ``prompts`` holds the contrast set too where one is used.

    Raises:
        PromptError: if a language lacks train or val prompts, or has fewer than the shots.
        LanguageError: for a source or target without prompts.
        StoreError: if activations cannot be stored.
    """
    plan = calibration.Plan.of(prompts, settings)
    run = _open(settings.out, "calibrate", settings, model, prompts)
    with timed() as seconds:
        states = capture_languages(
            model,
            plan.prompts,
            settings.out / "activations",
            layers=calibration.candidate_layers(model.identity.n_layers, settings),
            batch_tokens=settings.batch_tokens,
        )
    run.set_done("capture", plan.prompts.fingerprint(), seconds[0], prompts=len(plan.prompts))
    for reason, n in states.exclusions().items():
        run.note(f"{n} prompts were left out of calibration: {reason}.")
    with timed() as seconds:
        result = calibration.run(plan, states, model.identity, settings)
    save_gate(result.gate, settings.out / "gate")
    write_json(settings.out / "diagnosis.json", result.diagnosis.to_json())
    run.set_done("fit", str(result.gate.provenance["key"]), seconds[0])
    return Calibrated(result.gate, result.diagnosis)


def capture_languages(
    model: ChatModel,
    prompts: PromptSet,
    folder: Path,
    *,
    layers: Sequence[int] | None = None,
    batch_tokens: int | None = None,
) -> calibration.States:
    """Capture ``t_post`` activations into one store per language and source of prompts, so that
    adding a language or a contrast set computes only what is new.
    """
    stores: list[Activations] = []
    parts = dict.fromkeys((p.language, p.source) for p in prompts)
    with progress() as bar:
        task = bar.add_task("reading activations", total=len(prompts))
        for language, source in parts:
            own = prompts.select(languages=[language], where=lambda p, s=source: p.source == s)
            stores.append(
                capture(
                    model,
                    own.prompts,
                    folder / language / (re.sub(r"[^\w.-]+", "_", source) or "prompts"),
                    layers=layers,
                    batch_tokens=batch_tokens,
                    on_batch=lambda n: bar.advance(task, n),
                )
            )
    return calibration.States(tuple(stores))


def score(model: ChatModel, gate: Gate, prompts: PromptSet, folder: Path) -> dict[str, float]:
    """Return the gate's score per prompt key, reading only the layers that the gate needs.

    Prompts without usable activations (too long, not finite) are absent.
    """
    gate.check_model(model.identity)
    states = capture_languages(model, prompts, folder, layers=gate.layers)
    keys = [p.key for p in prompts if p.key not in states.excluded]
    values = gate.score({layer: states.layer(layer, keys) for layer in gate.layers})
    return dict(zip(keys, values.tolist()))


# ---------------------------------------------------------------------------------------------
# demo

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
            val_per_cell=28,
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
            per_cell=20,
            max_new_tokens=24,
            seed=seed,
        ),
        {"gate": calibrated.gate},
    )


# ---------------------------------------------------------------------------------------------


def _open(
    out: Path, command: str, settings: Any, model: ChatModel, prompts: PromptSet
) -> RunFolder:
    run = RunFolder.open(out, command=command, config=settings.model_dump(mode="json"))
    run.set("model", _identity(model))
    run.set("prompts", {"name": prompts.name, "fingerprint": prompts.fingerprint()})
    run.set("seed", settings.seed)
    _write_index(out, prompts)
    return run


def _write_index(out: Path, prompts: PromptSet) -> None:
    """Keep which prompt is which, so that a run folder can be read without its prompt files."""
    rows = [
        {"key": p.key, "group_id": p.group_id, "pair_id": p.pair_id, "split": p.split,
         "category": p.category, "source": p.source, "side": calibration.side_of(p)}
        for p in prompts
    ]  # fmt: skip
    JsonLines(out / "prompts.jsonl").rewrite(rows)


def _identity(model: ChatModel) -> dict[str, Any]:
    return {name: getattr(model.identity, name) for name in model.identity.__slots__}
