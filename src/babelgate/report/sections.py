"""Which sections a report has, in which order: those that a run has no numbers for are left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..results import Diagnosis, LayerChoice, Results
from ..types import Verdict
from .actions_tried import ActionsTried
from .figure import Figure
from .figures_actions import actions_figure, finalists_table, pairs_table, sides_table
from .figures_ceiling import ceiling_figure
from .figures_contrasts import contrasts_figure
from .figures_gap import gap_figure
from .figures_methods import methods_figure
from .figures_outcomes import outcomes_figure
from .figures_scores import scores_figure
from .figures_separability import separability_figure
from .figures_thresholds import thresholds_figure
from .harm_or_form import readings
from .judge_facts import judges_of
from .judge_tables import bounds_table, corrected_table, errors_table, parts_table, usage_table
from .judge_words import judge_paragraphs
from .language_gaps import language_table, language_words
from .names import TierGroup, methods, only, order, reference_method, rows_by_key
from .result_tables import comparisons_table, layer_table, macro_table, rates_table
from .tables import Table

_MOST_CEILINGS = 2  # more gated methods than these lie behind a click
_MOST_BOUNDS = 12  # likewise, of rates with unparsed replies


@dataclass(frozen=True)
class Section:
    """A heading with figures, tables that are shown, and a word for the navigation.

    ``words`` stand above the tables; ``limits`` are warnings with what they are of; ``folded``
    figures and ``closed`` tables lie behind a click.
    """

    key: str
    nav: str
    title: str
    lead: str
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    folded: tuple[Figure, ...] = ()
    closed: tuple[Table, ...] = ()
    words: tuple[str, ...] = ()
    limits: tuple[tuple[str, str], ...] = ()

    @property
    def all_figures(self) -> tuple[Figure, ...]:
        """The figures, those behind a click last."""
        return (*self.figures, *self.folded)


def sections(
    results: Results,
    diagnosis: Diagnosis | None,
    verdicts: Sequence[Verdict] = (),
    actions: ActionsTried | None = None,
) -> list[Section]:
    """Return the sections that this run has numbers for; ``verdicts`` add counts to the judge's."""
    groups = order(results, diagnosis)
    found = [*_measured(results, groups), *_decided(results, groups)]
    if diagnosis is not None:
        found += _diagnosed(diagnosis, groups)
    if actions is not None:
        found.append(actions_section(actions))
    found += _outcomes(results, groups)
    found += _judged(results, groups, verdicts)
    return [s for s in found if s.figures or s.tables]


def actions_section(tried: ActionsTried) -> Section:
    """Return the section on which actions were tried after the gate's decision, and chosen."""
    figure = actions_figure(tried)
    judged = finalists_table(tried)
    return Section(
        "actions",
        "Actions",
        "What follows a decision",
        "The gate only decides; two actions follow, one where it fires and one where it is "
        "silent. Candidates were tried on validation prompts: first by the first token alone, "
        "then the best pairs by judged replies.",
        () if figure is None else (figure,),
        _filled(judged),
        closed=_filled(sides_table(tried), *(() if figure else (pairs_table(tried),))),
    )


def _measured(results: Results, groups: Sequence[TierGroup]) -> list[Section]:
    reference = reference_method(results)
    if reference is None:
        return []
    rows = {r.language: r for r in results.rows if r.method == reference}
    table = rates_table(results, groups, reference)
    names = methods(results)
    macro = macro_table(results)
    gap = Section(
        "gap",
        "Gap",
        "The refusal gap",
        "How much the untouched model refuses, before anything is repaired."
        if reference == "base"
        else f"This run has no untouched model; the first method, “{reference}”, is shown.",
        (gap_figure(rows, only(groups, rows), reference, (table,)),),
        (
            *_filled(language_table(results, groups, method=reference, metric="harmful_refusal")),
            *((macro,) if macro.rows and len(names) < 2 else ()),
        ),
        closed=_filled(_other_languages(results, groups)),
        words=language_words(results, reference),
    )
    if len(names) < 2:
        return [gap]
    cells = rows_by_key(results)
    shown = only(groups, [r.language for r in results.rows])
    figure = methods_figure(cells, results.macro, shown, names, (rates_table(results, groups),))
    tables = (macro, comparisons_table(results))
    change = Section(
        "change",
        "Before and after",
        "Before and after",
        "What each method changed, in both directions: a method that refuses more of everything "
        "gains on harmful prompts and loses on harmless ones, and its selectivity stays.",
        (figure,),
        tuple(t for t in tables if t.rows),
    )
    return [gap, change]


def _other_languages(results: Results, groups: Sequence[TierGroup]) -> Table:
    """Return the comparisons of languages under every method; those shown openly are in it too."""
    several = len(methods(results)) > 1
    return language_table(results, groups, method=None if several else reference_method(results))


def _filled(*tables: Table) -> tuple[Table, ...]:
    return tuple(table for table in tables if table.rows)


def _decided(results: Results, groups: Sequence[TierGroup]) -> list[Section]:
    reference = reference_method(results)
    base = {r.language: r for r in results.rows if r.method == reference}
    figures = []
    for place, method in enumerate(methods(results)):
        rows = {r.language: r for r in results.rows if r.method == method and r.gate is not None}
        if rows:
            before = base if method != reference else {}
            figures.append(ceiling_figure(method, place, rows, before, only(groups, rows)))
    lead = (
        "Deciding and acting are two things. The gate decides from the activations; whether the "
        "reply then follows is another matter, measured apart."
    )
    return [
        Section(
            "ceiling",
            "Gate",
            "Deciding and acting",
            lead,
            tuple(figures[:_MOST_CEILINGS]),
            folded=tuple(figures[_MOST_CEILINGS:]),
        )
    ]


def _diagnosed(diagnosis: Diagnosis, groups: Sequence[TierGroup]) -> list[Section]:
    scores = {s.language: s for s in diagnosis.gate_scores}
    found = []
    if scores:
        figure = scores_figure(scores, only(groups, scores))
        lead = "What the threshold cuts apart, and what it cannot."
        found.append(Section("scores", "Scores", "Gate scores", lead, (figure,)))
    figures = []
    if diagnosis.separability:
        languages = [s.language for s in diagnosis.separability]
        figures.append(
            separability_figure(
                diagnosis.separability, chosen_layers(diagnosis), only(groups, languages)
            )
        )
    verdicts = readings(diagnosis.contrasts)
    if verdicts:
        figures.append(contrasts_figure(verdicts, only(groups, verdicts)))
    lead = (
        "A probe can win by recognising the style of a data set. Topic can be won by form, twins "
        "cannot: where topic is high and twins lie near 0.5, the gate reads form rather than harm."
    )
    found.append(Section("separability", "Harm or form", "Harm or form", lead, tuple(figures)))
    found += _choices(diagnosis, groups)
    return found


def _choices(diagnosis: Diagnosis, groups: Sequence[TierGroup]) -> list[Section]:
    tables = (layer_table(diagnosis.layer_choice),) if diagnosis.layer_choice else ()
    figures = ()
    if diagnosis.thresholds:
        languages = [t.language for t in diagnosis.thresholds]
        figures = (thresholds_figure(diagnosis.thresholds, only(groups, languages)),)
    lead = (
        "Layers are chosen on source languages, leaving one out at a time; thresholds are set per "
        "language from few labelled examples or none."
    )
    return [Section("choices", "Thresholds", "Layers and thresholds", lead, figures, tables)]


def _outcomes(results: Results, groups: Sequence[TierGroup]) -> list[Section]:
    if not results.rows:
        return []
    shown = only(groups, [r.language for r in results.rows])
    figure = outcomes_figure(rows_by_key(results), shown, methods(results))
    lead = "Every reply was put into one of five classes; the rates above rest on these counts."
    return [Section("outcomes", "Outcomes", "Outcomes", lead, (figure,))]


def _judged(
    results: Results, groups: Sequence[TierGroup], verdicts: Sequence[Verdict]
) -> list[Section]:
    if not results.rows:
        return []
    groups = only(groups, [r.language for r in results.rows])
    bounds = bounds_table(results, groups)
    judges = judges_of(results)
    whole, *parts = [errors_table(judge, results, groups, verdicts) for judge in judges]
    measured = [table for judge, table in zip(judges[1:], parts) if judge.errors]
    many = len(bounds.rows) > _MOST_BOUNDS
    limits = [
        ("the judge" if len(judges) == 1 else judge.name, note)
        for judge in judges
        for note in judge.notes
    ]
    opened = _filled(whole, parts_table(results, groups), usage_table(results))
    corrected = corrected_table(results, groups)
    return [
        Section(
            "judge",
            "Judge",
            "The judge",
            "Every rate above is this judge's word.",
            tables=opened if many else (*opened, *_filled(bounds)),
            closed=_filled(*([bounds] if many else []), corrected, *measured),
            words=judge_paragraphs(results),
            limits=tuple(limits),
        )
    ]


def chosen_layers(diagnosis: Diagnosis) -> tuple[int, ...]:
    """Return the layers the gate reads: from the gate itself, or else from the choice."""
    layers = diagnosis.gate.get("layers", diagnosis.gate.get("layer"))
    if isinstance(layers, int):
        return (layers,)
    if isinstance(layers, (list, tuple)) and all(isinstance(layer, int) for layer in layers):
        return tuple(layers)
    chosen: list[LayerChoice] = [c for c in diagnosis.layer_choice if c.chosen]
    return chosen[0].layers if chosen else ()
