"""A native direction against others: loops written out, words, missing comparisons."""

from __future__ import annotations

import math

import numpy as np
import pytest

from babelgate.stats import holm
from babelgate.transfer.edits import plan_edits
from babelgate.transfer.matrix import draw
from babelgate.transfer.measured import Measured
from babelgate.transfer.native import native_against
from babelgate.transfer.settings import TransferSettings

from .made import axis, source

SETTINGS = TransferSettings(resamples=300, random_seeds=0)
SOURCES = ("en", "de", "yo")
PLAN = plan_edits(
    {x: source(axis(i), x) for i, x in enumerate(SOURCES)}, (*SOURCES, "sw"), SETTINGS
)
N = 12


def made(moves, evidence="replies"):
    """Return scores in which an edit on a target refuses that many harmful prompts of N."""
    languages = [x for x in (*SOURCES, "sw") for _ in range(2 * N)]
    labels = [x for _ in (*SOURCES, "sw") for x in ("harmful", "harmless") for _ in range(N)]
    groups = [f"{label}-{i % N}" for i, label in enumerate(labels)]
    edited = {}
    for name, edit in PLAN.edits.items():
        values = np.full(len(languages), np.nan)
        for target in (*SOURCES, "sw"):
            for label in ("harmful", "harmless"):
                if edit.wanted(target, label):
                    rows = [i for i, x in enumerate(zip(languages, labels)) if x == (target, label)]
                    refused = moves.get((name, target), 6)
                    values[rows] = [1.0] * refused + [0.0] * (N - refused)
        edited[name] = values
    base = np.array([float(x == "harmful") for x in labels])
    return Measured(evidence, tuple(languages), tuple(labels), tuple(groups), base, edited)


def rows_of(found):
    rows = native_against(found, PLAN, (*SOURCES, "sw"), SETTINGS, draw(found, SETTINGS))
    return {(r.target, r.rival, r.effect): r for r in rows}


def test_a_native_direction_that_works_where_others_do_not():
    found = rows_of(made({("ablate yo", "yo"): 0, ("ablate en", "yo"): 12, ("ablate de", "yo"): 11,
                          ("ablate mean without yo", "yo"): 12}))  # fmt: skip
    for rival, source_, other in (
        ("reference", "en", 0.0),
        ("best", "de", -1 / 12),
        ("mean", "mean", 0.0),
    ):
        row = found["yo", rival, "ablate_harmful"]
        assert row.source == source_
        assert row.native == -1
        assert row.other == pytest.approx(other)
        assert row.difference.value == pytest.approx(1 + other)
        assert row.p_holm < 0.05
        assert "native direction works better" in row.words
        assert "Yoruba" in row.words
    assert "English" in found["yo", "reference", "ablate_harmful"].words
    assert "−100 points" in found["yo", "reference", "ablate_harmful"].words
    assert "the best other language here" in found["yo", "best", "ablate_harmful"].words
    assert "mean of other languages" in found["yo", "mean", "ablate_harmful"].words


def test_equal_directions_show_no_difference_and_worse_ones_are_worse():
    found = rows_of(made({("add yo", "yo"): 0, ("add en", "yo"): 12}))
    row = found["yo", "reference", "add_harmless"]
    assert row.difference.value == -1
    assert "works worse" in row.words
    same = found["de", "reference", "ablate_harmful"]
    assert same.difference.value == 0
    assert same.p_holm == 1
    assert "no difference is shown" in same.words


def test_differences_equal_a_loop_and_holm():
    scores = made({}, "first_token")
    rng = np.random.default_rng(3)
    for values in scores.edited.values():
        values += rng.normal(size=len(values))
        values[rng.random(len(values)) < 0.1] = np.nan
    scores.base[:] += rng.normal(size=len(scores.base))
    resamples = draw(scores, SETTINGS)
    found = rows_of(scores)
    checked = 0
    for (target, _rival, effect), row in found.items():
        if row.reason:
            continue
        way, label = effect.split("_")
        own = scores.edited[f"{way} {target}"]
        name = f"{way} mean without {target}" if row.source == "mean" else f"{way} {row.source}"
        rows = [
            i for i, x in enumerate(zip(scores.languages, scores.labels))
            if x == (target, label) and not math.isnan(own[i] - scores.edited[name][i] + scores.base[i])
        ]  # fmt: skip
        sign = -1 if way == "ablate" else 1
        gaps = {scores.groups[i]: sign * (own[i] - scores.edited[name][i]) for i in rows}
        assert row.difference.value == pytest.approx(np.mean([*gaps.values()]))
        assert row.difference.n == len(rows)
        order = sorted({g for g, x in zip(scores.groups, scores.labels) if x == label})
        samples = []
        for weights in resamples[label].weights:
            drawn = [gaps[g] for g, w in zip(order, weights) for _ in range(int(w)) if g in gaps]
            samples.append(np.mean(drawn) if drawn else math.nan)
        wanted = np.nanquantile(samples, [0.025, 0.975])
        np.testing.assert_allclose((row.difference.low, row.difference.high), wanted)
        assert "nats" in row.words
        checked += 1
    assert checked >= 12
    for effect in ("ablate_harmful", "add_harmless"):
        family = [r for r in found.values() if r.effect == effect]
        np.testing.assert_allclose([r.p_holm for r in family], holm([r.p for r in family]))
    best = found["yo", "best", "add_harmless"]
    rows = scores.rows("yo", "harmless")
    means = {
        x: np.nanmean(scores.edited[f"add {x}"][rows] - scores.base[rows]) for x in ("en", "de")
    }
    assert best.source == max(means, key=lambda x: means[x])


def test_what_cannot_be_compared_says_why():
    found = rows_of(made({}))
    assert ("en", "reference", "add_harmless") not in found
    row = found["sw", "reference", "ablate_harmful"]
    assert row.reason == "sw has no direction"
    assert "not compared" in row.words
    assert math.isnan(row.native)
    assert math.isnan(row.p_holm)
