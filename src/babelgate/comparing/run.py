"""`babelgate compare`: calibrate once, then every method on the same prompts. Files in, files out.

Everything is kept per treatment and resumes; adding a method computes what no method needed before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from ..action_file import Actions
from ..action_replies import base_replies, direction_prompts
from ..artifacts import RunFolder, timed, write_json
from ..capture_languages import capture_languages
from ..completions import reply_limits
from ..config import CalibrateSettings, CompareSettings
from ..console import note, progress
from ..errors import LanguageError, PromptError, UserError
from ..evaluation import select_prompts
from ..gate import Gate
from ..interventions.base import Intervention
from ..judges import Judge
from ..judges.choosing import chosen_judge
from ..models.chat import ChatModel
from ..models.loading import load_model
from ..plan import Plan, States, candidate_layers
from ..recipes import calibrate
from ..run_files import open_run, prompt_facts
from ..types import Prompt, PromptSet
from .building import Given
from .contenders import Contender, needed
from .damage import Latency, divergence_of, divergences, latencies
from .fitted import FittedGate
from .methods import METHODS, chosen_methods
from .replies import reply
from .results import Comparison, MethodFacts
from .setting import Setting
from .states import StateReader
from .summary import Compared, summarise
from .treatments import papers_actions


def compare(
    model: ChatModel,
    prompts: PromptSet,
    settings: CompareSettings,
    *,
    test: PromptSet | None = None,
) -> Comparison:
    """Compare methods on the same prompts, labels and seeds, and write ``compare.json``.

    ``prompts`` are calibrated on, and compared on unless ``test`` holds others.

    Raises:
        PromptError: if a split is empty for a language, or test prompts were seen in calibration.
        UserError: for a method that does not exist or needs what was not given.
    """
    # Mistakes first: they must not cost a calibration.
    names = chosen_methods(
        settings.methods,
        cast_data=settings.cast_data is not None,
        guard=settings.guard is not None,
    )
    plan = Plan.of(prompts, settings.calibration())
    pool = prompts if test is None else test
    languages = settings.languages or tuple(x for x in plan.targets if x in pool.languages)
    if not languages:
        raise LanguageError(
            f"none of the target languages {', '.join(plan.targets)} is among the prompts to "
            f"compare on, which have {', '.join(pool.languages)}"
        )
    calibrated = calibrate(model, prompts, settings.calibration())
    actions = calibrated.actions
    run = open_run(settings.out, "compare", settings, model, prompts)
    with chosen_judge(settings, device=settings.device) as judge:
        chosen = select_prompts(run, model, pool, settings, languages)
        _check_unseen(plan, chosen)
        setting, given = _setting(model, plan, chosen, actions, settings, judge, calibrated.gate)
        contenders = _built(names, setting, given, run if settings.methods is None else None)
        sources = {p.source for p in chosen}
        limits = reply_limits(
            model, pool.select(where=lambda p: p.source in sources), settings.max_new_tokens
        )
        return _compared(run, setting, contenders, judge, chosen, settings, limits)


def _setting(
    model: ChatModel,
    plan: Plan,
    test: PromptSet,
    actions: Actions | None,
    settings: CompareSettings,
    judge: Judge,
    gate: Gate,
) -> tuple[Setting, Given]:
    own = settings.calibration()
    states = _stored(model, plan, own)
    limits = reply_limits(model, plan.prompts, settings.max_new_tokens)
    judged = base_replies(
        model,
        [*direction_prompts(plan, states, own, "train"),
         *direction_prompts(plan, states, own, "val")],
        judge,
        settings.out / "actions",
        limits,
    )  # fmt: skip
    ours = FittedGate.of(gate, plan, states, own)

    @cache
    def paper(blocks: int = 1) -> FittedGate:
        return FittedGate.papers(plan, states, model.identity, own, blocks)

    @cache
    def guard() -> tuple[ChatModel, str]:
        name = settings.guard or ""
        kind = "guard" if name.startswith("guard:") else "chat"
        name = name.removeprefix("guard:")
        if name == settings.model:
            return model, kind
        return load_model(name, device=settings.device, dtype=settings.dtype), kind

    setting = Setting(
        model=model,
        plan=plan,
        test=test.prompts,
        shots=settings.shots,
        seeds=tuple(range(settings.seed, settings.seed + settings.seeds)),
        rule=settings.rule,
        states=StateReader(model, settings.out / "states", states, settings.batch_tokens),
        data=ours.fitter.data,
        outcomes=judged.outcomes,
        judged=judged.prompts,
    )
    given = Given(
        ours,
        paper,
        actions or papers_actions(gate),
        settings.cast_data,
        None if settings.guard is None else guard,
    )
    return setting, given


def _stored(model: ChatModel, plan: Plan, own: CalibrateSettings) -> States:
    """Return the activations that calibration stored: nothing is computed again."""
    return capture_languages(
        model,
        plan.prompts,
        own.out / "activations",
        layers=candidate_layers(model.identity.n_layers, own),
        batch_tokens=own.batch_tokens,
    )


def _built(
    names: Sequence[str], setting: Setting, given: Given, run: RunFolder | None
) -> list[Contender]:
    """Fit every method; with a run, those that cannot be are left out and noted there."""
    contenders = []
    with progress() as bar:
        task = bar.add_task("fitting methods", total=len(names))
        for name in names:
            try:
                contenders.append(METHODS[name](setting, given))
            except UserError as error:
                # What was asked for by name must be there; of all that can run, this cannot.
                if run is None:
                    raise
                run.note(f"Method {name!r} was left out: {error}.")
                note(f"method {name!r} was left out: {error}")
            bar.advance(task, 1)
    return contenders


def _compared(
    run: RunFolder,
    setting: Setting,
    contenders: Sequence[Contender],
    judge: Judge,
    chosen: PromptSet,
    settings: CompareSettings,
    limits: Mapping[str, int],
) -> Comparison:
    model, out = setting.model, settings.out
    treatments = needed(contenders, len(setting.test))
    with timed() as seconds:
        outcomes = reply(
            model, setting.test, treatments, judge, out / "replies", limits=limits,
            rows=settings.rows,
        )  # fmt: skip
    run.set_done("replies", chosen.fingerprint(), seconds[0], treatments=len(treatments))
    with progress() as bar:
        task = bar.add_task("divergence", total=None)
        kl = divergences(
            model,
            setting.test,
            treatments,
            out / "divergence.jsonl",
            on_prompts=lambda n: bar.advance(task, n),
        )
    compared = Compared(setting.test, tuple(contenders), outcomes)
    rows, differences = summarise(compared, seed=settings.seed)
    times = _latencies(setting, contenders, settings)
    facts = []
    for contender in contenders:
        mean, n, said = divergence_of(contender, setting.test, kl)
        took = times.get(contender.name)
        facts.append(
            MethodFacts(
                contender.name, contender.family, contender.summary, contender.fired.name,
                contender.silent.name, contender.labels, contender.layer, mean, n, said,
                *(None, None, None) if took is None else (took.ratio, took.low, took.high),
                dict(contender.facts),
            )
        )  # fmt: skip
    comparison = Comparison(
        model=model.identity.to_json(),
        prompts={
            **prompt_facts(chosen),
            "calibrated_on": setting.plan.prompts.name,
            "sources": list(setting.plan.sources),
        },
        judge=judge.describe(),
        shots=settings.shots,
        seeds=setting.seeds,
        methods=tuple(facts),
        rows=tuple(rows),
        differences=tuple(differences),
        notes=tuple(run.record.get("notes", ())),
    )
    write_json(out / "compare.json", comparison.to_json())
    return comparison


def _latencies(
    setting: Setting, contenders: Sequence[Contender], settings: CompareSettings
) -> dict[str, Latency]:
    """Time every method on a few prompts; nothing where that is turned off."""
    if settings.latency_prompts == 0:
        return {}
    every = max(1, len(setting.test) // settings.latency_prompts)
    some: list[Prompt] = list(setting.test[::every])
    some = some[: settings.latency_prompts]
    ways: dict[str, Intervention | None] = {}
    systems: dict[str, str | None] = {}
    for contender in contenders:
        if contender.name != "base":
            ways[contender.name] = contender.intervention()
            systems[contender.name] = contender.fired.method().system(some[0].language)
    note(f"Timing {len(ways)} methods on {len(some)} prompts")
    return latencies(
        setting.model, [p.text for p in some], [p.language for p in some], ways, systems=systems
    )


def _check_unseen(plan: Plan, chosen: PromptSet) -> None:
    used = {p.key for p in plan.prompts}
    texts = {(p.language, p.text) for p in plan.prompts}
    if own := [p.key for p in chosen if (p.language, p.text) in texts]:
        raise PromptError(
            f"{len(own)} prompts to compare on were used in calibration, such as {own[0]}; "
            "compare on a split that it has not seen"
        )
    if own := [p.key for p in chosen if p.key in used]:
        raise PromptError(
            f"{len(own)} prompts to compare on have the language and id of another prompt that was "
            f"used in calibration, such as {own[0]}; give them ids of their own"
        )
