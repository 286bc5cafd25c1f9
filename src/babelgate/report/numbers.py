"""How numbers are written, in one place: a missing number is a dash, never 0."""

from __future__ import annotations

import math

from ..types import Estimate

MISSING = "–"
_MINUS = "−"


def is_missing(value: float | None) -> bool:
    """Whether there is no number: ``None`` or ``nan``."""
    return value is None or math.isnan(value)


def decimal(value: float | None, digits: int = 2) -> str:
    """Return a plain number such as ``0.93``, with a true minus sign."""
    if value is None or math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else f"{_MINUS}∞"
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")  # -0.004 is written 0.00
    return text.replace("-", _MINUS)


def percent(rate: float | None, digits: int = 1) -> str:
    """Return a rate in 0..1 as a number of percent (or of points), without the sign ``%``."""
    return MISSING if rate is None or math.isnan(rate) else decimal(100 * rate, digits)


def points(delta: float | None, digits: int = 1) -> str:
    """Return a difference of rates in percentage points, always signed."""
    text = percent(delta, digits)
    signed = text == MISSING or text.startswith(_MINUS) or (text != "∞" and float(text) == 0)
    return text if signed else f"+{text}"


def span(low: float | None, high: float | None, digits: int = 1) -> str:
    """Return an interval of rates in percent, such as ``90.1 to 97.0``."""
    if is_missing(low) or is_missing(high):
        return MISSING
    return f"{percent(low, digits)} to {percent(high, digits)}"


def in_words(estimate: Estimate) -> str:
    """Return ``94 % (90 to 97)`` for running text, or ``not measured``."""
    if estimate.missing:
        return "not measured"
    interval = span(estimate.low, estimate.high, 0)
    return f"{percent(estimate.value, 0)}\u202f%" + (
        f" ({interval})" if interval != MISSING else ""
    )


def p_value(p: float | None) -> str:
    """Return a p value with two significant digits, or ``<0.001``."""
    if p is None or math.isnan(p):
        return MISSING
    return "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def count(n: int) -> str:
    """Return an integer with thin spaces between thousands."""
    return f"{n:,}".replace(",", "\u202f")


def plural(n: int, noun: str) -> str:
    """Return ``1 language`` or ``3 languages``."""
    if n == 1:
        return f"{count(n)} {noun}"
    return f"{count(n)} {noun[:-1]}ies" if noun.endswith("y") else f"{count(n)} {noun}s"


def listed(items: list[str]) -> str:
    """Join words as in a sentence: ``a, b and c``."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"
