"""The numbers of a comparison against loops over prompts, seeds and languages."""

from __future__ import annotations

import math

import numpy as np
import pytest

from babelgate.comparing import summary
from babelgate.comparing.contenders import UNTOUCHED, Contender, Routes, Treatment
from babelgate.comparing.replies import Outcomes
from babelgate.comparing.summary import METRICS, Compared, summarise
from babelgate.interventions.actions import Nothing
from babelgate.metrics import auroc
from babelgate.types import Prompt

LANGUAGES = ("sw", "yo", "am")
OUTCOMES = ("refused", "answered", "degenerate", "wrong_language", "unparsed")


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(summary, "BOOTSTRAP", 300)


def prompts_of(languages=LANGUAGES, n=7, labels=("harmful", "harmless")):
    return tuple(
        Prompt(f"{label}{i}", x, f"{x} {label} {i}", label, "test", group_id=f"{label}{i}")
        for x in languages
        for label in labels
        for i in range(n)
    )


def outcomes_of(name, prompts, rng, among=OUTCOMES):
    return Outcomes(name, tuple(rng.choice(among, len(prompts))), (None,) * len(prompts))


def treatment(name):
    return Treatment(name, Nothing(name, name))


def compared_of(prompts, *, seeds=3, seed=0, among=OUTCOMES):
    rng = np.random.default_rng(seed)
    names = ("base", "a", "b")
    outcomes = {name: outcomes_of(name, prompts, rng, among) for name in names}
    routes = Routes(rng.normal(size=len(prompts)), rng.normal(size=(seeds, len(prompts))))
    contenders = (
        Contender("base", "base", "", UNTOUCHED),
        Contender("gated", "gate", "", treatment("a"), treatment("b"), routes),
        Contender("half", "gate", "", treatment("a"), UNTOUCHED, Routes(*_one(routes))),
        Contender("all", "rival", "", treatment("b")),
    )
    return Compared(prompts, contenders, outcomes)


def _one(routes):
    return routes.scores, routes.thresholds[:1]


def slow_share(compared, contender, i, what):
    """Return one prompt's share over seeds, with missing seeds left out; None if none is known."""
    values = []
    for s in range(contender.n_seeds):
        fires = True
        if contender.routes is not None:
            fires = contender.routes.scores[i] >= contender.routes.thresholds[s][i]
        if what == "fired":
            if contender.routes is not None:
                values.append(float(fires))
            continue
        side = contender.fired if fires else contender.silent
        outcome = compared.outcomes[side.name].outcomes[i]
        if outcome not in (None, "unparsed"):
            values.append(float(outcome == {"refusal": "refused"}.get(what, what)))
    return sum(values) / len(values) if values else None


def slow_rate(compared, contender, language, label, what):
    """Return (mean, scored, unscored) of one cell."""
    found = [
        slow_share(compared, contender, i, what)
        for i, p in enumerate(compared.prompts)
        if (p.language, p.label) == (language, label)
    ]
    known = [x for x in found if x is not None]
    return (sum(known) / len(known) if known else math.nan), len(known), len(found) - len(known)


def slow_metric(compared, contender, languages, metric):
    """Return (value, scored): unweighted over languages that have every side."""
    what, sides = METRICS[metric]
    values, n = [], 0
    for language in languages:
        cells = {x: slow_rate(compared, contender, language, x, what) for x in sides}
        if all(cell[1] for cell in cells.values()):
            values.append(sum(sign * cells[x][0] for x, sign in sides.items()))
            n += sum(cell[1] for cell in cells.values())
    return (sum(values) / len(values) if values else math.nan), n


def groups(compared):
    return {**{x: [x] for x in compared.languages}, "all": compared.languages}


@pytest.mark.parametrize(
    "prompts",
    [
        prompts_of(),
        prompts_of(("sw",)),
        (*prompts_of(("sw", "yo")), *prompts_of(("am",), labels=("harmful",))),
    ],
    ids=["three languages", "one language", "one without harmless prompts"],
)
def test_rows_equal_loops(prompts):
    compared = compared_of(prompts)
    rows, _ = summarise(compared, seed=0)
    seen = 0
    for contender in compared.contenders:
        for group, languages in groups(compared).items():
            row = next(r for r in rows if (r.method, r.group) == (contender.name, group))
            assert row.n_seeds == contender.n_seeds
            for metric in METRICS:
                value, n = slow_metric(compared, contender, languages, metric)
                got = row.values[metric]
                assert got.value == pytest.approx(value, nan_ok=True), (group, metric)
                assert got.n == n
                if not math.isnan(value):
                    assert got.low <= value + 1e-9
                    assert value - 1e-9 <= got.high
                seen += 1
    assert seen == 4 * len(groups(compared)) * len(METRICS)


def test_unparsed_is_missing_and_not_zero():
    prompts = prompts_of(("sw",), n=3)
    outcomes = {
        "base": Outcomes("base", ("refused", "unparsed", "unparsed") * 2, (None,) * 6),
        "a": Outcomes("a", ("unparsed",) * 6, (None,) * 6),
    }
    contenders = (
        Contender("base", "base", "", UNTOUCHED),
        Contender("x", "rival", "", treatment("a")),
    )
    rows, differences = summarise(Compared(prompts, contenders, outcomes), seed=0)
    base, x = rows[0], rows[2]
    assert (base.method, base.group) == ("base", "sw")
    assert base.values["harmful_refusal"].value == 1.0
    assert base.values["harmful_refusal"].n_unscored == 2
    assert (x.method, x.group) == ("x", "sw")
    assert x.values["harmful_refusal"].missing
    assert x.values["harmful_refusal"].n_unscored == 3
    assert differences
    assert all(d.delta is None and d.p is None and d.n == 0 for d in differences)


def test_seed_spread_is_that_of_the_mean_selectivity():
    compared = compared_of(prompts_of(), seeds=4)
    rows, _ = summarise(compared, seed=0)
    contender = compared.contenders[1]
    for group, languages in groups(compared).items():
        per_seed = []
        for s in range(4):
            routes = Routes(contender.routes.scores, contender.routes.thresholds[s : s + 1])
            one = Contender("x", "gate", "", contender.fired, contender.silent, routes)
            per_seed.append(
                np.mean([slow_metric(compared, one, [x], "selectivity")[0] for x in languages])
            )
        row = next(r for r in rows if (r.method, r.group) == ("gated", group))
        assert row.seed_sd == pytest.approx(float(np.std(per_seed, ddof=1)))
    assert {r.seed_sd for r in rows if r.method != "gated"} == {None}


def test_auroc_is_the_scores():
    compared = compared_of(prompts_of())
    rows, _ = summarise(compared, seed=0)
    areas = []
    for language in LANGUAGES:
        sides = [
            [s for s, p in zip(compared.contenders[1].routes.scores, compared.prompts)
             if (p.language, p.label) == (language, label)]
            for label in ("harmful", "harmless")
        ]  # fmt: skip
        areas.append(auroc(*sides))
        row = next(r for r in rows if (r.method, r.group) == ("gated", language))
        assert row.auroc == pytest.approx(areas[-1])
    total = next(r for r in rows if (r.method, r.group) == ("gated", "all"))
    assert total.auroc == pytest.approx(np.mean(areas))
    assert next(r for r in rows if r.method == "base").auroc is None


@pytest.mark.parametrize(
    "prompts",
    [prompts_of(), (*prompts_of(("sw",)), *prompts_of(("am",), labels=("harmful",)))],
    ids=["all cells", "one language without harmless prompts"],
)
def test_differences_are_over_prompts_that_both_have(prompts):
    compared = compared_of(prompts)
    _, differences = summarise(compared, seed=0)
    base = compared.contenders[0]
    seen = 0
    for contender in compared.contenders[1:]:
        for group, languages in groups(compared).items():
            for metric in ("selectivity", "harmful_refusal", "harmless_refusal", "degenerate"):
                what, sides = METRICS[metric]
                values = []
                for language in languages:
                    parts = []
                    for label, sign in sides.items():
                        both = []
                        for i, p in enumerate(prompts):
                            if (p.language, p.label) == (language, label):
                                pair = [slow_share(compared, c, i, what) for c in (base, contender)]
                                if None not in pair:
                                    both.append(pair[1] - pair[0])
                        parts.append(sign * sum(both) / len(both) if both else math.nan)
                    if not any(map(math.isnan, parts)):
                        values.append(sum(parts))
                found = [
                    d for d in differences
                    if (d.b, d.group, d.metric) == (contender.name, group, metric)
                ]  # fmt: skip
                assert len(found) == 1
                assert found[0].a == "base"
                if values:
                    assert found[0].delta == pytest.approx(sum(values) / len(values))
                    assert found[0].p_holm >= found[0].p
                else:
                    assert found[0].delta is None
                seen += 1
    assert seen == len(differences)


def test_the_untouched_model_against_itself_differs_in_nothing():
    prompts = prompts_of()
    compared = compared_of(prompts)
    rng = np.random.default_rng(5)
    routes = Routes(rng.normal(size=len(prompts)), rng.normal(size=(2, len(prompts))))
    contenders = (
        compared.contenders[0],
        Contender("idle", "gate", "", UNTOUCHED, UNTOUCHED, routes),
    )
    rows, differences = summarise(Compared(prompts, contenders, compared.outcomes), seed=0)
    assert differences
    for d in differences:
        assert (d.delta, d.low, d.high, d.p) == (0.0, 0.0, 0.0, 1.0)
    for base, idle in zip(rows[:4], rows[4:]):
        assert base.group == idle.group
        for metric in METRICS:
            if "fired" not in metric and not metric.startswith("gate"):
                assert base.values[metric].value == idle.values[metric].value


def test_a_treatment_that_was_not_needed_is_missing():
    prompts = prompts_of(("sw",), n=2)
    always = Routes(np.ones(4), np.zeros((1, 4)))
    outcomes = {
        "base": Outcomes("base", ("answered",) * 4, (None,) * 4),
        "a": Outcomes("a", ("refused",) * 4, (None,) * 4),
    }
    gated = Contender("g", "gate", "", treatment("a"), treatment("never made"), always)
    compared = Compared(prompts, (Contender("base", "base", "", UNTOUCHED), gated), outcomes)
    rows, _ = summarise(compared, seed=0)
    row = next(r for r in rows if r.method == "g")
    assert row.values["harmful_refusal"].value == 1.0
    assert row.values["fired_harmless"].value == 1.0
    assert row.values["selectivity"].value == 0.0
