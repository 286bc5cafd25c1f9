"""Sample sizes: published examples, laws, and simulated power within three points."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.stats.proportion import power_proportions_2indep

from babelgate.errors import UserError
from babelgate.stats import (
    Cell,
    Design,
    Resamples,
    detectable_difference,
    mcnemar,
    paired_estimate,
    power_of,
    power_table,
    prompts_needed,
)

# ---------------------------------------------------------------------------------------------
# published examples


@pytest.mark.parametrize(
    ("base", "after", "power", "n"), [(0.5, 0.75, 0.9, 77), (0.5, 0.6, 0.8, 388)]
)
def test_independent_rates_on_published_examples(base, after, power, n):
    """R's documentation of power.prop.test: 0.50 against 0.75 at power 0.90 gives n = 76.7."""
    assert prompts_needed(Design(base, paired=False), after - base, power) == n


def test_independent_rates_by_hand():
    """(1.95996 sqrt(2 0.55 0.45) + 0.84162 sqrt(0.24 + 0.25))^2 / 0.01 = 387.34."""
    root = 1.959964 * math.sqrt(2 * 0.55 * 0.45) + 0.841621 * math.sqrt(0.49)
    assert root**2 / 0.01 == pytest.approx(387.34, abs=0.01)


def test_pairs_on_a_published_example():
    """p01 = 0.45, p10 = 0.05, two-sided 0.05, power 0.80: 23 pairs (after Connor 1987).

    By hand: (1.95996 sqrt(0.5) + 0.84162 sqrt(0.5 - 0.16))^2 / 0.4^2 = 22.01.
    """
    assert prompts_needed(Design(0.3, discordance=0.5), 0.4) == 23
    by_hand = (0.4 * math.sqrt(23) - 1.959964 * math.sqrt(0.5)) / math.sqrt(0.34)  # 0.913
    assert power_of(Design(0.3, discordance=0.5), 0.4, 23) == pytest.approx(
        scipy_stats.norm.cdf(by_hand), abs=1e-6
    )


def test_pairs_from_rates_and_correlation_by_hand():
    """0.75 to 0.85, correlation 0.6: discordance 0.75 0.15 + 0.85 0.25 - 1.2 sqrt(0.1875 0.1275)
    = 0.13946, so (1.95996 sqrt(0.13946) + 0.84162 sqrt(0.12946))^2 / 0.01 = 107.03.
    """
    assert prompts_needed(Design(0.75, correlation=0.6), 0.1) == 108


@pytest.mark.parametrize(("base", "d", "n"), [(0.5, 0.1, 200), (0.2, -0.1, 150), (0.05, 0.1, 90)])
def test_independent_power_equals_the_library(base, d, n):
    got = power_of(Design(base, paired=False), d, n)
    theirs = power_proportions_2indep(d, base, n, ratio=1, alpha=0.05).power
    assert got == pytest.approx(theirs, abs=2e-3)  # theirs adds the opposite tail


# ---------------------------------------------------------------------------------------------
# laws

designs = st.builds(
    Design,
    base=st.floats(0.1, 0.6),
    paired=st.booleans(),
    correlation=st.floats(0, 0.8),
    harmless=st.none() | st.floats(0.05, 0.5),
    languages=st.integers(1, 23),
    icc=st.floats(0, 1),
    comparisons=st.integers(1, 60),
)


@settings(deadline=None)
@given(designs, st.floats(0.02, 0.35), st.floats(0.5, 0.99))
def test_the_answer_is_the_smallest_number_that_suffices(design, difference, power):
    n = prompts_needed(design, difference, power)
    assert power_of(design, difference, n) >= power - 1e-6
    if n > 1:
        assert power_of(design, difference, n - 1) < power
    found = detectable_difference(design, n, power)
    assert found <= difference + 1e-6
    assert power_of(design, found, n) == pytest.approx(power, abs=1e-5)


@settings(deadline=None)
@given(designs, st.floats(0.02, 0.3))
def test_more_is_needed_for_more(design, difference):
    n = prompts_needed(design, difference)
    assert prompts_needed(design, difference, 0.9) >= n
    assert prompts_needed(design, difference + 0.05) <= n + 1
    stricter = Design(**{**vars(design), "comparisons": design.comparisons + 5})
    assert prompts_needed(stricter, difference) >= n
    closer = Design(**{**vars(design), "icc": min(1.0, design.icc + 0.2)})
    assert prompts_needed(closer, difference) >= n


def test_pairs_without_correlation_are_as_good_as_independent_sides():
    paired, apart = Design(0.4), Design(0.4, paired=False)
    assert prompts_needed(paired, 0.1) == pytest.approx(prompts_needed(apart, 0.1), rel=0.02)
    assert prompts_needed(Design(0.4, correlation=0.8), 0.1) < prompts_needed(paired, 0.1) / 3


def test_translations_count_between_not_at_all_and_as_new_prompts():
    """5 languages: design effect 1 + 4 icc over 5."""
    one = prompts_needed(Design(0.3), 0.05)
    assert prompts_needed(Design(0.3, languages=5, icc=1), 0.05) == one
    assert prompts_needed(Design(0.3, languages=5, icc=0), 0.05) == pytest.approx(one / 5, abs=1)
    half = prompts_needed(Design(0.3, languages=5, icc=0.5), 0.05)
    assert half == pytest.approx(one * 3 / 5, abs=1)


def test_a_correlation_that_rates_do_not_allow_is_the_strongest_possible():
    """0.1 to 0.3: at best every changed prompt changes one way, discordance 0.2."""
    assert prompts_needed(Design(0.1, correlation=1), 0.2) == prompts_needed(
        Design(0.1, discordance=0.2), 0.2
    )


def test_the_numbers_in_the_documentation():
    page = (Path(__file__).parents[2] / "docs" / "statistics.md").read_text(encoding="utf-8")
    names = {"Design": Design, "prompts_needed": prompts_needed,
             "detectable_difference": detectable_difference}  # fmt: skip
    lines = re.findall(r"^((?:prompts|detectable)_\w+\(.*\)) +# ([\d.]+\d)", page, re.MULTILINE)
    assert len(lines) == 5
    for line, number in lines:
        assert eval(line, names) == pytest.approx(float(number), abs=5e-4), line  # noqa: S307


def test_falls_mirror_rises():
    assert prompts_needed(Design(0.7), -0.2) == prompts_needed(Design(0.3), 0.2)
    rise = detectable_difference(Design(0.3), 100)
    assert detectable_difference(Design(0.7), 100, falling=True) == pytest.approx(-rise)
    assert math.isnan(detectable_difference(Design(0.99), 20))
    assert math.isnan(detectable_difference(Design(0.0), 20, falling=True))


def test_the_table_leaves_out_what_cannot_be():
    rows = power_table(Design(0.85), (0.05, 0.1, 0.2), (0.8, 0.9))
    assert [(r.difference, r.power) for r in rows] == [
        (0.05, 0.8), (0.05, 0.9), (0.1, 0.8), (0.1, 0.9),
    ]  # fmt: skip
    assert rows[0].prompts == prompts_needed(Design(0.85), 0.05)
    with pytest.raises(UserError, match=r"ends at 1\.15"):
        power_table(Design(0.85), (0.3,))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Design(1.2, icc=2, languages=0), "base 1.2.*icc 2.*languages 0"),
        (lambda: Design(0.5, correlation=-2, alpha=0), "correlation -2.*alpha 0"),
        (lambda: Design(0.5, paired=False, discordance=0.1), "paired"),
        (lambda: prompts_needed(Design(0.5), 0), "must not be 0"),
        (lambda: prompts_needed(Design(0.5), 0.6), "1.1"),
        (lambda: prompts_needed(Design(0.5, discordance=0.1), 0.2), "discordan"),
        (lambda: prompts_needed(Design(0.5), 0.1, 1.0), "power 1.0"),
        (lambda: detectable_difference(Design(0.5), 0), "0 prompts"),
    ],
)
def test_what_cannot_be_is_a_user_error(make, message):
    with pytest.raises(UserError, match=message):
        make()


# ---------------------------------------------------------------------------------------------
# simulation

RUNS = 4000  # standard error of a power of 0.8: 0.006


def pairs(rng, shape, base, after, correlation):
    """Return outcomes before and after, with the correlation: draw the four kinds of pair."""
    both = base * after + correlation * math.sqrt(base * (1 - base) * after * (1 - after))
    kinds = np.cumsum([both, base - both, after - both])
    kind = np.searchsorted(kinds, rng.random(shape))
    return (kind <= 1).astype(float), ((kind == 0) | (kind == 2)).astype(float)


def simulated_mcnemar(base, d, rho, n, runs=40_000):
    """Return the power of the exact and of the large-sample test; standard error 0.002."""
    after = base + d
    both = base * after + rho * math.sqrt(base * (1 - base) * after * (1 - after))
    chances = [both, base - both, after - both, 1 - base - after + both]
    counts = np.random.default_rng(0).multinomial(n, chances, size=runs)
    up, down = counts[:, 2], counts[:, 1]
    p = np.minimum(1, 2 * scipy_stats.binom.cdf(np.minimum(up, down), up + down, 0.5))
    for r in range(5):  # the same test as ours
        values = [np.repeat(x, counts[r]) for x in ([1.0, 1, 0, 0], [1.0, 0, 1, 0])]
        groups = tuple(str(i) for i in range(n))
        assert p[r] == pytest.approx(mcnemar(*(Cell(v, groups) for v in values)).p)
    z = np.abs(up - down) / np.sqrt(np.maximum(1, up + down))
    return (p <= 0.05).mean(), (z > 1.959964).mean()


@pytest.mark.parametrize(
    ("base", "d", "rho"),
    [(0.3, 0.1, 0.5), (0.3, 0.05, 0.6), (0.15, 0.1, 0.0), (0.7, 0.05, 0.0), (0.6, -0.06, 0.4)],
)
def test_simulated_power_of_mcnemars_test(base, d, rho):
    n = prompts_needed(Design(base, correlation=rho), d)
    exact, large = simulated_mcnemar(base, d, rho, n)
    assert exact == pytest.approx(0.8, abs=0.03)
    assert large == pytest.approx(0.8, abs=0.03)
    assert exact < 0.8 < large + 0.005


@pytest.mark.parametrize(("base", "d", "rho"), [(0.6, -0.08, 0.7), (0.1, 0.1, 0.65)])
def test_where_nearly_all_changes_go_one_way_the_number_is_cautious(base, d, rho):
    """As documented; in the second case no prompt changes back at all."""
    n = prompts_needed(Design(base, correlation=rho), d)
    exact, large = simulated_mcnemar(base, d, rho, n)
    assert 0.76 <= exact <= 0.82
    assert 0.8 <= large <= 0.93


@pytest.mark.parametrize(("base", "d"), [(0.5, 0.1), (0.1, 0.1), (0.8, -0.15)])
def test_simulated_power_of_independent_rates(base, d):
    n = prompts_needed(Design(base, paired=False), d)
    rng = np.random.default_rng(1)
    a, b = rng.binomial(n, base, RUNS) / n, rng.binomial(n, base + d, RUNS) / n
    middle = (a + b) / 2
    z = np.abs(b - a) / np.sqrt(2 * middle * (1 - middle) / n)
    assert (z > 1.959964).mean() == pytest.approx(0.8, abs=0.03)


def test_simulated_power_of_the_bootstrap():
    base, d, rho, runs = 0.4, 0.08, 0.5, 1500
    n = prompts_needed(Design(base, correlation=rho), d)
    a, b = pairs(np.random.default_rng(2), (runs, n), base, base + d, rho)
    groups = tuple(str(i) for i in range(n))
    resamples = Resamples.draw(groups, n=1000, seed=0)
    changes = resamples.of([Cell(y - x, groups) for x, y in zip(a, b)])
    shown = np.mean([paired_estimate(part).p <= 0.05 for part in changes])
    assert shown == pytest.approx(0.8, abs=0.03)


def test_simulated_power_of_selectivity_and_of_a_mean_over_languages():
    """4 languages; prompts share a latent normal, whose correlation of differences is measured."""
    rng = np.random.default_rng(3)
    base, d, harmless, languages = 0.5, 0.08, 0.2, 4

    def differences(shape, p, q):
        shared = rng.standard_normal((*shape, 1))
        noise = rng.standard_normal((2, *shape, languages))
        latent = math.sqrt(0.4) * shared + math.sqrt(0.6) * noise
        cut = scipy_stats.norm.ppf([p, q])
        return (latent[1] < cut[1]).astype(float) - (latent[0] < cut[0])

    large = differences((200_000,), base, base + d)
    icc = np.corrcoef(large.T)[~np.eye(languages, dtype=bool)].mean()
    psi = np.abs(large).mean()
    design = Design(base, discordance=psi, languages=languages, icc=max(0.0, icc))
    n = prompts_needed(design, d)
    means = differences((RUNS, n), base, base + d).mean(2)
    z = np.abs(means.mean(1)) / (means.std(1, ddof=1) / math.sqrt(n))
    assert (z > 1.959964).mean() == pytest.approx(0.8, abs=0.03)

    design = Design(base, correlation=0.3, harmless=harmless)
    n = prompts_needed(design, d)
    a, b = pairs(rng, (RUNS, n), base, base + d, 0.3)
    quiet_a, quiet_b = pairs(rng, (RUNS, n), harmless, harmless, 0.3)
    change_of = (b - a) - (quiet_b - quiet_a)
    z = np.abs(change_of.mean(1)) / (change_of.std(1, ddof=1) / math.sqrt(n))
    assert (z > 1.959964).mean() == pytest.approx(0.8, abs=0.03)


def test_holms_first_step_is_the_level_of_one_of_many():
    assert Design(0.5, comparisons=20).level == pytest.approx(0.0025)
    one, many = Design(0.5), Design(0.5, comparisons=20)
    ratio = prompts_needed(many, 0.1) / prompts_needed(one, 0.1)
    z = scipy_stats.norm.isf
    assert ratio == pytest.approx(((z(0.00125) + z(0.2)) / (z(0.025) + z(0.2))) ** 2, rel=0.02)


def test_selectivity_adds_the_noise_of_the_harmless_class():
    """Selectivity needs the harmless class too: its variance adds to the harmful one's."""
    plain, both = Design(0.5), Design(0.5, harmless=0.5)
    assert prompts_needed(both, 0.1) == pytest.approx(2 * prompts_needed(plain, 0.1), rel=0.02)
