"""A few SVG primitives. Shapes carry CSS classes, so that one drawing follows light and dark.

A plotting library would bring megabytes of script or fixed colours; a report needs neither.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

SHAPES = ("circle", "square", "diamond", "triangle", "plus", "down", "cross", "bar")
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def clean(text: str) -> str:
    """Escape text for XML and drop the control characters that XML cannot hold."""
    return escape(_FORBIDDEN.sub("�", text))


def text_width(text: str, size: float) -> float:
    """Estimate the width of a text in a system font, in the unit of ``size``."""
    return sum(0.32 if c in "il.,' ()|" else 0.95 if ord(c) > 0x2E80 else 0.56 for c in text) * size


def shorten(text: str, width: float, size: float) -> str:
    """Cut a text to about a width, with an ellipsis."""
    if text_width(text, size) <= width:
        return text
    while len(text) > 1 and text_width(text + "…", size) > width:
        text = text[:-1]
    return text.rstrip() + "…"


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear map from data to pixels; values beyond the ends are drawn at the ends."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the pixel of a value."""
        if self.high == self.low:
            return (self.start + self.end) / 2
        share = min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))
        return self.start + share * (self.end - self.start)

    def ticks(self, most: int) -> list[float]:
        """Return at most about ``most`` round values between the ends."""
        extent = self.high - self.low
        if extent <= 0 or not math.isfinite(extent):
            return [self.low] if math.isfinite(self.low) else []
        power = 10.0 ** math.floor(math.log10(extent / most))
        step = next(s * power for s in (1, 2, 2.5, 5, 10, 20) if extent / (s * power) <= most)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(i * step, 10) for i in range(first, last + 1)]


def _number(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.1f}".removesuffix(".0") if math.isfinite(value) else "0"


@dataclass
class Canvas:
    """An SVG drawing in the making; coordinates are CSS pixels at its natural width."""

    width: float
    height: float = 0
    parts: list[str] = field(default_factory=list)
    hatched: bool = False

    def add(self, tag: str, css: str = "", hint: str = "", **attributes: float | str) -> None:
        """Add one shape; ``hint`` is shown when the pointer rests on it."""
        pairs = {"class": css, **{k.replace("_", "-"): v for k, v in attributes.items()}}
        written = "".join(f" {k}={quoteattr(_number(v))}" for k, v in pairs.items() if v != "")
        inner = f"<title>{clean(hint)}</title>" if hint else ""
        self.parts.append(f"<{tag}{written}>{inner}</{tag}>" if inner else f"<{tag}{written}/>")

    def text(self, x: float, y: float, content: str, css: str = "", anchor: str = "") -> None:
        """Write a text with its baseline at ``y``; ``anchor`` is start, middle or end."""
        css_part = f" class={quoteattr(css)}" if css else ""
        anchor_part = f' text-anchor="{anchor}"' if anchor else ""
        place = f'x="{_number(x)}" y="{_number(y)}"'
        self.parts.append(f"<text {place}{css_part}{anchor_part}>{clean(content)}</text>")

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str) -> None:
        """Draw a straight line."""
        self.add("line", css, x1=x1, y1=y1, x2=x2, y2=y2)

    def rect(self, x: float, y: float, w: float, h: float, css: str, hint: str = "") -> None:
        """Draw a rectangle; a width below 0 counts from the right."""
        if w < 0:
            x, w = x + w, -w
        self.add("rect", css, hint, x=x, y=y, width=w, height=h)

    def hatch(self, x: float, y: float, w: float, h: float, hint: str = "") -> None:
        """Draw a hatched rectangle: a number that is missing, or a verdict that is."""
        self.hatched = True
        self.rect(x, y, w, h, "hatch", hint)

    def mark(self, shape: str, x: float, y: float, r: float, css: str, hint: str = "") -> None:
        """Draw a point in one of :data:`SHAPES`, about ``2 r`` wide."""
        a, b = 0.89 * r, 1.25 * r
        paths = {
            "square": f"M{-a:.1f},{-a:.1f}h{2 * a:.1f}v{2 * a:.1f}h{-2 * a:.1f}z",
            "diamond": f"M0,{-b:.1f}L{b:.1f},0 0,{b:.1f} {-b:.1f},0z",
            "triangle": f"M0,{-b:.1f}L{b:.1f},{a:.1f}H{-b:.1f}z",
            "down": f"M0,{b:.1f}L{b:.1f},{-a:.1f}H{-b:.1f}z",
            "plus": f"M{-b:.1f},0H{b:.1f}M0,{-b:.1f}V{b:.1f}",
            "cross": f"M{-a:.1f},{-a:.1f}L{a:.1f},{a:.1f}M{-a:.1f},{a:.1f}L{a:.1f},{-a:.1f}",
            "bar": f"M0,{-b:.1f}V{b:.1f}",
        }
        if shape == "circle":
            self.add("circle", css, hint, cx=x, cy=y, r=r)
            return
        place = f"translate({_number(x)},{_number(y)})"
        open_shape = " open" if shape in ("plus", "cross", "bar") else ""
        self.add("path", css + open_shape, hint, d=paths[shape], transform=place)

    def whisker(self, x1: float, x2: float, y: float, css: str) -> None:
        """Draw an interval as a thin horizontal line."""
        self.line(x1, y, x2, y, f"whisker {css}")

    def render(self, key: str, title: str, description: str) -> str:
        """Return the SVG element; ``key`` makes its ids unique in a page."""
        key = re.sub(r"[^\w-]", "-", key)
        size = f"{_number(self.width)} {_number(self.height)}"
        pattern = (
            f'<defs><pattern id="{key}-hatch" width="5" height="5" patternUnits="userSpaceOnUse" '
            'patternTransform="rotate(45)"><rect class="hatch-paper" width="5" height="5"/>'
            '<line class="hatch-line" x1="0" y1="0" x2="0" y2="5"/></pattern></defs>'
        )
        body = "".join(self.parts)
        if self.hatched:
            body = pattern + body.replace(
                'class="hatch"', f'class="hatch" fill="url(#{key}-hatch)"'
            )
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="figure" viewBox="0 0 {size}" '
            f'width="{_number(self.width)}" height="{_number(self.height)}" role="img" '
            f'aria-labelledby="{key}-title {key}-desc">'
            f'<title id="{key}-title">{clean(title)}</title>'
            f'<desc id="{key}-desc">{clean(description)}</desc>{body}</svg>'
        )
