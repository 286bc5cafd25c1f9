"""The colours, once: as CSS variables for the page, as plain values for figures saved on their own.

Hues follow Okabe and Ito, so that the classes stay apart for colour-blind readers; every class
differs in shape, position or label too. Text colours reach a contrast of 4.5:1 on their paper.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_HEAT_BELOW = 2  # bins under 0.5: inverted, hence in another hue
HEAT_EDGES: tuple[float, ...] = (0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
HEAT_BINS = len(HEAT_EDGES) + 1
SERIES = 8

_LIGHT = {
    "paper": "#ffffff",
    "panel": "#f6f6f4",
    "ink": "#1c1d20",
    "muted": "#5a5f67",
    "rule": "#dcdcd8",
    "grid": "#ebebe7",
    "link": "#24558f",
    "harmful": "#c44f00",
    "harmless": "#1573b0",
    "twins": "#0b7f63",
    "span": "#e4e4de",
    "inverted": "#f3cdbb",
    "threshold": "#1c1d20",
    "hatch": "#8f8f89",
    "refused": "#355f91",
    "answered": "#e9b44c",
    "degenerate": "#a3a5a9",
    "wrong": "#b06fa0",
    "s0": "#6c717a",
    "s1": "#5a3fb0",
    "s2": "#b8730a",
    "s3": "#0b7f63",
    "s4": "#b8437f",
    "s5": "#2b86c9",
    "s6": "#7a4a2b",
    "s7": "#94a30a",
}
_DARK = {
    "paper": "#15171a",
    "panel": "#1d2024",
    "ink": "#e8e8e5",
    "muted": "#a6abb3",
    "rule": "#363a40",
    "grid": "#272b30",
    "link": "#8ab8f0",
    "harmful": "#f58a4b",
    "harmless": "#5fb0e8",
    "twins": "#3fc4a0",
    "span": "#33383f",
    "inverted": "#5b3426",
    "threshold": "#e8e8e5",
    "hatch": "#868b93",
    "refused": "#6c9fd8",
    "answered": "#c9932f",
    "degenerate": "#6f747c",
    "wrong": "#b97fae",
    "s0": "#9aa0a9",
    "s1": "#b09bff",
    "s2": "#e8a33d",
    "s3": "#3fc4a0",
    "s4": "#f08abf",
    "s5": "#6fbaf2",
    "s6": "#c9926b",
    "s7": "#c9d64a",
}


def heat_bin(auroc: float) -> int:
    """Return the bin of an AUROC: 0 and 1 lie below 0.5, the last one holds 0.95 and above."""
    return sum(auroc >= edge for edge in HEAT_EDGES)


def _blend(start: str, end: str, share: float) -> str:
    pairs = ((int(start[i : i + 2], 16), int(end[i : i + 2], 16)) for i in (1, 3, 5))
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


def _ramp(stops: tuple[str, str, str], below: tuple[str, str]) -> dict[str, str]:
    above = HEAT_BINS - _HEAT_BELOW
    colours = list(below)
    for i in range(above):
        share = 2 * i / (above - 1)
        low, high = (stops[0], stops[1]) if share <= 1 else (stops[1], stops[2])
        colours.append(_blend(low, high, share if share <= 1 else share - 1))
    return {f"q{i}": colour for i, colour in enumerate(colours)}


LIGHT: Mapping[str, str] = {
    **_LIGHT,
    **_ramp(("#f0f1ea", "#62a7b5", "#0c3350"), ("#e3a283", "#f3d9ca")),
}
DARK: Mapping[str, str] = {
    **_DARK,
    **_ramp(("#2b3036", "#2f7f92", "#cdf1e4"), ("#8a4a2c", "#4d3327")),
}


def variables(palette: Mapping[str, str]) -> str:
    """Return the palette as CSS declarations ``--name:value;``."""
    return "".join(f"--{name}:{value};" for name, value in palette.items())


def resolve(css: str, palette: Mapping[str, str] = LIGHT) -> str:
    """Replace ``var(--name)`` by its value: many SVG programs do not know CSS variables."""
    return re.sub(r"var\(--([a-z0-9]+)\)", lambda m: palette[m[1]], css)
