"""How many prompts a comparison needs, and what a number of prompts can show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import optimize
from scipy import stats as scipy_stats

from ..errors import UserError


@dataclass(frozen=True)
class Design:
    """What is compared, on what, and how strictly: all that a sample size depends on.

    ``base`` is the refusal rate before the change. ``paired``: both sides see the same prompts
    (two methods, or two languages on translations); otherwise each side has its own.
    ``correlation`` is that of a prompt's two outcomes; 0 is the cautious guess. ``discordance``,
    the share of prompts whose outcome differs between the sides, replaces it where a pilot run
    tells it. With ``harmless``, the refusal rate of harmless prompts, selectivity is compared: the
    change happens on harmful prompts, the harmless rate stays and only adds noise.

    ``languages`` are averaged over, on translations of the same prompts; ``icc`` is the correlation
    of one prompt's differences between languages: at 1 translations add nothing, at 0 they count as
    new prompts. ``comparisons`` are made at level ``alpha`` together.

    Raises:
        UserError: with every value that is out of range.
    """

    base: float
    paired: bool = True
    correlation: float = 0.0
    discordance: float | None = None
    harmless: float | None = None
    languages: int = 1
    icc: float = 1.0
    comparisons: int = 1
    alpha: float = 0.05

    def __post_init__(self) -> None:
        shares = {"base": self.base, "discordance": self.discordance, "harmless": self.harmless}
        wrong = [f"{k} {v} is not in 0..1" for k, v in shares.items() if not _in(v, 0, 1)]
        if not _in(self.correlation, -1, 1):
            wrong.append(f"correlation {self.correlation} is not in -1..1")
        if not _in(self.icc, 0, 1):
            wrong.append(f"icc {self.icc} is not in 0..1")
        if not 0 < self.alpha < 1:
            wrong.append(f"alpha {self.alpha} is not between 0 and 1")
        for name in ("languages", "comparisons"):
            if getattr(self, name) < 1:
                wrong.append(f"{name} {getattr(self, name)} is not at least 1")
        if self.discordance is not None and not self.paired:
            wrong.append("discordance belongs to paired comparisons only")
        if wrong:
            raise UserError("; ".join(wrong))

    @property
    def level(self) -> float:
        """``alpha / comparisons``: Holm's strictest step, which the first finding must pass."""
        return self.alpha / self.comparisons

    @property
    def deflation(self) -> float:
        """Variance of a mean over languages, relative to one: ``(1 + (L - 1) icc) / L``.

        The design effect of Kish 1965, Survey Sampling, over the number of translations.
        """
        return (1 + (self.languages - 1) * self.icc) / self.languages

    def check(self, difference: float) -> None:
        """Raise UserError for a difference that this design cannot have."""
        after = self.base + difference
        if not difference or not _in(after, -1e-12, 1 + 1e-12):
            raise UserError(
                f"a difference of {difference:g} from a rate of {self.base:g} ends at {after:g}; "
                "it must not be 0 and must end in 0..1"
            )
        if self.discordance is not None and abs(difference) > self.discordance + 1e-12:
            raise UserError(
                f"a difference of {difference:g} needs at least as many discordant prompts, "
                f"and discordance is {self.discordance:g}"
            )


def _in(x: float | None, low: float, high: float) -> bool:
    return x is None or low <= x <= high


def _variances(design: Design, difference: float) -> tuple[float, float]:
    """Return the variance per prompt of the difference, without and with the true difference."""
    sides = [_side(design, design.base, difference, design.discordance)]
    if design.harmless is not None:
        sides.append(_side(design, design.harmless, 0.0, None))
    null, true = (sum(values) for values in zip(*sides))
    return null * design.deflation, true * design.deflation


def _side(
    design: Design, base: float, difference: float, discordance: float | None
) -> tuple[float, float]:
    after = min(1.0, max(0.0, base + difference))
    noise = base * (1 - base), after * (1 - after)
    if not design.paired:
        middle = (base + after) / 2
        return 2 * middle * (1 - middle), sum(noise)
    if discordance is None:
        discordance = base * (1 - after) + after * (1 - base)
        discordance -= 2 * design.correlation * math.sqrt(noise[0] * noise[1])
    # A correlation beyond what the two rates allow is cut to the strongest possible one.
    discordance = max(discordance, abs(difference))
    return discordance, discordance - difference**2


def power_of(design: Design, difference: float, n: int) -> float:
    """Return the chance that ``n`` prompts of each class show a true difference.

    ``power = Phi((|d| sqrt(n) - z_{a/2} sqrt(v0)) / sqrt(v1))``, where the variance per prompt is
    v0 under no difference and v1 under the true one:

    - paired: ``v0 = psi, v1 = psi - d^2`` with discordance
      ``psi = p1 q2 + p2 q1 - 2 rho sqrt(p1 q1 p2 q2)`` (Connor 1987, Biometrics 43, 207-211):
      McNemar's test;
    - independent: ``v0 = 2 p q`` at the mean rate, ``v1 = p1 q1 + p2 q2`` (Fleiss, Levin and Paik
      2003, Statistical Methods for Rates and Proportions, chapter 4, without continuity
      correction): the test of two proportions;
    - selectivity: the harmless class adds its own variance, with difference 0, to both;
    - over languages both are multiplied by ``(1 + (L - 1) icc) / L``.

    Simulated at a power of 0.8, McNemar's exact test comes out one to four points lower, for which
    ``2 / |d|`` more prompts make up, and the large-sample test and the bootstrap up to two points
    higher. They gain more, up to 13 points, only where nearly all changes go one way
    (``psi`` near ``|d|``): there Connor's formula is cautious.

    Raises:
        UserError: for a difference that cannot be.
    """
    design.check(difference)
    null, true = _variances(design, difference)
    margin = abs(difference) * math.sqrt(n) - _z(design.level / 2) * math.sqrt(null)
    if true <= 0:
        return float(margin >= 0)
    return float(scipy_stats.norm.cdf(margin / math.sqrt(true)))


def prompts_needed(design: Design, difference: float, power: float = 0.8) -> int:
    """Return how many prompts of each class show a true difference with this power.

    ``n = ((z_{a/2} sqrt(v0) + z_b sqrt(v1)) / d)^2``, rounded up: the smallest n for which
    :func:`power_of` reaches ``power``; formulas and sources there. The number is per language, and
    for independent sides it is needed on each. Prompts that stay unscored come on top.

    Raises:
        UserError: for a difference that cannot be, or a power that is not in 0.5..1.
    """
    _check_power(power)
    design.check(difference)
    null, true = _variances(design, difference)
    root = _z(design.level / 2) * math.sqrt(null) + _z(1 - power) * math.sqrt(max(0.0, true))
    # Rounding errors must not turn a whole number into the next one.
    return max(1, math.ceil((root / abs(difference)) ** 2 - 1e-9))


def detectable_difference(
    design: Design, n: int, power: float = 0.8, *, falling: bool = False
) -> float:
    """Return the smallest difference that ``n`` prompts of each class show with this power.

    A rise of the rate, or with ``falling`` a fall (returned as a negative number); NaN where even
    the largest possible change would not be shown.

    Raises:
        UserError: if ``n`` is below 1 or the power is not in 0.5..1.
    """
    _check_power(power)
    if n < 1:
        raise UserError(f"{n} prompts cannot show anything; give at least 1")
    sign = -1 if falling else 1
    largest = design.base if falling else 1 - design.base
    if design.discordance is not None:
        largest = min(largest, design.discordance)
    lacking = lambda d: power_of(design, sign * d, n) - power  # noqa: E731
    smallest = 1e-9
    if largest <= smallest or lacking(largest) < 0:
        return math.nan
    return sign * optimize.root_scalar(lacking, bracket=(smallest, largest), xtol=1e-9).root


@dataclass(frozen=True)
class PowerRow:
    """Prompts of each class and language that show ``difference`` with ``power``."""

    difference: float
    power: float
    prompts: int


def power_table(
    design: Design,
    differences: Sequence[float] = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3),
    powers: Sequence[float] = (0.8, 0.9),
) -> list[PowerRow]:
    """Return the prompts needed for every difference and power that is possible.

    A difference that the base rate has no room for is left out: a rate of 0.9 cannot rise by 0.2.

    Raises:
        UserError: if none is possible, or for a power that is not in 0.5..1.
    """
    found, refused = [], None
    for difference in differences:
        try:
            design.check(difference)
        except UserError as error:
            refused = error
            continue
        found += [PowerRow(difference, p, prompts_needed(design, difference, p)) for p in powers]
    if refused is not None and not found:
        raise refused
    return found


def _check_power(power: float) -> None:
    if not 0.5 <= power < 1:
        raise UserError(f"power {power} is not in 0.5..1; 0.8 is usual")


def _z(tail: float) -> float:
    return float(scipy_stats.norm.isf(tail))
