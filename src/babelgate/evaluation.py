"""Measuring and evaluating: generate, judge, count. Files in, files out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from . import rates
from .action_file import Actions, load_actions
from .artifacts import RunFolder, fingerprint, timed, write_json
from .completions import BASE, Method, complete, reply_limits
from .config import EvaluateSettings, MeasureSettings
from .console import note, progress
from .errors import PromptError
from .gate import Gate
from .gate_file import load_gate
from .interventions.conditional import ConditionalIntervention
from .interventions.gated import GateDecider, gated
from .judges import Judge, Reply
from .judges.base import FAILED
from .judges.choosing import chosen_judge
from .judges.running import judge_all
from .languages import tier
from .models.chat import ChatModel
from .prompts import leaks, require, take
from .results import GateScores, Results, load_diagnosis
from .run_files import open_run, prompt_facts
from .types import Completion, PromptSet, Split, Verdict, side_of


def measure(model: ChatModel, prompts: PromptSet, settings: MeasureSettings) -> Results:
    """Generate replies of the untouched model, judge them, and write ``results.json``.

    Raises:
        PromptError: if the split is empty for a language.
        UserError: for an unknown judge.
    """
    run = open_run(settings.out, "measure", settings, model, prompts)
    return _judged_run(run, model, prompts, settings, [BASE], {})[0]


def evaluate(
    model: ChatModel,
    prompts: PromptSet,
    settings: EvaluateSettings,
    gates: Mapping[str, Gate] | None = None,
    actions: Actions | None = None,
) -> Results:
    """Generate without and with each gate on the same prompts, judge, and write ``results.json``.

    ``gates`` are named methods; by default one, ``gate``, from the run folder, with the actions
    that lie beside it. ``actions`` follow every gate's decisions; without them each gate's paper's.

    Raises:
        GateError: if there is no gate, or it belongs to another model, template or dtype.
        PromptError: if the split is empty for a language, or holds a gate's own examples.
    """
    if not gates:
        folder = settings.gate or settings.out / "gate"
        gates, actions = {"gate": load_gate(folder)}, load_actions(folder)
    if actions is not None:
        gates = {name: gate.raised(actions.threshold_raise) for name, gate in gates.items()}
    for gate in gates.values():
        gate.check_model(model.identity)
        _check_unseen(gate, prompts, settings.split)
    run = open_run(settings.out, "evaluate", settings, model, prompts)
    methods = [
        Method(
            name,
            _intervention(gate, name, actions),
            _gate_key(gate, actions),
            settings.language_known,
        )
        for name, gate in gates.items()
    ]
    results, completions = _judged_run(run, model, prompts, settings, [BASE, *methods], gates)
    name, gate = next(iter(gates.items()))
    sides = {p.key: side_of(p) for p in prompts}
    _update_scores(settings.out, gate, [c for c in completions if c.method == name], sides)
    return results


def _intervention(gate: Gate, name: str, actions: Actions | None) -> ConditionalIntervention:
    if actions is None:
        return gated(gate, name)
    return ConditionalIntervention(GateDecider(gate), actions.fired, actions.silent, name)


def _gate_key(gate: Gate, actions: Actions | None) -> str:
    """Fingerprint what a gate's replies depend on: its tensors are named by the fit's key."""
    parts = [gate.provenance.get("key"), gate.layers, gate.bias, gate.alpha,
             dict(gate.thresholds), gate.default_threshold]  # fmt: skip
    return fingerprint(parts if actions is None else [*parts, actions.key])


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
    # The judge comes first: a mistake in its name must not cost an hour of generating.
    with chosen_judge(settings, device=settings.device) as judge:
        chosen, completions = _generated(run, model, prompts, settings, methods)
        verdicts = _judged(run, judge, chosen, completions, settings.out / "verdicts.jsonl")
        described = judge.describe()
    thresholds = {
        name: {language: gate.threshold(language) for language in chosen.languages}
        for name, gate in gates.items()
    }
    judged = rates.Judged.of(chosen.prompts, completions, verdicts, _roles(gates))
    results = Results(
        model=model.identity.to_json(),
        prompts={**prompt_facts(chosen), "split": settings.split},
        judge=described,
        rows=tuple(rates.rows(judged, thresholds)),
        macro=tuple(rates.macro_rows(judged, seed=settings.seed)),
        comparisons=tuple(rates.comparisons(judged, seed=settings.seed)),
        language_comparisons=tuple(rates.language_comparisons(judged, seed=settings.seed)),
    )
    write_json(settings.out / "results.json", results.to_json())
    return results, completions


def _generated(
    run: RunFolder,
    model: ChatModel,
    prompts: PromptSet,
    settings: MeasureSettings,
    methods: Sequence[Method],
) -> tuple[PromptSet, list[Completion]]:
    """Return the prompts to measure on and every method's replies to them."""
    languages = settings.languages or prompts.languages
    chosen = select_prompts(run, model, prompts, settings, languages)
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
    return chosen, completions


def _judged(
    run: RunFolder,
    judge: Judge,
    prompts: PromptSet,
    completions: Sequence[Completion],
    file: Path,
) -> list[Verdict]:
    """Return a verdict per completion; those that failed are counted and asked for again later."""
    by_key = {p.key: p for p in prompts}
    replies = [Reply(by_key[c.key], c) for c in completions]
    with timed() as seconds, progress() as bar:
        task = bar.add_task("judging", total=len(replies))
        verdicts = judge_all(judge, replies, file, on_verdicts=lambda n: bar.advance(task, n))
    failed = sum(v.raw.startswith(FAILED) for v in verdicts)
    if failed:
        note(f"{failed} verdicts failed for a reason outside the reply; run again to retry")
    key = f"{judge.name} {judge.version}"
    run.set_done("judge", key, seconds[0], verdicts=len(verdicts), failed=failed)
    return verdicts


def select_prompts(
    run: RunFolder,
    model: ChatModel,
    prompts: PromptSet,
    settings: MeasureSettings,
    languages: Sequence[str],
) -> PromptSet:
    """Return the prompts to measure on; what is left out is counted in the run's notes.

    Raises:
        PromptError: if nothing is left of a language.
    """
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
