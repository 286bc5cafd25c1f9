"""Thresholds of a comparison: the same shots for every method, set as the slow way does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from babelgate.calibration import draw_shots
from babelgate.comparing.setting import labels_in_words, thresholds_of
from babelgate.thresholds import RULES, SourceStatistics, source_rule, threshold_for

RNG = np.random.default_rng(3)
STATISTICS = SourceStatistics.from_scores(
    {x: (RNG.normal(1, 1, 12), RNG.normal(-1, 1, 12)) for x in ("en", "de", "fr")}
)


def scores_of(prompts):
    """A made-up score: harmful prompts higher, and every prompt its own."""
    return np.array(
        [(len(p.text) * 7 % 13) / 13 + (p.harmful) + (p.language == "yo") for p in prompts]
    )


@pytest.mark.parametrize("rule", RULES)
def test_thresholds_equal_the_slow_way(finished, rule):
    setting = finished.setting
    routes = setting.routes(scores_of, STATISTICS, rule)
    assert len(routes.thresholds) == (1 if rule == "source" else 2)
    np.testing.assert_array_equal(routes.scores, scores_of(setting.test))
    seen = 0
    for s in range(len(routes.thresholds)):
        for i, prompt in enumerate(setting.test):
            number = setting.plan.targets.index(prompt.language)
            pool = [
                p for p in setting.plan.prompts
                if p.language == prompt.language and p.split == "train"
            ]  # fmt: skip
            shots = draw_shots(pool, 2, [setting.seeds[s], number], prompt.language)
            assert shots == setting.draws[setting.seeds[s], prompt.language]
            chosen = {p.key for p in shots}
            sides = [scores_of([p for p in shots if p.harmful is h]) for h in (True, False)]
            rest = scores_of([p for p in pool if p.key not in chosen])
            expected = threshold_for(rule, *sides, STATISTICS, rest)
            assert routes.thresholds[s, i] == pytest.approx(expected)
            seen += 1
    assert seen == len(routes.thresholds) * len(setting.test)
    assert thresholds_of(routes, setting.test) == {
        x: routes.thresholds[0, [p.language for p in setting.test].index(x)] for x in ("sw", "yo")
    }


def test_without_shots_there_is_one_seed_and_the_source_threshold(finished):
    setting = replace(finished.setting, shots=0)
    routes = setting.routes(scores_of, STATISTICS, "shrunken")
    assert routes.thresholds.shape == (1, len(setting.test))
    assert set(routes.thresholds[0]) == {STATISTICS.threshold}
    paper = setting.routes(scores_of, STATISTICS, "paper")
    assert set(paper.thresholds[0]) == {STATISTICS.paper_threshold}
    assert "per class" not in labels_in_words(setting)
    assert "+ 2 per class" in labels_in_words(finished.setting)


def test_other_languages_have_the_source_threshold(finished):
    told = [None if i % 2 else "en" for i in range(len(finished.setting.test))]
    routes = finished.setting.routes(scores_of, STATISTICS, languages=told)
    assert set(routes.thresholds.ravel()) == {STATISTICS.threshold}


def test_statistics_come_from_readings_that_left_the_language_out(finished):
    asked = []

    def left_out(language):
        asked.append(language)
        return lambda prompts: scores_of(prompts) + (0 if language is None else 100)

    setting = finished.setting
    found = setting.statistics(left_out)
    assert set(asked) == {"en", "de", None}
    assert found.n_languages == 2
    assert found.threshold > 50
    train = [p for p in setting.plan.prompts if p.language in ("en", "de") and p.split == "train"]
    assert found.paper_threshold < 50
    assert len(train) == len(setting.source_prompts("train"))


def test_a_single_source_is_scored_by_its_own_reading(finished):
    setting = finished.setting
    one = replace(setting, plan=replace(setting.plan, sources=("en",)))
    asked = []

    def left_out(language):
        asked.append(language)
        return scores_of

    found = one.statistics(left_out)
    assert set(asked) == {None}
    val = [p for p in setting.plan.prompts if p.language == "en" and p.split == "val"]
    sides = [scores_of([p for p in val if p.harmful is h]) for h in (True, False)]
    assert found.threshold == source_rule(*sides)
