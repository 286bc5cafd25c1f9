"""Cells of transfer matrices from scores: changes, intervals, controls. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..stats import Cell as Rates
from ..stats import Resampled, Resamples, change, estimate, holm, paired_estimate, wilson
from ..stats.intervals import CONFIDENCE
from ..types import LABELS, Estimate, Label
from .edits import Edit, Plan
from .measured import Measured
from .results import (
    EFFECTS,
    MAIN,
    Cell,
    Control,
    Edge,
    Effect,
    effect_of,
    intended,
    label_of,
    way_of,
)
from .settings import TransferSettings

MISSING = Estimate(math.nan, math.nan, math.nan, 0, 0, 0, "none")

#: Untouched refusal rates by (language, label).
BaseRates = Mapping[tuple[str, Label], float]


def base_rates(replies: Measured) -> dict[tuple[str, Label], float]:
    """Return the untouched model's refusal rate per language and class that has a scored reply."""
    found = {}
    for language in dict.fromkeys(replies.languages):
        for label in LABELS:
            values = replies.base[replies.rows(language, label)]
            if not np.isnan(values).all():
                found[language, label] = float(np.nanmean(values))
    return found


def draw(measured: Measured, settings: TransferSettings) -> dict[Label, Resamples]:
    """Return the resamples of each class's groups, shared by all of its cells."""
    groups: dict[Label, set[str]] = {label: set() for label in LABELS}
    for label, group in zip(measured.labels, measured.groups):
        groups[label].add(group)
    return {
        label: Resamples.draw(sorted(found), n=settings.resamples, seed=settings.seed)
        for label, found in groups.items()
        if found
    }


def matrix_cells(
    measured: Measured,
    plan: Plan,
    targets: Sequence[str],
    settings: TransferSettings,
    rates: BaseRates,
    resamples: Mapping[Label, Resamples],
) -> list[Cell]:
    """Return every cell of one kind of evidence, missing ones with their reason.

    Changes are paired prompt by prompt with the untouched model; intervals are percentiles of a
    bootstrap over groups; p values are its two-sided ones, never below ``2^(1 - groups)``, the
    smallest that a sign-flip test of so many groups can give, and Holm's over the cells of an
    effect. Where every reply changed alike, the bootstrap has no width: the ends are then those at
    which a share ``z^2 / (n + z^2)`` of the prompts (Wilson's for n of n) would have changed
    otherwise.
    """
    cells: list[Cell] = []
    for effect in EFFECTS:
        found: list[Cell | _Draft] = [
            _draft(measured, plan, source, target, effect)
            for target in targets
            for source in plan.sources
        ]
        drafts = [x for x in found if isinstance(x, _Draft)]
        finished = iter(_finish(drafts, measured, plan, settings, rates, resamples))
        ready = [next(finished) if isinstance(x, _Draft) else x for x in found]
        adjusted = holm([c.p for c in ready])
        cells += [replace(c, p_holm=p) for c, p in zip(ready, adjusted)]
    return cells


@dataclass(frozen=True)
class _Draft:
    """A cell before its statistics: its edit and the rows scored both before and after."""

    source: str
    target: str
    effect: Effect
    edit: Edit
    rows: np.ndarray
    unscored: int


def _draft(
    measured: Measured, plan: Plan, source: str, target: str, effect: Effect
) -> _Draft | Cell:
    def missing(reason: str, unscored: int = 0) -> Cell:
        nothing = replace(MISSING, n_unscored=unscored)
        return Cell(source, target, effect, measured.evidence, nothing, nothing, reason=reason)

    label = label_of(effect)
    rows = measured.rows(target, label)
    if not len(rows):
        return missing(f"there are no {label} prompts in {target}")
    edit, why = plan.row(source, way_of(effect), target)
    if edit is None:
        return missing(why)
    if not edit.wanted(target, label):
        return missing("selectivity was not asked for")
    for name in (edit.name, target):
        if name in measured.skipped:
            return missing(measured.skipped[name])
    values = measured.edited.get(edit.name)
    both = np.zeros(len(rows), dtype=bool)
    if values is not None:
        both = ~np.isnan(values[rows]) & ~np.isnan(measured.base[rows])
    if not both.any():
        return missing(
            f"none of {len(rows)} {label} prompts in {target} was scored before and after",
            len(rows),
        )
    return _Draft(source, target, effect, edit, rows[both], int((~both).sum()))


def _finish(
    drafts: Sequence[_Draft],
    measured: Measured,
    plan: Plan,
    settings: TransferSettings,
    rates: BaseRates,
    resamples: Mapping[Label, Resamples],
) -> Iterable[Cell]:
    """Yield the drafts' cells; those of one effect share their class's resamples."""
    if not drafts:
        return
    shared = resamples[label_of(drafts[0].effect)]
    rivals = [_control_changes(d, measured, plan) for d in drafts]
    columns: list[Rates] = []
    for d, others in zip(drafts, rivals):
        base, moved = _sides(measured, d)
        beyond = change(base, moved).values - _mean(others, len(d.rows))
        columns += [change(base, moved), base, Rates(beyond, base.groups)]
    parts = shared.of(columns)
    for i, (d, others) in enumerate(zip(drafts, rivals)):
        moved, base, beyond = parts[3 * i : 3 * i + 3]
        yield _cell(d, measured, plan, settings, rates, columns[3 * i + 1], moved, base, beyond,
                    others)  # fmt: skip


def _cell(
    d: _Draft,
    measured: Measured,
    plan: Plan,
    settings: TransferSettings,
    rates: BaseRates,
    before: Rates,
    moved: Resampled,
    base: Resampled,
    beyond: Resampled,
    others: Mapping[str, np.ndarray],
) -> Cell:
    replies = measured.evidence == "replies"
    found = replace(estimate(moved), n_unscored=d.unscored)
    if replies:
        found = _widened(found, moved)
    rate = before.rate if replies else rates.get((d.target, label_of(d.effect)), math.nan)
    sign = intended(d.effect)
    room = rate if sign < 0 else 1 - rate
    controls = tuple(
        _control(plan.edits[name], d.edit, float(np.nanmean(values)))
        for name, values in others.items()
    )
    strengths = [sign * control.change for control in controls]
    own = sign * found.value
    return Cell(
        d.source,
        d.target,
        d.effect,
        measured.evidence,
        found,
        wilson(before) if replies else estimate(base),
        share=own / room if replies and room > 0 else math.nan,
        edge=_edge(room, sign, settings),
        broken=_broken(measured.broken.get(d.edit.name), d),
        broken_base=_broken(measured.broken_base, d),
        controls=controls,
        # Controls may all move the wrong way: no change at all would exceed those.
        exceeds=own > max(0.0, *strengths) if strengths else None,
        p_rank=(1 + sum(s >= own for s in strengths)) / (1 + len(strengths))
        if strengths
        else math.nan,
        beyond=estimate(beyond) if strengths else None,
        p=p_value(moved),
    )


def _control(edit: Edit, of: Edit, moved: float) -> Control:
    cosine = float(edit.direction.vector @ of.direction.vector)
    return Control(edit.kind, edit.name, moved, cosine, edit.direction.layer, edit.length)


def p_value(part: Resampled) -> float:
    """Return the bootstrap's two-sided p value, at least ``2^(1 - groups)``."""
    return max(paired_estimate(part).p, 2.0 ** (1 - int(part.seen.sum())))


def _edge(room: float, sign: int, settings: TransferSettings) -> Edge | None:
    if math.isnan(room) or room >= settings.least_room:
        return None
    return "floor" if sign < 0 else "ceiling"


def _widened(found: Estimate, part: Resampled) -> Estimate:
    """Return an interval of rates that has a width where all prompts changed alike."""
    if found.low < found.high:
        return found
    from scipy import stats as scipy_stats

    z2 = float(scipy_stats.norm.isf((1 - CONFIDENCE) / 2)) ** 2
    width = z2 / (int(part.seen.sum()) + z2)
    low, high = max(-1.0, found.value - width), min(1.0, found.value + width)
    return replace(found, low=low, high=high, method="wilson, all alike")


def _broken(values: np.ndarray | None, d: _Draft) -> float:
    return math.nan if values is None else float(values[d.rows].mean())


def _sides(measured: Measured, d: _Draft) -> tuple[Rates, Rates]:
    groups = tuple(measured.groups[i] for i in d.rows)
    edited = measured.edited[d.edit.name]
    return Rates(measured.base[d.rows], groups), Rates(edited[d.rows], groups)


def _control_changes(d: _Draft, measured: Measured, plan: Plan) -> dict[str, np.ndarray]:
    """Return the changes ``[rows]`` of the controls that were measured on a main effect's rows."""
    if effect_of(d.edit.way, label_of(d.effect)) not in MAIN:
        return {}
    found = {}
    for name in plan.controls[d.edit.name]:
        if (values := measured.edited.get(name)) is not None:
            moved = values[d.rows] - measured.base[d.rows]
            if not np.isnan(moved).all():
                found[name] = moved
    return found


def _mean(others: Mapping[str, np.ndarray], n: int) -> np.ndarray:
    """Return the controls' mean change per prompt, over those that scored it; NaN without any."""
    if not others:
        return np.full(n, np.nan)
    stack = np.array([*others.values()])
    scored = ~np.isnan(stack)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(scored, stack, 0).sum(0) / scored.sum(0)
