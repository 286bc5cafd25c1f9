"""A figure: a drawing for wide and one for narrow screens, its caption, and its numbers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from . import palette
from .assets import asset
from .svg import Canvas
from .tables import Table


@dataclass(frozen=True)
class Layout:
    """The width to draw for. Two layouts, so that text never shrinks below 10 pixels."""

    name: str
    width: float
    label: float
    compact: bool


WIDE = Layout("wide", 860, 168, False)
NARROW = Layout("narrow", 350, 96, True)
LAYOUTS = (WIDE, NARROW)
MARGIN = 16


@dataclass(frozen=True)
class Figure:
    """One idea as a picture. ``name`` is its id in the page and its file name when saved."""

    name: str
    title: str
    caption: str
    draw: Callable[[Layout], Canvas]
    tables: tuple[Table, ...] = ()

    def svg(self, layout: Layout) -> str:
        """Return the drawing for the page, coloured by the page's CSS variables."""
        return self.draw(layout).render(f"{self.name}-{layout.name}", self.title, self.caption)

    def standalone(self) -> str:
        """Return the wide drawing as a file of its own: light theme, colours written out."""
        head, rest = self.svg(WIDE).split(">", 1)
        # Nested, so that the drawing gets a margin whatever its height.
        size = re.search(r'width="([\d.]+)" height="([\d.]+)"', head)
        assert size is not None
        width, height = (float(n) + 2 * MARGIN for n in size.groups())
        outer = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}">'
        paper = '<rect class="paper" width="100%" height="100%"/>'
        inner = head.replace("<svg ", f'<svg x="{MARGIN}" y="{MARGIN}" overflow="visible" ', 1)
        return f"{outer}<style>{standalone_css()}</style>{paper}{inner}>{rest}</svg>\n"


def standalone_css() -> str:
    """Return the figures' style sheet with the light colours written out."""
    return palette.resolve(asset("figure.css"))
