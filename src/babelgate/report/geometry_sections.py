"""The sections of a diagnosis: what breaks where, and the geometry that says why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..breaks import BORDERS, NOTHING, STEPS, UNDECIDED, Breaks, LanguageBreaks, Step
from ..languages import tier
from .chart import Key, Slot, language_rows, legend, rows_height
from .figure import Figure, Layout
from .figures_maps import Maps, maps_figure
from .figures_matrix import Matrix, groups_of, layers_figure, matrix_figure
from .figures_profile import Profile, profile_figure
from .figures_projection import Projection, projection_figure
from .names import TierGroup, language_label, language_name, only
from .numbers import MISSING, decimal, listed, percent, plural, points
from .sections import Section
from .svg import Canvas, text_width
from .tables import Table, make

_MOST_NAMED = 6
_THE = {"threshold": "the threshold"}
_STEP_NAMES = {
    "understanding": "Understanding",
    "representation": "Representation",
    "threshold": "Threshold",
    "action": "Action",
    "repair": "With the repair",
}
_SHORT_NAMES = {
    "understanding": "Prompt",
    "representation": "Harm",
    "threshold": "Thresh.",
    "action": "Action",
    "repair": "Repaired",
}
_MEASURES = {
    "understanding": "above chance, %",
    "representation": "AUROC",
    "threshold": "gain, points",
    "action": "of the gate, %",
    "repair": "of the gate, %",
}
#: Verdict -> colour class and shape, so that colour is never the only difference.
_LOOKS = {
    "fine": ("twins", "circle"),
    "weak": ("s2", "triangle"),
    "broken": ("harmful", "cross"),
    "unknown": ("s0", "bar"),
}


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


# ---------------------------------------------------------------------------------------------
# what breaks where


def breaks_words(breaks: Breaks) -> str:
    """Return which step breaks first in which languages, in one sentence."""
    by_step: dict[str, list[str]] = {}
    for row in breaks.rows:
        by_step.setdefault(row.diagnosis, []).append(language_name(row.language))
    parts = [
        f"{_THE.get(step, step)} breaks first in {_some(by_step[step])}"
        for step in STEPS
        if step in by_step
    ]
    if NOTHING in by_step:
        parts.append(f"no step is broken in {_some(by_step[NOTHING])}")
    if UNDECIDED in by_step:
        parts.append(f"too little was measured to tell in {_some(by_step[UNDECIDED])}")
    text = "; ".join(parts)
    doubted = [language_name(r.language) for r in breaks.rows if r.doubts and r.diagnosis in STEPS]
    if doubted:
        text += f". An earlier step may be broken too in {_some(doubted)}"
    return f"{text[:1].upper()}{text[1:]}."


def _some(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    shown = list(names[: _MOST_NAMED if more > 1 else len(names)])
    return listed(shown + ([f"{more} more"] if more > 1 else []))


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
        closed=(_borders_table(),),
    )


def breaks_figure(rows: Mapping[str, LanguageBreaks], groups: Sequence[TierGroup]) -> Figure:
    """Draw a verdict per language and step; the first broken one has a frame."""
    columns = [*STEPS, *(["repair"] if any(r.repair for r in rows.values()) else [])]

    def draw(layout: Layout) -> Canvas:
        canvas = Canvas(layout.width)
        keys = [Key(verdict, *look) for verdict, look in _LOOKS.items()]
        top = legend(canvas, layout, [*keys, Key("first break", "ring", "square")])
        label = layout.label - (0 if layout.compact else 8)
        width = (layout.width - label) / len(columns)
        names = _SHORT_NAMES if layout.compact else _STEP_NAMES
        for i, column in enumerate(columns):
            x = label + i * width
            canvas.text(x, top + 24, names[column], "tick" if layout.compact else "panel")
            if not layout.compact:
                canvas.text(x, top + 40, _MEASURES[column], "tick")
        row = 40.0 if layout.compact else 34.0
        body = top + (22 if layout.compact else 38)
        for slot in language_rows(canvas, layout, groups, body, row):
            found = rows[slot.key]
            for i, column in enumerate(columns):
                step = found.repair if column == "repair" else found.step(column)
                if step is not None:
                    first = column == found.diagnosis
                    _chip(canvas, layout, slot, label + i * width, width, step, first)
        canvas.height = body + rows_height(groups, row) + 4
        return canvas

    caption = (
        "A verdict stands only where the whole 95\u202f% interval lies on one side of its borders; "
        "where it does not, what it leaves open is said instead (“weak or fine”). Understanding: "
        "share of prompts whose translation is found, with chance taken out. Representation: AUROC "
        "of harm on held-out prompts. Threshold: what the source threshold gains over the "
        "language's own, below 0 a loss. Action: how much of the gate's selectivity the replies "
        "show. The borders stand below."
    )
    title = "What breaks where"
    return Figure("breaks", title, caption, draw, (_verdicts_table(rows, groups, columns),))


def _chip(
    canvas: Canvas,
    layout: Layout,
    slot: Slot,
    left: float,
    width: float,
    step: Step,
    first: bool,
) -> None:
    css, shape = _LOOKS[step.verdict]
    hint = f"{slot.key}, {step.name}: {step.verdict}"
    hint += "".join(f"; {text}" for text in (step.evidence, step.why) if text)
    if layout.compact:
        if first:
            _frame(canvas, left - 3, slot.top + 3, width - 2, slot.height - 6)
        canvas.mark(shape, left + 8, slot.top + 13, 5, css, hint)
        # A verdict must fit the fifth of a phone's width.
        canvas.parts.append('<g font-size="10.5">')
        canvas.text(left, slot.top + 32, step.verdict)
        canvas.parts.append("</g>")
        return
    text = step.verdict
    if step.verdict == "unknown" and len(step.possible) == 2:
        text = " or ".join(step.possible)
    size = text_width(text, 12.5) + 32
    y = slot.middle - 11
    canvas.add("rect", css, hint, x=left, y=y, width=size, height=22, rx=11, fill_opacity=".16",
               stroke_width="2" if first else "0")  # fmt: skip
    canvas.mark(shape, left + 13, slot.middle, 4.5, css)
    canvas.text(left + 23, slot.middle + 4.3, text, "small")
    value = _value(step)
    if value != MISSING and left + size + 8 + text_width(value, 11.5) < left + width:
        canvas.text(left + size + 7, slot.middle + 4.3, value, "tick")


def _frame(canvas: Canvas, x: float, y: float, width: float, height: float) -> None:
    canvas.add("rect", "ring", x=x, y=y, width=width, height=height, rx=6)


def _value(step: Step) -> str:
    if step.name == "representation":
        return decimal(step.value)
    return points(step.value, 0) if step.name == "threshold" else percent(step.value, 0)


def _ends(step: Step) -> str:
    if math.isnan(step.low) or math.isnan(step.high):
        return MISSING
    write = decimal if step.name == "representation" else lambda v: percent(v, 0)
    return f"{write(step.low)} to {write(step.high)}"


def _verdicts_table(
    rows: Mapping[str, LanguageBreaks], groups: Sequence[TierGroup], columns: Sequence[str]
) -> Table:
    cells = []
    for code in (c for g in groups for c in g.languages):
        for column in columns:
            step = rows[code].repair if column == "repair" else rows[code].step(column)
            if step is None:
                continue
            n = str(step.n) if step.n else MISSING
            name = _STEP_NAMES[column]
            measure = f"{_value(step)}", _ends(step)
            cells.append([language_label(code), name, step.verdict, *measure, n, step.why])
    header = ("Language", "Step", "Verdict", "Measure", "95 %", "n", "Why")
    note = "; ".join(f"{_STEP_NAMES[c]}: {_MEASURES[c]}" for c in columns)
    return make("Verdicts", header, "lllrrrl", cells, f"{note}.")


def sentences_table(rows: Mapping[str, LanguageBreaks], groups: Sequence[TierGroup]) -> Table:
    """Return the evidence in words, a row per language."""
    said = {NOTHING: "Nothing is broken", UNDECIDED: "Undecided"}
    cells = []
    for code in (c for g in groups for c in g.languages):
        row = rows[code]
        head = said.get(row.diagnosis, f"Breaks at {row.diagnosis}")
        text = row.sentence.removeprefix(f"{row.name}: ")
        cells.append([language_label(code), f"{head}: {text}"])
    return make("In words", ("Language", "What breaks, and the evidence"), "ll", cells)


def _borders_table() -> Table:
    rows = [
        (
            name.capitalize(),
            border.measure,
            decimal(border.fine),
            decimal(border.broken),
            border.reason,
            border.source,
        )
        for name, border in BORDERS.items()
    ]
    header = ("Step", "Measure", "Fine from", "Broken below", "Reason", "Source")
    return make("The borders of the verdicts", header, "llrrll", rows)


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
        tuple(matrix_figure(m) for m in page.transfers),
        words=tuple(w for m in page.transfers if (w := matrix_words(m))),
    )


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
