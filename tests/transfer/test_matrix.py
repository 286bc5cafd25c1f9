"""The matrix's numbers against loops written out, and its missing and marked cells."""

from __future__ import annotations

import math

import numpy as np
import pytest

from babelgate.stats import holm
from babelgate.transfer.edits import plan_edits
from babelgate.transfer.matrix import base_rates, draw, matrix_cells
from babelgate.transfer.measured import Measured
from babelgate.transfer.results import EFFECTS, MAIN
from babelgate.transfer.settings import TransferSettings

from .made import axis, source

LANGUAGES = ("en", "sw", "yo")
SETTINGS = TransferSettings(resamples=400, random_seeds=1)
PLAN = plan_edits({x: source(axis(i), x) for i, x in enumerate(("en", "sw"))}, LANGUAGES, SETTINGS)


def measured(evidence, *, seed=0, n=7, holes=0.1, base=None, move=None, skipped=None):
    """Return random scores; every third group has two prompts in a language."""
    rng = np.random.default_rng(seed)
    facts = [
        (language, label, f"{label}-{i - i % 3 // 2}")
        for language in LANGUAGES
        for label in ("harmful", "harmless")
        for i in range(n)
    ]
    size = len(facts)

    def values(constant=None):
        drawn = rng.normal(size=size) if evidence == "first_token" else rng.integers(0, 2, size)
        drawn = np.asarray(drawn, dtype=float) if constant is None else np.full(size, constant)
        return np.where(rng.random(size) < holes, np.nan, drawn)

    edited = {}
    for name, edit in PLAN.edits.items():
        wanted = [edit.wanted(language, label) for language, label, _ in facts]
        edited[name] = np.where(wanted, values(move), np.nan)
    languages, labels, groups = zip(*facts)
    before = values(base)
    broken = {name: (x == 0) * 1.0 for name, x in edited.items()} if evidence == "replies" else {}
    return Measured(evidence, languages, labels, groups, before, edited,
                    np.zeros(size) if broken else None, broken, skipped or {})  # fmt: skip


def cells_of(found, settings=SETTINGS):
    rates = base_rates(found) if found.evidence == "replies" else {}
    return matrix_cells(found, PLAN, LANGUAGES, settings, rates, draw(found, settings))


def slow_samples(found, rows, values, label, resamples):
    """Draw every group as often as its weight says, and write every prompt down."""
    groups = sorted({g for g, x in zip(found.groups, found.labels) if x == label})
    means = []
    for weights in resamples[label].weights:
        drawn = [
            value
            for group, times in zip(groups, weights)
            for _ in range(int(times))
            for row, value in zip(rows, values)
            if found.groups[row] == group
        ]
        means.append(sum(drawn) / len(drawn) if drawn else math.nan)
    return np.array(means)


@pytest.mark.parametrize("evidence", ["first_token", "replies"])
def test_cells_equal_loops(evidence):
    found = measured(evidence)
    resamples = draw(found, SETTINGS)
    cells = cells_of(found)
    assert len(cells) == len(EFFECTS) * len(LANGUAGES) * 3
    checked = 0
    for cell in cells:
        way, label = cell.effect.split("_")
        edit, _ = PLAN.row(cell.source, way, cell.target)
        if edit is None:
            assert cell.reason
            continue
        prompts = [
            i for i, x in enumerate(zip(found.languages, found.labels)) if x == (cell.target, label)
        ]
        values = found.edited[edit.name]
        rows = [i for i in prompts if not math.isnan(values[i] - found.base[i])]
        changes = [values[i] - found.base[i] for i in rows]
        e = cell.estimate
        assert e.value == pytest.approx(sum(changes) / len(changes))
        assert (cell.n, e.n_unscored) == (len(rows), len(prompts) - len(rows))
        assert e.n_groups == len({found.groups[i] for i in rows})
        assert cell.base.value == pytest.approx(np.mean([found.base[i] for i in rows]))
        samples = slow_samples(found, rows, changes, label, resamples)
        samples = samples[~np.isnan(samples)]
        np.testing.assert_allclose((e.low, e.high), np.quantile(samples, [0.025, 0.975]))
        tail = min((samples <= 1e-12).mean(), (samples >= -1e-12).mean())
        p = min(1, max(2 * tail, 1 / len(samples), 2.0 ** (1 - e.n_groups)))
        assert cell.p == pytest.approx(p)
        sign = -1 if way == "ablate" else 1
        if evidence == "replies":
            room = cell.base.value if sign < 0 else 1 - cell.base.value
            if room > 0:
                assert cell.share == pytest.approx(sign * e.value / room)
            assert cell.broken == pytest.approx(np.mean([values[i] == 0 for i in rows]))
        if cell.effect not in MAIN:
            assert cell.controls == ()
            assert cell.exceeds is None
            assert math.isnan(cell.p_rank)
            continue
        per_control = {}
        for name in PLAN.controls[edit.name]:
            moved = {i: found.edited[name][i] - found.base[i] for i in rows}
            per_control[name] = {i: x for i, x in moved.items() if not math.isnan(x)}
        means = {name: np.mean([*x.values()]) for name, x in per_control.items()}
        assert {c.name: c.change for c in cell.controls} == pytest.approx(means)
        assert {c.kind for c in cell.controls} == {"random", "shuffled", "identity"}
        assert cell.exceeds == (
            sign * e.value > 0 and all(sign * e.value > sign * x for x in means.values())
        )
        above = sum(sign * x >= sign * e.value for x in means.values())
        assert cell.p_rank == pytest.approx((1 + above) / (1 + len(means)))
        beyond = [
            change - np.mean([x[i] for x in per_control.values() if i in x])
            for i, change in zip(rows, changes)
            if any(i in x for x in per_control.values())
        ]
        assert cell.beyond is not None
        assert cell.beyond.value == pytest.approx(np.mean(beyond))
        checked += 1
    assert checked >= 12
    for effect in EFFECTS:
        family = [c for c in cells if c.effect == effect]
        np.testing.assert_allclose([c.p_holm for c in family], holm([c.p for c in family]))


def test_nothing_moved_is_zero_and_not_significant():
    found = measured("replies", base=1.0, move=1.0, holes=0.0)
    cells = [c for c in cells_of(found) if not c.reason]
    assert len(cells) > 20
    for cell in cells:
        assert cell.estimate.value == 0
        assert cell.p == cell.p_holm == 1
        assert cell.exceeds is not True
        # No prompt of 5 groups changed: up to z^2 / (5 + z^2) of them could have.
        z2 = 1.959963984540054**2
        assert cell.estimate.high == pytest.approx(z2 / (cell.estimate.n_groups + z2))


def test_no_change_does_not_exceed_controls_that_go_the_wrong_way():
    found = measured("replies", base=0.0, move=0.0, holes=0.0)
    for name, values in found.edited.items():
        if "random" in name or "shuffled" in name or "identity" in name:
            values[~np.isnan(values)] = 1.0
    cells = [c for c in cells_of(found) if c.effect == "ablate_harmful" and c.controls]
    assert len(cells) > 4
    assert {min(x.change for x in c.controls) for c in cells} == {1.0}
    assert {c.exceeds for c in cells} == {False}


def test_floors_and_ceilings_are_marked():
    always = {
        (c.source, c.effect): c for c in cells_of(measured("replies", base=1.0)) if c.target == "yo"
    }
    never = {
        (c.source, c.effect): c for c in cells_of(measured("replies", base=0.0)) if c.target == "yo"
    }
    for effect in EFFECTS:
        down = effect.startswith("ablate")
        assert always["en", effect].edge == (None if down else "ceiling")
        assert never["en", effect].edge == ("floor" if down else None)
        full, empty = (always, never) if down else (never, always)
        cell = full["en", effect]
        assert cell.share == pytest.approx(abs(cell.estimate.value))
        assert math.isnan(empty["en", effect].share)


def test_few_groups_cannot_be_significant():
    found = measured("replies", n=3, base=1.0, move=0.0, holes=0.0)
    cells = [c for c in cells_of(found) if c.effect == "ablate_harmful" and not c.reason]
    assert len(cells) > 4
    assert {c.p for c in cells} == {0.5}  # two groups: 2^(1 - 2)
    assert {c.estimate.value for c in cells} == {-1.0}


def test_missing_cells_say_why_and_are_never_zero():
    found = measured("replies", skipped={"ablate en": "not asked for", "sw": "no replies in sw"})
    found.edited["add sw"][:] = np.nan
    cells = {(c.source, c.target, c.effect): c for c in cells_of(found)}
    reasons = {key: cell.reason for key, cell in cells.items() if cell.reason}
    assert reasons["en", "yo", "ablate_harmful"] == "not asked for"
    assert reasons["en", "sw", "add_harmless"] == "no replies in sw"
    assert "none of 7" in reasons["sw", "en", "add_harmless"]
    assert "two directions" in reasons["mean", "en", "add_harmless"]
    for key in reasons:
        assert math.isnan(cells[key].estimate.value)
        assert math.isnan(cells[key].p_holm)
        assert cells[key].n == 0
    assert 0 < len(reasons) < len(cells)
    more = matrix_cells(found, PLAN, (*LANGUAGES, "de"), SETTINGS, {}, draw(found, SETTINGS))
    assert {c.reason for c in more if c.target == "de" and "harmful" in c.effect} == {
        "there are no harmful prompts in de"
    }


def test_scores_must_fit_the_prompts():
    with pytest.raises(ValueError, match="do not match"):
        Measured("replies", ("en",), ("harmful",), ("a",), np.zeros(1), {"x": np.zeros(2)})
