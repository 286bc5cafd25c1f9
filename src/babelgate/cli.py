"""The command line: flags made from the settings, errors as one sentence, exit codes 0, 1 and 2.

Nothing heavy is imported until a command runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import json
import sys
import traceback
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ._version import __version__
from .console import note
from .errors import BabelgateError, LanguageError, UserError

_PLAIN: dict[Any, Any] = {int: click.INT, float: click.FLOAT, bool: click.BOOL, Path: click.Path()}


class _Group(click.Group):
    """Commands whose expected errors end in one sentence and an exit code."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        from .errors import did_you_mean

        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            hint = did_you_mean(args[0], self.list_commands(ctx))
            raise click.UsageError(f"No such command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="babelgate")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def app(context: click.Context, debug: bool) -> None:
    """Measure, diagnose and repair the refusal gap between languages in chat models."""
    context.obj = {"debug": debug}


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 input that cannot be used, 130 stopped."""
    arguments = sys.argv[1:] if argv is None else argv
    # `--debug` is accepted anywhere, since it is added after something went wrong.
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    try:
        code = app.main(args=arguments, prog_name="babelgate", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        note("stopped; finished work is kept, run the same command again to continue")
        sys.exit(130)
    except Exception as error:
        if debug:
            traceback.print_exc()
        sys.exit(_explain(error))


def _explain(error: Exception) -> int:
    if isinstance(error, BabelgateError):
        note(f"error: {error}")
        return error.exit_code
    if isinstance(error, MemoryError):
        note("error: out of memory; try a smaller `--batch-tokens` or `--rows`")
        return 1
    kind = type(error).__name__
    note(f"error: {kind}: {error}\nThis is a bug in babelgate or a library; `--debug` shows where.")
    return 1


# ---------------------------------------------------------------------------------------------
# flags from settings


def settings_command(
    name: str, help_: str, *, files: str | None = None
) -> Callable[[Callable[..., None]], click.Command]:
    """Return a decorator that makes a command of ``run(settings, json)``, a flag per field.

    ``files`` names the field that is given as arguments instead.
    """

    def decorate(run: Callable[..., None]) -> click.Command:
        from .config import COMMANDS, build

        kind = COMMANDS[name]

        def callback(config: str | None, json_: bool, **flags: Any) -> None:
            file = None if config is None else Path(config)
            settings = build(kind, flags=flags, file=file, section=name)
            run(settings, json_)

        parameters: list[click.Parameter] = [
            _option(field, info.annotation, info.description or "", info.default)
            for field, info in kind.model_fields.items()
            if field != files
        ]
        if files is not None:
            parameters.append(click.Argument([files], nargs=-1, required=True, metavar="FILE..."))
        parameters.append(
            click.Option(["--config"], metavar="FILE", help="TOML file with settings; flags win.")
        )
        parameters.append(_json_option())
        command = click.Command(name, params=parameters, callback=callback, help=help_)
        app.add_command(command)
        return command

    return decorate


def _option(field: str, annotation: Any, description: str, default: Any) -> click.Option:
    flag = f"--{field.replace('_', '-')}"
    kind = _core_type(annotation)
    shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
    text = description[:1].upper() + description[1:] + "."
    if default is not None:
        text += f" [default: {str(shown).lower() if kind is bool else shown}]"
    if kind is bool:
        return click.Option([f"{flag}/--no-{flag[2:]}", field], default=None, help=text)
    if typing.get_origin(kind) is typing.Literal:
        return click.Option([flag], type=click.Choice(typing.get_args(kind)), help=text)
    # Numbers and lists stay text here: the settings check them, all at once.
    metavar = {int: "N", float: "X", Path: "PATH"}.get(
        kind, "A,B,…" if "tuple" in str(kind) else "TEXT"
    )
    return click.Option([flag], metavar=metavar, help=text)


def _core_type(annotation: Any) -> Any:
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return next(a for a in typing.get_args(annotation) if a is not type(None))
    return annotation


def _json_option() -> click.Option:
    return click.Option(
        ["--json", "json_"], is_flag=True, help="Print results as JSON for programs."
    )


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=1))


def _load(settings: Any) -> tuple[Any, Any]:
    """Load the prompts first: they fail sooner than a model."""
    from .models import load_model
    from .prompts import load_prompts

    spec = settings.prompts
    if contrast := getattr(settings, "contrast", None):
        spec = f"{spec}+{contrast}"
    prompts = load_prompts(spec)
    asked = [getattr(settings, name, None) or () for name in ("languages", "sources", "targets")]
    if missing := [code for code in dict.fromkeys(sum(asked, ())) if code not in prompts.languages]:
        raise LanguageError(
            f"no prompts in {', '.join(missing)}; {spec} has {', '.join(prompts.languages)}"
        )
    note(f"Loading {settings.model}")
    model = load_model(
        settings.model,
        revision=settings.revision,
        device=settings.device,
        dtype=settings.dtype,
        blocks=settings.blocks,
        chat_template=settings.chat_template,
    )
    return model, prompts


def _finish(run: Path, json_: bool) -> None:
    """Write the report of a run with results, print its tables, and name the file."""
    from .report import print_results, write_report
    from .results import load_diagnosis, load_results

    path = write_report(run)
    results = load_results(run)
    if json_:
        _print_json(results.to_json())
    else:
        print_results(results, load_diagnosis(run))
    note(f"Report: {path}")


# ---------------------------------------------------------------------------------------------
# commands


@settings_command("measure", "Measure who is refused, by language: generate, judge, report.")
def measure(settings: Any, json_: bool) -> None:
    """Run `measure`."""
    from . import recipes

    model, prompts = _load(settings)
    recipes.measure(model, prompts, settings)
    _finish(settings.out, json_)


@settings_command("calibrate", "Fit a gate: capture activations, choose layers, set thresholds.")
def calibrate(settings: Any, json_: bool) -> None:
    """Run `calibrate`."""
    from . import recipes
    from .report.terminal import print_actions, print_diagnosis

    model, prompts = _load(settings)
    found = recipes.calibrate(model, prompts, settings)
    if json_:
        _print_json(found.diagnosis.to_json())
    else:
        print_diagnosis(found.diagnosis)
        print_actions(settings.out)
    note(
        f"Gate: {settings.out / 'gate'} (read gate.json); "
        f"next: babelgate evaluate --out {settings.out}"
    )


@settings_command("thresholds", "Study what labelled shots buy, by threshold rule, block and rank.")
def thresholds(settings: Any, json_: bool) -> None:
    """Run `thresholds`."""
    from .report.figures_study import print_study
    from .study import StudyOptions, study_thresholds

    harmful, harmless = settings.unlabelled
    options = StudyOptions(
        ranks=settings.ranks,
        l2=settings.l2,
        shots=settings.shots,
        draws=settings.draws,
        unlabelled=(harmful, harmless),
    )
    model, prompts = _load(settings)
    found = study_thresholds(model, prompts, settings.calibration(), options)
    if json_:
        _print_json(found.to_json())
    else:
        print_study(found)
    note(f"Study: {settings.out / 'study.json'}, study.md and study.svg beside it")


@settings_command("diagnose", "Say where each language fails: prompt, harm, threshold or action.")
def diagnose(settings: Any, json_: bool) -> None:
    """Run `diagnose`."""
    from .diagnosing.run import diagnose as run
    from .report.diagnosed import print_diagnosed, write_diagnosed

    model, prompts = _load(settings)
    found = run(model, prompts, settings)
    path = write_diagnosed(settings.out)
    if json_:
        _print_json({"breaks": found.breaks.to_json(), "geometry": found.geometry.to_json()})
    else:
        print_diagnosed(found.breaks)
    note(f"Report: {path}")


@settings_command("directions", "Select refusal directions by language and measure their transfer.")
def directions(settings: Any, json_: bool) -> None:
    """Run `directions`."""
    from .directing.run import find_directions
    from .report.diagnosed import print_directed, write_directed
    from .report.load_studies import load_directed

    model, prompts = _load(settings)
    found = find_directions(model, prompts, settings)
    path = write_directed(settings.out)
    if json_:
        _print_json(
            {
                "selections": {x: s.to_json() for x, s in found.selections.items()},
                "transfer": None if found.transfer is None else found.transfer.to_json(),
            }
        )
    else:
        print_directed(load_directed(settings.out))
    note(f"Vectors: {settings.out / 'vectors.safetensors'}; report: {path}")


@app.command(help="List directions in a file, or convert them: safetensors, GGUF, npz (repeng).")
@click.argument("source", type=click.Path())
@click.option("--to", metavar="FILE", help="Write them here; the suffix says the format.")
@click.option("--name", help="Only this direction, such as refusal/en.")
@click.option("--layers", metavar="N,N,…", help="Only these blocks.")
@click.option("--json", "json_", is_flag=True, help="Print the list as JSON for programs.")
def vectors(source: str, to: str | None, name: str | None, layers: str | None, json_: bool) -> None:
    """Run `vectors`."""
    from .console import table
    from .vectors import export_vectors, import_vectors

    path = Path(source)
    found = import_vectors(path / "vectors.safetensors" if path.is_dir() else path)
    blocks = None
    if layers is not None:
        try:
            blocks = [int(part) for part in layers.split(",")]
        except ValueError:
            raise click.UsageError(f"--layers {layers!r}: expected numbers such as 12,14") from None
    if name is not None:
        found = found.select(name, blocks)
    if to is not None:
        written = export_vectors(found, Path(to), name=name, layers=blocks)
        note(f"Blocks {', '.join(map(str, written))}: {to}")
        return
    rows = [
        [e.name, e.layer, e.direction.position, e.direction.method, f"{e.scale:.4g}", e.scale_is]
        for e in found.directions
        if blocks is None or e.layer in blocks
    ]
    columns = ["Name", "Block", "Position", "Method", "Length", "Length is"]
    if json_:
        _print_json([dict(zip(("name", "layer", "position", "method", "scale", "scale_is"), row))
                     for row in rows])  # fmt: skip
    else:
        table(f"Directions in {path.name or source}", columns, rows)


@settings_command("evaluate", "Generate with and without the gate on the same prompts, and report.")
def evaluate(settings: Any, json_: bool) -> None:
    """Run `evaluate`."""
    from . import recipes
    from .gate_file import load_gate

    load_gate(settings.gate or settings.out / "gate")  # a damaged one fails before a model loads
    model, prompts = _load(settings)
    recipes.evaluate(model, prompts, settings)
    _finish(settings.out, json_)


@settings_command("compare", "Compare methods of repair on the same prompts, labels and seeds.")
def compare(settings: Any, json_: bool) -> None:
    """Run `compare`."""
    from .comparing.run import compare as run
    from .prompts import load_prompts
    from .report.compared import print_comparison, write_comparison

    test = None if settings.test_prompts is None else load_prompts(settings.test_prompts)
    model, prompts = _load(settings)
    comparison = run(model, prompts, settings, test=test)
    path = write_comparison(settings.out)
    if json_:
        _print_json(comparison.to_json())
    else:
        print_comparison(comparison)
    note(f"Report: {path}")


@app.command(help="Run the whole job on the demo model and the starter set, and report.")
@click.option("--out", type=click.Path(), default="demo-run", help="Run folder.", show_default=True)
@click.option("--seed", type=click.INT, default=0, help="Seed of every random choice.")
@click.option("--json", "json_", is_flag=True, help="Print results as JSON for programs.")
def demo(out: str, seed: int, json_: bool) -> None:
    """Run `demo`."""
    from . import recipes
    from .models import load_model

    note("Loading the demo model")
    recipes.demo(load_model("demo"), Path(out), seed=seed)
    _finish(Path(out), json_)


@app.command(help="Write report.html from a run folder (no model needed).")
@click.argument("run", type=click.Path())
@click.option("--to", type=click.Path(), help="File to write. [default: RUN/report.html]")
@click.option("--figures", type=click.Path(), help="Folder for every figure as SVG.")
@click.option("--markdown", is_flag=True, help="Print the tables as Markdown instead.")
@click.option(
    "--show-replies",
    is_flag=True,
    help="Include the replies, which may be harmful, behind a click each.",
)
@click.option("--json", "json_", is_flag=True, help="Print results as JSON for programs.")
def report(
    run: str, to: str | None, figures: str | None, markdown: bool, show_replies: bool, json_: bool
) -> None:
    """Run `report`."""
    from .report import print_results, to_markdown, write_report
    from .report.diagnosed import print_studies
    from .report.load_studies import load_studies, only_studies
    from .results import load_diagnosis, load_results

    folder = Path(run)
    if only_studies(folder):
        if markdown or json_ or show_replies:
            raise UserError(
                f"{folder} holds studies of activation space, no measured results: `--markdown`, "
                "`--json` and `--show-replies` need those of `babelgate measure` or `repair`; "
                "breaks.json, geometry.json and directions.json hold the numbers of the studies"
            )
        path = write_report(
            folder,
            None if to is None else Path(to),
            figures=None if figures is None else Path(figures),
        )
        print_studies(load_studies(folder))
        note(f"Report: {path}")
        return
    results, diagnosis = load_results(folder), load_diagnosis(folder)
    if markdown:
        click.echo(to_markdown(results, diagnosis))
        return
    path = write_report(
        folder,
        None if to is None else Path(to),
        figures=None if figures is None else Path(figures),
        show_replies=show_replies,
    )
    if json_:
        _print_json(results.to_json())
    else:
        print_results(results, diagnosis)
    note(f"Report: {path}")


@settings_command("judge", "Judge replies in JSONL files, and compare with labels.", files="files")
def judge(settings: Any, json_: bool) -> None:
    """Run `judge`."""
    from .judge_files import judge_files, print_judged

    judged = judge_files(settings)
    if json_:
        _print_json(judged.to_json())
    else:
        print_judged(judged, settings)


@app.command(help="How many prompts show a difference, for rates of refusal or selectivity.")
@click.option("--base", type=click.FLOAT, required=True, help="Refusal rate before, in 0..1.")
@click.option(
    "--difference", "differences", metavar="X,Y,…", help="Changes to detect. [default: 0.02..0.3]"
)
@click.option("--prompts", type=click.INT, help="Instead: the change that so many prompts show.")
@click.option("--power", type=click.FLOAT, default=0.8, show_default=True, help="Chance to see it.")
@click.option("--paired/--unpaired", default=True, help="Same prompts on both sides, or not.")
@click.option("--correlation", type=click.FLOAT, default=0.0, help="Of a prompt's two outcomes.")
@click.option("--discordance", type=click.FLOAT, help="Share of prompts whose outcome changes.")
@click.option("--harmless", type=click.FLOAT, help="Harmless refusal rate: for selectivity.")
@click.option("--languages", type=click.INT, default=1, help="Languages averaged over.")
@click.option("--icc", type=click.FLOAT, default=1.0, help="Correlation between translations.")
@click.option("--comparisons", type=click.INT, default=1, help="Comparisons made together.")
@click.option("--alpha", type=click.FLOAT, default=0.05, show_default=True, help="Level.")
@click.option("--json", "json_", is_flag=True, help="Print the table as JSON for programs.")
def power(
    differences: str | None, prompts: int | None, power: float, json_: bool, **design: Any
) -> None:
    """Run `power`."""
    from dataclasses import asdict

    from .console import table
    from .stats import Design, detectable_difference, power_table

    plan = Design(**design)
    if prompts is not None:
        least = detectable_difference(plan, prompts, power)
        found = None if least != least else round(least, 4)  # NaN: not even the largest
        if json_:
            _print_json({"prompts": prompts, "power": power, "difference": found})
        else:
            click.echo(
                f"{prompts} prompts of each class and language show a change of "
                + ("nothing: too few" if found is None else f"{100 * found:.1f} points")
                + f" with a chance of {power:g}."
            )
        return
    wanted = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3)
    if differences is not None:
        try:
            wanted = tuple(float(part) for part in differences.split(","))
        except ValueError:
            raise click.UsageError(
                f"--difference {differences!r}: expected numbers such as 0.05,0.1"
            ) from None
    rows = power_table(plan, wanted, (power,))
    if json_:
        _print_json([asdict(row) for row in rows])
    else:
        table(
            f"Prompts of each class and language, power {power:g}, from a rate of {plan.base:g}",
            ["Change, points", "Prompts"],
            [[f"{100 * row.difference:+.1f}", row.prompts] for row in rows],
        )


@app.command(help="List and audit a prompt set: counts, duplicates, leaks, tokens per language.")
@click.argument("source", default="starter")
@click.option("--languages", metavar="A,B,…", help="Only these languages.")
@click.option(
    "--form",
    metavar="A,B,…",
    help="Change the form: plain, code-switched, transliterated, without-diacritics, "
    "framed-story, framed-homework.",
)
@click.option("--to", metavar="FILE", help="Write the prompts to this .jsonl file.")
@click.option("--model", help="Count tokens with this model's tokenizer.")
@click.option("--json", "json_", is_flag=True, help="Print the audit as JSON for programs.")
def prompts(
    source: str,
    languages: str | None,
    form: str | None,
    to: str | None,
    model: str | None,
    json_: bool,
) -> None:
    """Run `prompts`."""
    from .prompts import audit, load_prompts, print_audit, write_prompts

    loaded = load_prompts(source, languages=languages)
    if form is not None:
        loaded = _in_forms(loaded, load_prompts(source) if languages else loaded, form)
    if to is not None:
        write_prompts(to, loaded)
        note(f"{len(loaded)} prompts: {to}")
    count = None
    if model is not None:
        from .models.loading import load_template

        count = load_template(model).count_tokens
    result = audit(loaded, count_tokens=count)
    if json_:
        _print_json(result.to_json())
    else:
        print_audit(result)


def _in_forms(prompts: Any, everything: Any, forms: str) -> Any:
    """Return the prompts in the forms of a list, and say what was left out."""
    from .prompts.attacks import change_forms

    changed = change_forms(prompts, [f.strip() for f in forms.split(",")], english=everything)
    for skip in changed.skipped:
        note(f"{skip.form}: left out {skip.n} {skip.label} in {skip.language}: {skip.reason}")
    for form, language in changed.one_sided:
        note(f"{form}: {language} has one class only; no selectivity can be measured there")
    if not len(changed.prompts):
        raise UserError(f"no prompt can be brought into the form {forms}; choose another")
    return changed.prompts


@app.command(help="Show what babelgate knows of a model: blocks, template, identity.")
@click.argument("model", default="demo")
@click.option("--revision", help="Branch, tag or commit of a hub model.")
@click.option("--device", default="auto", help="auto, cpu, cuda, mps.")
@click.option("--dtype", default="auto", help="auto, bfloat16, float16, float32.")
@click.option("--blocks", help="Dotted name of the decoder blocks.")
@click.option("--chat-template", help="Jinja file or source, or plain.")
@click.option("--json", "json_", is_flag=True, help="Print the facts as JSON for programs.")
def models(model: str, json_: bool, **options: Any) -> None:
    """Run `models`."""
    from .console import table
    from .models.loading import load_model, model_facts

    facts = model_facts(load_model(model, **options))
    if json_:
        _print_json(facts)
    else:
        table(str(facts["name"]), ["property", "value"], [[k, v] for k, v in facts.items()])


if __name__ == "__main__":
    main()
