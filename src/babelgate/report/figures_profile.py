"""Profiles by layer: one line per language, coloured by tier, with the worst ones named."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .figure import Figure, Layout
from .names import TierGroup, language_label, language_name, tier_label
from .numbers import MISSING, decimal, listed
from .svg import Canvas, Scale, shorten, text_width
from .tables import Table, make

#: Tier -> colour class and dashes, so that colour is never the only difference.
LOOKS = {"high": ("s5", ""), "mid": ("s2", "5 3"), "low": ("s4", "1.5 3")}
_OTHER = ("s0", "8 3 2 3")
_NAMED = 3
_LINE = 13.0


@dataclass(frozen=True)
class Profile:
    """A number by layer and language: ``series[language][i]`` belongs to ``layers[i]``; NaN gaps.

    ``reference`` is a value drawn as a line (chance), said by ``reference_label``; ``worst`` is
    the end (``low`` or ``high``) at which languages fail; ``chosen`` layers have a triangle.

    Raises:
        ValueError: if a series does not fit the layers.
    """

    name: str
    title: str
    layers: tuple[int, ...]
    series: Mapping[str, Sequence[float]]
    low: float
    high: float
    reference: float | None = None
    reference_label: str = ""
    worst: str = "low"
    chosen: tuple[int, ...] = ()
    digits: int = 2

    def __post_init__(self) -> None:
        for language, values in self.series.items():
            if len(values) != len(self.layers):
                raise ValueError(
                    f"profile {self.name}: {len(values)} values in {language} for "
                    f"{len(self.layers)} layers"
                )

    def judged(self, language: str) -> float:
        """Return the mean over the chosen layers, or over the last quarter where there are none."""
        values = self.series[language]
        at = [i for i, layer in enumerate(self.layers) if layer in self.chosen]
        at = at or list(range(3 * len(self.layers) // 4, len(self.layers)))
        known = [float(values[i]) for i in at if not math.isnan(values[i])]
        return sum(known) / len(known) if known else math.nan

    def worst_languages(self, most: int = _NAMED) -> list[str]:
        """Return the languages that are worst at the chosen layers, the worst first."""
        known = [c for c in self.series if not math.isnan(self.judged(c))]
        sign = 1 if self.worst == "low" else -1
        return sorted(known, key=lambda c: sign * self.judged(c))[:most]

    @property
    def missing(self) -> list[str]:
        """The languages without a single value."""
        return [c for c, values in self.series.items() if all(math.isnan(v) for v in values)]


def look_of(tier: str) -> tuple[str, str]:
    """Return a tier's colour class and dashes."""
    return LOOKS.get(tier, _OTHER)


def profile_figure(
    profiles: Sequence[Profile],
    groups: Sequence[TierGroup],
    name: str,
    title: str,
    caption: str = "",
) -> Figure:
    """Draw the profiles as panels side by side, all with the same lines.

    Raises:
        ValueError: without profiles.
    """
    if not profiles:
        raise ValueError(f"{name}: a figure of profiles needs at least one")
    tiers = {c: g.tier for g in groups for c in g.languages}

    def draw(layout: Layout) -> Canvas:
        canvas = Canvas(layout.width)
        top = _legend(canvas, layout, groups) + 6
        columns = 1 if layout.compact or len(profiles) == 1 else 2
        gutter = 28.0
        width = (layout.width - gutter * (columns - 1)) / columns
        height = 190.0 if layout.compact else 230.0
        for i, profile in enumerate(profiles):
            x = (i % columns) * (width + gutter)
            y = top + (i // columns) * (height + 56)
            _panel(canvas, profile, tiers, (x, y, width, height))
        canvas.height = top + math.ceil(len(profiles) / columns) * (height + 56) - 12
        return canvas

    few = all(len(p.series) <= _NAMED for p in profiles)
    text = f"{caption} Named: " + ("every language" if few else f"the {_NAMED} worst languages")
    if not few:
        marked = any(p.chosen for p in profiles)
        text += " at the layers marked by a triangle" if marked else " in the last quarter"
    gone = [f"{language_name(c)} ({p.title})" for p in profiles for c in p.missing]
    text += f". Not measured: {listed(gone)}." if gone else "."
    return Figure(name, title, text.strip(), draw, tuple(_table(p, groups) for p in profiles))


def _legend(canvas: Canvas, layout: Layout, groups: Sequence[TierGroup]) -> float:
    """Draw the tiers' lines, which are no marks, as a legend that wraps."""
    x, y = 0.0, 12.0
    for group in groups:
        label = tier_label(group.tier)
        width = 34 + text_width(label, 12.5)
        if x > 0 and x + width > layout.width:
            x, y = 0.0, y + 20
        css, dashes = look_of(group.tier)
        style = {"stroke_dasharray": dashes} if dashes else {}
        canvas.add("path", f"curve {css}", d=f"M{x:.0f},{y - 1:.0f}h26", **style)
        canvas.text(x + 34, y + 3.5, label, "small")
        x += width + 16
    return y + 12


def _panel(
    canvas: Canvas,
    profile: Profile,
    tiers: Mapping[str, str],
    box: tuple[float, float, float, float],
) -> None:
    left, top, width, height = box
    canvas.text(left, top + 13, shorten(profile.title, width, 13.5), "panel")
    names = profile.worst_languages()
    tail = 92.0
    x_of = Scale(
        min(profile.layers, default=0),
        max(profile.layers, default=1),
        left + 38,
        left + width - tail,
    )
    y_of = Scale(profile.low, profile.high, top + height, top + 36)
    for tick in y_of.ticks(5):
        canvas.line(x_of.start, y_of(tick), x_of.end, y_of(tick), "grid")
        text = decimal(tick, 1 if round(tick * 10) == tick * 10 else 2)
        canvas.text(x_of.start - 6, y_of(tick) + 4, text, "tick", "end")
    for tick in x_of.ticks(6):
        if tick == int(tick):
            canvas.text(x_of(tick), top + height + 16, str(int(tick)), "tick", "middle")
    canvas.text(x_of.end + 8, top + height + 16, "layer", "tick")
    if profile.reference is not None:
        y = y_of(profile.reference)
        canvas.line(x_of.start, y, x_of.end, y, "zero")
    for layer in profile.chosen:
        canvas.mark("down", x_of(layer), top + 27, 3.5, "ink", f"layer {layer}")
        canvas.line(x_of(layer), top + 36, x_of(layer), top + height, "grid")
    for language in sorted(profile.series, key=lambda c: c in names):
        _line(canvas, profile, language, tiers, (x_of, y_of), language in names)
    _names(canvas, profile, names, (x_of, y_of), tail)


def _line(
    canvas: Canvas,
    profile: Profile,
    language: str,
    tiers: Mapping[str, str],
    scales: tuple[Scale, Scale],
    strong: bool,
) -> None:
    """Draw one language; gaps stay gaps, and a lone value is a point."""
    x_of, y_of = scales
    css, dashes = look_of(tiers.get(language, ""))
    path, pen, lone = "", False, []
    values = list(profile.series[language])
    for i, (layer, value) in enumerate(zip(profile.layers, values, strict=True)):
        if math.isnan(value):
            pen = False
            continue
        path += f"{'L' if pen else 'M'}{x_of(layer):.1f},{y_of(value):.1f}"
        after = values[i + 1] if i + 1 < len(values) else math.nan
        if not pen and math.isnan(after):
            lone.append((x_of(layer), y_of(value)))
        pen = True
    hint = f"{language_name(language)}: {decimal(profile.judged(language), profile.digits)}"
    if path:
        style = {"stroke_opacity": "1" if strong else ".65"}
        style |= {"stroke_dasharray": dashes} if dashes else {}
        canvas.add("path", f"curve {css}", hint, d=path, **style)
    for x, y in lone:
        canvas.mark("circle", x, y, 2.5, css, hint)


def _names(
    canvas: Canvas,
    profile: Profile,
    names: Sequence[str],
    scales: tuple[Scale, Scale],
    room: float,
) -> None:
    """Write the worst languages at the ends of their lines, pushed apart where they meet."""
    x_of, y_of = scales
    ends = []
    for language in names:
        known = [
            (layer, v)
            for layer, v in zip(profile.layers, profile.series[language], strict=True)
            if not math.isnan(v)
        ]
        ends.append((y_of(known[-1][1]), x_of(known[-1][0]), language))
    ends.sort()
    places = [y for y, _, _ in ends]
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + _LINE)
    # Those pushed below the axis move back up, and take the ones above along.
    low = max(y_of.start, y_of.end)
    for i in reversed(range(len(places))):
        limit = low - _LINE * (len(places) - 1 - i)
        places[i] = min(places[i], limit)
    for (y, x, language), place in zip(ends, places):
        canvas.line(x + 2, y, x_of.end + 7, place, "leader")
        text = shorten(language_name(language), room - 12, 12.5)
        canvas.text(x_of.end + 10, place + 4, text, "small")


def _table(profile: Profile, groups: Sequence[TierGroup]) -> Table:
    rows = []
    for group in groups:
        for code in group.languages:
            if code in profile.series:
                cells = [decimal(v, profile.digits) for v in profile.series[code]]
                rows.append([language_label(code), *cells])
    columns = ["Language", *(str(layer) for layer in profile.layers)]
    note = f"By layer. {MISSING}: not measured."
    if profile.reference is not None and profile.reference_label:
        note += f" {profile.reference_label}: {decimal(profile.reference)}."
    return make(profile.title, columns, "l" + "r" * len(profile.layers), rows, note)
