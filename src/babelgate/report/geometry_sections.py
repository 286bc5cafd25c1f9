"""The sections of a diagnosis: what breaks where, and the geometry that says why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..breaks import Breaks
from ..languages import tier
from .figure import Figure
from .figures_breaks import borders_table, breaks_figure, breaks_words, sentences_table
from .figures_maps import Maps, maps_figure
from .figures_matrix import layers_figure, matrix_figure
from .figures_profile import Profile, profile_figure
from .figures_projection import Projection, projection_figure
from .matrices import Matrix, groups_of
from .names import TierGroup, language_name, only
from .numbers import MISSING, decimal, listed, percent, plural
from .sections import Section
from .tables import make

_MOST_NAMED = 6


@dataclass(frozen=True)
class LayerMatrices:
    """The same matrix at several layers, ascending, of which ``chosen`` is drawn large."""

    name: str
    title: str
    matrices: tuple[tuple[int, Matrix], ...]
    chosen: int | None = None
    caption: str = ""


@dataclass(frozen=True)
class Skipped:
    """An analysis that was not done: what, why, and what would make it possible."""

    what: str
    why: str
    fix: str = ""


@dataclass(frozen=True)
class GeometryPage:
    """Everything that the sections draw; what is absent leaves no section.

    ``languages`` are in the report's order within tiers; ``tiers`` overrides the registry's.
    """

    languages: tuple[str, ...]
    tiers: Mapping[str, str] = field(default_factory=dict)
    breaks: Breaks | None = None
    profiles: tuple[Profile, ...] = ()
    cosines: tuple[LayerMatrices, ...] = ()
    transfers: tuple[Matrix, ...] = ()
    maps: tuple[Maps, ...] = ()
    projections: tuple[Projection, ...] = ()
    skipped: tuple[Skipped, ...] = ()

    @property
    def groups(self) -> tuple[TierGroup, ...]:
        """The languages by tier."""
        return groups_of(self.languages, {c: self.tiers.get(c) or tier(c) for c in self.languages})


def geometry_sections(page: GeometryPage) -> list[Section]:
    """Return the sections that there are inputs for; what breaks where comes first."""
    found = [
        _breaks(page),
        _profiles(page),
        _cosines(page),
        _transfers(page),
        _selection(page),
        _projections(page),
        _skipped(page),
    ]
    return [s for s in found if s is not None]


def geometry_summary(page: GeometryPage) -> list[str]:
    """Return the opening paragraphs: where it breaks, and what was left out."""
    found = []
    if page.breaks is not None and page.breaks.rows:
        found.append(breaks_words(page.breaks))
    if page.skipped:
        found.append(f"Not done: {listed([s.what for s in page.skipped])}; see the last section.")
    return found or ["Nothing was measured."]


def _breaks(page: GeometryPage) -> Section | None:
    if page.breaks is None or not page.breaks.rows:
        return None
    rows = {r.language: r for r in page.breaks.rows}
    groups = only(page.groups, rows)
    return Section(
        "breaks",
        "What breaks",
        "What breaks where",
        "A harmful prompt is refused when four things hold in a row: the model understands it, its "
        "states tell harm from harmlessness, the threshold cuts where the two part, and the "
        "decision becomes a reply. The first that fails is what to repair.",
        (breaks_figure(rows, groups),),
        (sentences_table(rows, groups),),
        closed=(borders_table(),),
    )


# ---------------------------------------------------------------------------------------------
# the geometry


def _profiles(page: GeometryPage) -> Section | None:
    if not page.profiles:
        return None
    caption = (
        "A line per language and panel, by layer (decoder blocks, from 0). Gaps were not measured; "
        "a grey line across is what chance or a reference gives."
    )
    figure = profile_figure(page.profiles, page.groups, "profiles", "Profiles by layer", caption)
    return Section(
        "profiles",
        "Layers",
        "By layer",
        "Where in the network the languages agree, and where they part.",
        (figure,),
        words=tuple(w for p in page.profiles if (w := profile_words(p))),
    )


def profile_words(profile: Profile) -> str:
    """Return the worst and the best language at the chosen layers; empty without values."""
    ranked = profile.worst_languages(len(profile.series))
    if not ranked:
        return ""
    where = (
        f"at {'layer' if len(profile.chosen) == 1 else 'layers'} "
        f"{listed([str(x) for x in profile.chosen])}"
        if profile.chosen
        else "over the last quarter of the layers"
    )
    mean = sum(profile.judged(c) for c in ranked) / len(ranked)
    worst, best = (
        f"{language_name(c)} ({decimal(profile.judged(c), profile.digits)})"
        for c in (ranked[0], ranked[-1])
    )
    text = f"{profile.title}, {where}: {decimal(mean, profile.digits)} on average"
    return text + (f", worst in {worst}, best in {best}." if len(ranked) > 1 else f" in {worst}.")


def matrix_words(matrix: Matrix) -> str:
    """Return mean, least and greatest number between different languages; empty without any."""
    pairs = [
        (matrix.values[i][j], row, column)
        for i, row in enumerate(matrix.row_codes)
        for j, column in enumerate(matrix.column_codes)
        if row != column and row in matrix.column_codes and not math.isnan(matrix.values[i][j])
    ]
    if not pairs:
        return ""
    low, high = min(pairs), max(pairs)
    mean = sum(p[0] for p in pairs) / len(pairs)
    unit = " points" if matrix.kind == "points" else ""
    text = f"{matrix.title}: {matrix.written(mean)}{unit} on average between different languages"
    if len(pairs) > 1:
        ends = (
            f"{matrix.written(v)} ({language_name(a)}, {language_name(b)})"
            for v, a, b in (low, high)
        )
        text += ", from {} to {}".format(*ends)
    if matrix.marked is not None:
        n = sum(map(sum, matrix.marked))
        text += f"; {plural(n, 'number')} marked ({matrix.mark_label})"
    return f"{text}."


def _cosines(page: GeometryPage) -> Section | None:
    sets = [s for s in page.cosines if s.matrices]
    if not sets:
        return None
    figures, words = [], []
    for one in sets:
        at = dict(one.matrices)
        layer = one.chosen if one.chosen in at else one.matrices[len(one.matrices) // 2][0]
        assert layer is not None
        figures.append(matrix_figure(at[layer]))
        if said := matrix_words(at[layer]):
            words.append(said)
        if len(one.matrices) > 1:
            title = f"{one.title}, by layer"
            figures.append(layers_figure(one.matrices, f"{one.name}-layers", title, one.caption))
    return Section(
        "cosines",
        "Directions",
        "Directions of different languages",
        "Where two languages' directions agree, what is learnt in one can be used in the other.",
        tuple(figures),
        words=tuple(words),
    )


def _transfers(page: GeometryPage) -> Section | None:
    if not page.transfers:
        return None
    return Section(
        "transfer",
        "Transfer",
        "Transfer from each language to each",
        "What a direction found in one language does to the replies in another. A change counts "
        "where it exceeds what a random direction, shuffled labels and the direction between the "
        "languages do.",
        tuple(_with_words(m) for m in page.transfers),
    )


def _with_words(matrix: Matrix) -> Figure:
    """Return the figure of a matrix with what it comes to in its caption."""
    figure = matrix_figure(matrix)
    return replace(figure, caption=f"{matrix_words(matrix)} {figure.caption}".strip())


def _selection(page: GeometryPage) -> Section | None:
    if not page.maps:
        return None
    figures = [maps_figure(m) for m in page.maps]
    return Section(
        "selection",
        "Selection",
        "How the refusal direction was chosen",
        "Every position after the instruction and every layer gives a candidate. Projected out, it "
        "should let harmful prompts pass (bypass); added, it should make harmless ones refused "
        "(induce); and it should change nothing else (KL).",
        tuple(figures[:1]),
        folded=tuple(figures[1:]),
        words=tuple(maps_words(m) for m in page.maps[:_MOST_NAMED]),
    )


def maps_words(maps: Maps) -> str:
    """Return how many candidates passed, and the chosen one's scores."""
    total = len(maps.positions) * len(maps.layers)
    passed = sum(
        maps.passed(i, j) for i in range(len(maps.positions)) for j in range(len(maps.layers))
    )
    text = f"{maps.title}: {passed} of {plural(total, 'candidate')} passed the filters"
    if maps.chosen is None:
        return f"{text}; none is chosen."
    row, column = maps.chosen
    scores = [
        f"{s.name} {decimal(s.values[row][column])}" for s in maps.scores if s.values is not None
    ]
    text += f"; chosen: {maps.positions[row]} at layer {maps.layers[column]}"
    return f"{text} ({', '.join(scores)})." if scores else f"{text}."


def _projections(page: GeometryPage) -> Section | None:
    drawn = [p for p in page.projections if any(len(c.x) for c in p.clouds.values())]
    if not drawn:
        return None
    return Section(
        "projection",
        "Picture",
        "The prompts in the plane",
        "Two axes show little of thousands; what overlaps here may still be apart elsewhere.",
        tuple(projection_figure(p, only(page.groups, p.clouds)) for p in drawn),
        words=tuple(w for p in drawn if (w := projection_words(p))),
    )


def projection_words(projection: Projection) -> str:
    """Return in which language the classes' centres lie nearest to each other, and furthest."""
    apart = {}
    for language, cloud in projection.clouds.items():
        ends = cloud.centre(True), cloud.centre(False)
        if ends[0] is not None and ends[1] is not None:
            apart[language] = math.dist(ends[0], ends[1])
    if not apart:
        return ""
    text = projection.title
    if projection.shares is not None:
        text += f": the axes hold {percent(sum(projection.shares), 0)}\u202f% of the variance"
    unit = apart.get(projection.reference or "", 0.0) or max(apart.values()) or 1.0
    least = min(apart, key=lambda c: apart[c])
    if len(apart) > 1:
        whose = language_name(projection.reference or max(apart, key=lambda c: apart[c]))
        share = f"{percent(apart[least] / unit, 0)}\u202f% as far apart as in {whose}"
        text += "; " if projection.shares is not None else ": "
        text += f"the centres of the two classes lie nearest in {language_name(least)} ({share})"
    return f"{text}."


def _skipped(page: GeometryPage) -> Section | None:
    if not page.skipped:
        return None
    rows = [(s.what, s.why, s.fix or MISSING) for s in page.skipped]
    return Section(
        "skipped",
        "Skipped",
        "What was not done, and why",
        "An analysis that is absent above was not found to be fine: it was not made.",
        tables=(make("Skipped", ("Analysis", "Why", "What would make it possible"), "lll", rows),),
    )
