"""The sections, summary and facts of the page on a comparison of methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..comparing.results import Comparison
from ..results import Results
from .compared_differences import differences_table, language_differences_table
from .compared_tables import costs_table, described_table, language_tables, methods_tables
from .compared_values import difference_of, estimate_of, languages_of, ordered, significant
from .definitions import definitions
from .figures_costs import costs_figure
from .figures_pareto import pareto_figure
from .judge_facts import NOTES, judges_of
from .judge_tables import errors_table
from .load import ComparedFolder
from .names import BASE, TierGroup, language_label
from .numbers import count, in_words, listed, p_value, plural, points, span
from .page import About
from .sections import Section, actions_section
from .spots import frontier, spots_of
from .tables import Table, make

_MOST_NAMED = 6
_TERMS = (
    ("Harmful refused", "Share of harmful prompts to which the reply refuses."),
    ("Harmless refused", "Share of harmless prompts to which the reply refuses."),
    ("Selectivity Δ", "Harmful minus harmless refused, in points: what a repair is for."),
    ("Worst rise", "Largest rise of harmless refusals over the untouched model's in one language."),
    ("Degenerate", "Share of replies that loop, echo or hold nothing; both kinds weigh alike."),
    ("Decides", "Selectivity of the decision alone: share fired on harmful minus on harmless."),
    ("AUROC", "Of the score that decides, harmful against harmless, mean over languages."),
    ("KL", "How far the next token on harmless prompts moves from the untouched model's, in nats."),
    ("Latency", "Time of a reply over the untouched model's, taken in turns on one machine."),
    ("Seed SD", "Standard deviation of selectivity over draws of the shots, in points."),
    ("Shots", "Labelled examples per class in a target language, the same ones for every method."),
    ("Treatment", "A way of replying; its reply is the same whoever decided, so it is shared."),
    ("Family", "Untouched model, our gates, the paper's method, other methods, controls."),
    ("Control", "A decision that should not work, such as random or shuffled labels."),
)  # fmt: skip


def compared_sections(folder: ComparedFolder) -> list[Section]:
    """Return the sections that the comparison has numbers for."""
    comparison = folder.comparison
    found = [_compared(comparison), _pareto(comparison), _methods(comparison)]
    found += [_languages(comparison), _differences(comparison), _costs(comparison)]
    if folder.actions is not None:
        found.append(actions_section(folder.actions))
    found += [_judge(comparison), _reading()]
    return [s for s in found if s.figures or s.tables or s.closed or s.limits]


def _compared(comparison: Comparison) -> Section:
    return Section(
        "compared",
        "Compared",
        "What was compared",
        "Every method saw the same prompts, the same labelled examples, the same seeds and the "
        "same judge. A treatment's reply to a prompt was generated once and is shared by all "
        "methods that give that treatment.",
        closed=_filled(described_table(comparison)),
        words=(_setting(comparison), *(f"Note: {note}" for note in comparison.notes)),
    )


def _setting(comparison: Comparison) -> str:
    prompts = comparison.prompts
    languages = languages_of(comparison)
    text = f"{plural(len(comparison.methods), 'method')} in {plural(len(languages), 'language')}"
    if languages:
        text += f" ({listed([language_label(x) for x in languages])})"
    if isinstance(prompts.get("n"), int):
        text += f", {count(prompts['n'])} prompts"
    sources = prompts.get("sources")
    if isinstance(sources, (list, tuple)) and sources:
        text += f". Fitted on {listed([language_label(str(x)) for x in sources])}"
        text += " as source languages" if len(sources) > 1 else " as the source language"
    text += (
        f", with {plural(comparison.shots, 'labelled example')} per class in every target "
        f"language; means over {plural(len(comparison.seeds), 'draw')} of them."
        if comparison.shots
        else ", without labelled examples in the target languages."
    )
    return text


def _pareto(comparison: Comparison) -> Section:
    figure = pareto_figure(comparison)
    lead = (
        "A repair should refuse more of what is harmful without refusing more of what is not. "
        "Neither number says anything without the other."
    )
    figures = () if figure is None else (figure,)
    return Section("pareto", "Picture", "The two kinds of refusal", lead, figures)


def _methods(comparison: Comparison) -> Section:
    lead = (
        "Sorted by selectivity within families. Methods are tested against the untouched model "
        "only; whether two of them differ is not tested here."
    )
    tables = _filled(*methods_tables(comparison))
    return Section("methods", "Methods", "The methods", lead, tables=tables)


def _languages(comparison: Comparison) -> Section:
    closed = ("harmful_refusal", "harmless_refusal", "degenerate", "gate_selectivity")
    return Section(
        "languages",
        "Languages",
        "By language",
        "A mean hides the language in which a method fails; look for the lowest number in a row.",
        tables=_filled(*language_tables(comparison)),
        closed=_filled(*(t for metric in closed for t in language_tables(comparison, metric))),
    )


def _differences(comparison: Comparison) -> Section:
    return Section(
        "differences",
        "Differences",
        "Differences from the untouched model",
        "Paired on prompts. A difference counts where its interval leaves out 0 and its p, "
        "corrected for the number of tests (Holm), is at most 0.05.",
        tables=_filled(differences_table(comparison)),
        closed=_filled(language_differences_table(comparison)),
    )


def _costs(comparison: Comparison) -> Section:
    figure = costs_figure(comparison)
    lead = (
        "What a repair does to replies that nobody wanted changed, and to the time they take. "
        "Fixed words are no distribution: where a method says them, their share stands instead."
    )
    tables = () if figure is not None else _filled(costs_table(comparison))
    figures = () if figure is None else (figure,)
    return Section("costs-of", "Costs", "What it costs", lead, figures, tables)


def _judge(comparison: Comparison) -> Section:
    results = Results({}, {}, comparison.judge, (), (), ())
    judges = judges_of(results)
    groups = (TierGroup("", tuple(languages_of(comparison))),)
    tables = [
        # As a part, since the table of a whole judge counts replies of a results.json.
        errors_table(replace(judge, part="compared"), results, groups, ())
        for judge in judges
        if judge.errors
    ]
    limits = [
        ("the judge" if len(judges) == 1 else judge.name, note)
        for judge in judges
        for note in judge.notes
    ]
    lead = f"Every rate is the word of the judge “{judges[0].name}”, the same for every method."
    return Section(
        "judge", "Judge", "The judge", lead, tables=_filled(*tables), limits=tuple(limits)
    )


def _reading() -> Section:
    words = (
        "Read the picture first: a good repair lies up and to the left of the untouched model. One "
        "that lies up and to the right along a diagonal refuses more of everything. Then look at "
        "the worst rise and at the table by language: a good mean can hide one bad language. Then "
        "at the costs: degenerate replies refuse nothing and help nobody.",
        "Compare Decides with Selectivity: the first is what the decision knows, the second what "
        "the replies show of it. A method far below its decision needs another action, one with "
        "a low decision needs another reading of the model.",
        "Intervals are 95 % and resample groups of translations; draws of the shots are held, and "
        "their spread is the seed SD. Controls say what can be had without knowing harm.",
    )
    table: Table = make("Definitions", ("Term", "Meaning"), "ll", _TERMS)
    return Section("reading", "How to read", "How to read this", "", tables=(table,), words=words)


def compared_summary(comparison: Comparison) -> list[str]:
    """Return the sentences at the top: computed, and no more than the numbers say."""
    base = estimate_of(comparison, BASE, "selectivity")
    found = []
    if not base.missing:
        rates = [estimate_of(comparison, BASE, m) for m in ("harmful_refusal", "harmless_refusal")]
        found.append(
            f"Over {plural(len(languages_of(comparison)), 'language')} the untouched model refuses "
            f"{in_words(rates[0])} of harmful and {in_words(rates[1])} of harmless prompts: "
            f"selectivity {points(base.value)} points ({span(base.low, base.high)})."
        )
    scored = [
        (m, e)
        for m in ordered(comparison)
        if m.family not in ("base", "control")
        if not (e := estimate_of(comparison, m.name, "selectivity")).missing
    ]
    if not scored:
        return [*found, "No other method was scored, so nothing can be compared."]
    method, top = max(scored, key=lambda x: x[1].value)
    text = (
        f"The highest selectivity is that of “{method.name}”: {points(top.value)} points "
        f"({span(top.low, top.high)})"
    )
    change = difference_of(comparison, method.name, "selectivity")
    if change is not None and change.delta is not None:
        text += f", {points(change.delta)} against the untouched model"
        text += f" (Holm p {p_value(change.p_holm)})"
        text += "" if significant(change) else ", which noise alone could explain"
    close = [m.name for m, e in scored if m is not method and e.high >= top.low]
    text += f". {_overlap(close)}" if close else "."
    found.append(f"{text} {_best(comparison)}".strip())
    return found


def _overlap(names: Sequence[str]) -> str:
    """Say whose interval reaches the best one's, and that this is no test."""
    some = _some(names)
    verb = "The interval of" if len(names) == 1 else "The intervals of"
    reach = "reaches" if len(names) == 1 else "reach"
    return f"{verb} {some} {reach} its own, so which of them is best is open."


def _some(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    shown = [f"“{name}”" for name in names[: _MOST_NAMED if more > 1 else len(names)]]
    return listed(shown + ([f"{more} more"] if more > 1 else []))


def _best(comparison: Comparison) -> str:
    spots, _ = spots_of(comparison)
    names = [s.name for s in frontier(spots)]
    if len(spots) < 3 or not names:
        return ""
    return f"On the Pareto frontier: {_some(names)}."


def compared_facts(comparison: Comparison) -> list[str]:
    """Return the facts below the heading."""
    facts = [
        plural(len(comparison.methods), "method"),
        plural(len(languages_of(comparison)), "language"),
        f"{plural(comparison.shots, 'shot')} per class",
        plural(len(comparison.seeds), "seed"),
    ]
    if comparison.prompts.get("name"):
        facts.append(f"prompts: {comparison.prompts['name']}")
    if comparison.judge.get("name"):
        facts.append(f"judge: {comparison.judge['name']}")
    return facts


def compared_about(folder: ComparedFolder) -> About:
    """Return what was run and how, as titled definition lists."""
    comparison, info = folder.comparison, folder.run or {}
    loose = {k: v for k, v in info.items() if not isinstance(v, Mapping) and k != "notes"}
    told = {*NOTES, "errors"}
    parts: list[tuple[str, Mapping[str, Any]]] = [
        ("Run", loose),
        ("Model", comparison.model),
        ("Prompts", comparison.prompts),
        ("Judge", {k: v for k, v in comparison.judge.items() if k not in told}),
        ("Methods", {m.name: dict(m.facts) for m in ordered(comparison) if m.facts}),
    ]
    parts += [
        (key.replace("_", " ").capitalize(), info[key])
        for key in ("config", "versions", "hardware", "stages")
        if isinstance(info.get(key), Mapping)
    ]
    return [(title, definitions(value)) for title, value in parts if value]


def _filled(*tables: Table) -> tuple[Table, ...]:
    return tuple(table for table in tables if table.rows and len(table.columns) > 1)
