"""A language's own direction against directions from elsewhere, on the same prompts. Pure.

A follow-up of arXiv 2505.17306 on Bashkir, Belarusian and Tajik found that native directions work
where the English one does not; here each target answers that for itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import LanguageError
from ..languages import language
from ..stats import Cell as Rates
from ..stats import Resampled, Resamples, estimate, holm
from ..types import Label
from .edits import Plan
from .matrix import MISSING, p_value
from .measured import Measured
from .results import MAIN, MEAN, Against, Effect, intended, label_of, way_of
from .settings import TransferSettings

#: What p values are called significant at.
LEVEL = 0.05


@dataclass(frozen=True)
class _Pair:
    """Changes ``[n]`` of the native direction and another on prompts that both were scored on."""

    native: np.ndarray
    other: np.ndarray
    groups: tuple[str, ...]

    def difference(self, effect: Effect) -> Rates:
        """Return by how much the native one moves more in the intended direction."""
        return Rates(intended(effect) * (self.native - self.other), self.groups)


def native_against(
    measured: Measured,
    plan: Plan,
    targets: Sequence[str],
    settings: TransferSettings,
    resamples: Mapping[Label, Resamples],
) -> list[Against]:
    """Return each target's own direction against the reference's, the best other and the mean.

    For the main effects of one kind of evidence. The best other language is chosen on the same
    prompts that it is then compared on, which favours it: a native direction that wins does so in
    spite of that. Holm's correction is over the targets and rivals of an effect.
    """
    found: list[Against] = []
    for effect in MAIN:
        rows = [
            _against(measured, plan, target, rival, effect, settings, resamples)
            for target in targets
            for rival in ("reference", "best", "mean")
            if not (rival == "reference" and target == settings.reference)
            and not (rival == "mean" and not settings.mean)
        ]
        adjusted = holm([row.p for row in rows])
        found += [_said(replace(row, p_holm=p)) for row, p in zip(rows, adjusted)]
    return found


def _against(
    measured: Measured,
    plan: Plan,
    target: str,
    rival: str,
    effect: Effect,
    settings: TransferSettings,
    resamples: Mapping[Label, Resamples],
) -> Against:
    source = {"reference": settings.reference, "mean": MEAN}.get(rival, "")
    nothing = Against(
        target, rival, source, effect, measured.evidence, math.nan, math.nan, MISSING, math.nan,
        math.nan, "",
    )  # fmt: skip
    own = _changes(measured, plan, target, target, effect)
    if isinstance(own, str):
        return replace(nothing, reason=own)
    if rival == "best":
        source = _best(measured, plan, target, effect)
        if not source:
            return replace(nothing, reason=f"no other language was measured on {target}")
    other = _changes(measured, plan, source, target, effect)
    if isinstance(other, str):
        return replace(nothing, reason=other)
    rows = measured.rows(target, label_of(effect))
    both = ~np.isnan(own) & ~np.isnan(other)
    if not both.any():
        return replace(nothing, reason=f"no prompt in {target} was scored under both directions")
    groups = tuple(measured.groups[i] for i in rows[both])
    pair = _Pair(own[both], other[both], groups)
    part: Resampled = resamples[label_of(effect)].of([pair.difference(effect)])[0]
    return replace(
        nothing,
        source=source,
        native=float(pair.native.mean()),
        other=float(pair.other.mean()),
        difference=replace(estimate(part), n_unscored=int((~both).sum())),
        p=p_value(part),
    )


def _changes(
    measured: Measured, plan: Plan, source: str, target: str, effect: Effect
) -> np.ndarray | str:
    """Return a source's change per prompt of a target, or why there is none."""
    edit, why = plan.row(source, way_of(effect), target)
    if edit is None:
        return why
    for name in (edit.name, target):
        if name in measured.skipped:
            return measured.skipped[name]
    rows = measured.rows(target, label_of(effect))
    values = measured.edited.get(edit.name)
    moved = np.full(len(rows), np.nan) if values is None else values[rows] - measured.base[rows]
    if np.isnan(moved).all():
        return (
            f"no {label_of(effect)} prompt in {target} was scored under the direction of {source}"
        )
    return moved


def _best(measured: Measured, plan: Plan, target: str, effect: Effect) -> str:
    """Return the other language whose direction moves most in the intended direction."""
    means: dict[str, float] = {}
    for source in plan.sources:
        if source in (target, MEAN):
            continue
        moved = _changes(measured, plan, source, target, effect)
        if not isinstance(moved, str):
            means[source] = intended(effect) * float(np.nanmean(moved))
    return max(means, key=lambda x: means[x], default="")


def _said(row: Against) -> Against:
    """Return the comparison with its sentence."""
    if row.reason:
        return replace(row, words=f"{_name(row.target)}: not compared; {row.reason}.")
    target = _name(row.target)
    done = "Projected out" if way_of(row.effect) == "ablate" else "Added"
    source = "the mean of other languages" if row.source == MEAN else _name(row.source)
    best = ", the best other language here," if row.rival == "best" else ""
    d = row.difference
    if not row.p_holm < LEVEL:
        verdict = "no difference is shown"
    elif d.value > 0:
        verdict = "the native direction works better"
    else:
        verdict = "the native direction works worse"
    unit = " nats" if row.evidence == "first_token" else " points"
    of = "log-odds of refusing" if row.evidence == "first_token" else "the refusal rate of"
    show = lambda x: _number(x, row)  # noqa: E731
    words = (
        f"{done}, {target}'s own direction changes {of} {label_of(row.effect)} {target} prompts by "
        f"{show(row.native)}{unit} and that of {source}{best} by {show(row.other)}: {verdict} "
        f"(advantage of the native one {show(d.value)} [{show(d.low)}, {show(d.high)}], "
        f"n = {d.n}, Holm p = {row.p_holm:.2g})."
    )
    return replace(row, words=words)


def _number(value: float, row: Against) -> str:
    shown = (value, 2) if row.evidence == "first_token" else (100 * value, 0)
    # Zero added, so that a rounded number is never a negative zero.
    return f"{round(*shown) + 0.0:+.{shown[1]}f}".replace("-", "\N{MINUS SIGN}")


def _name(code: str) -> str:
    try:
        return language(code).name
    except LanguageError:
        return code
