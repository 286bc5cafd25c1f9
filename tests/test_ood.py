"""Out of distribution: what a gate has seen, categories, forms, unknown languages."""

import math
from dataclasses import replace

import numpy as np
import pytest

from babelgate.errors import PromptError, UserError
from babelgate.ood import (
    by_category,
    by_form,
    language_unknown,
    seen_by,
    unseen_set,
)
from babelgate.stats import Cell, wilson
from babelgate.types import Prompt, PromptSet


def prompt(number, language="en", label="harmful", split="test", **fields) -> Prompt:
    values = {"text": f"{label} request {number * 7919} about topic {number} in {language}"}
    return Prompt(
        id=f"{label}-{split}-{number}", language=language, label=label, split=split,
        **(values | fields),
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------
# prompts that a gate has not seen


def test_what_a_gate_has_seen():
    known = [
        prompt(0, "en", split="train"),
        prompt(1, "en", split="train"),
        prompt(2, "en", split="val"),
        prompt(3, "sw", split="train"),
        prompt(4, "sw", split="val"),
        prompt(5, "en", split="test"),
    ]
    provenance = {
        "fitted_on": ["en/harmful-train-0"],
        "shots": ["sw/harmful-train-3"],
        "roles": {"en": "source", "sw": "target"},
    }
    assert [p.key for p in seen_by(provenance, known)] == [
        "en/harmful-train-0",
        "en/harmful-val-2",  # layers and thresholds were chosen on it
        "sw/harmful-train-3",
    ]
    with pytest.raises(PromptError, match="'sw/harmful-train-3'"):
        seen_by(provenance, known[:3])
    assert seen_by({}, known) == []


LONG = "Please explain to me in plain words how one should {} without being noticed by anybody"


def test_every_way_of_being_seen_is_dropped_and_counted():
    seen = [
        prompt(0, split="train", text=LONG.format("copy a key")),
        prompt(1, "sw", split="train", group_id="shared"),
        prompt(2, split="train", text="Something entirely different altogether"),
    ]
    own = [
        prompt(10, text=LONG.format("COPY  a key"), group_id="exact"),
        prompt(10, "sw", group_id="exact"),
        prompt(11, text=LONG.format("copy a lock"), group_id="near"),
        prompt(12, "sw", group_id="shared"),
        prompt(13, text="The very same words"),
        prompt(14, text="The very same words"),
        prompt(15),
        prompt(16, "sw"),
        prompt(17, "de"),
        replace(seen[2], split="test"),
    ]
    other = [
        prompt(20, label="harmless"),
        prompt(21, "sw", label="harmless"),
        prompt(22, label="harmless", split="train"),
        prompt(23, label="harmful"),
    ]
    found = unseen_set(PromptSet("a", tuple(own)), PromptSet("b", tuple(other)), seen)
    assert [p.key for p in found.prompts] == [
        "en/harmful-test-13", "en/harmful-test-15", "sw/harmful-test-16",
        "en/harmless-test-20", "sw/harmless-test-21",
    ]  # fmt: skip
    assert found.prompts.name == "a+b"
    counts = {(d.language, d.label, d.reason): d.n for d in found.dropped}
    assert counts == {
        ("en", "harmful", "repeats a seen prompt"): 1,
        ("sw", "harmful", "its translation was seen or is left out"): 2,
        ("en", "harmful", "nearly repeats a seen prompt"): 1,
        ("en", "harmful", "repeats another prompt of the set"): 1,
        ("en", "harmful", "was seen by the gate"): 1,
        ("de", "harmful", "its language has no harmless prompts"): 1,
    }


def test_what_only_english_shows_goes_although_english_is_not_asked_for():
    seen = [prompt(0, split="train", text="How to copy a key")]
    own = [prompt(10, text="How to copy a key", group_id="g"), prompt(10, "sw", group_id="g"),
           prompt(11, "sw")]  # fmt: skip
    other = PromptSet("b", (prompt(20, "sw", label="harmless"),))
    found = unseen_set(PromptSet("a", tuple(own)), other, seen, languages=["sw"])
    assert [p.key for p in found.prompts] == ["sw/harmful-test-11", "sw/harmless-test-20"]
    with pytest.raises(PromptError, match="none of the languages en"):
        unseen_set(PromptSet("a", tuple(own)), other, seen, languages=["en"])


# ---------------------------------------------------------------------------------------------
# categories


def test_categories_by_hand():
    pool = [prompt(i, category="Fraud" if i < 12 else "Fraud; Theft") for i in range(15)]
    pool += [prompt(i, label="harmless", category=None) for i in range(20, 24)]
    values = np.array([1.0] * 9 + [0.0] * 5 + [math.nan] + [1.0] * 4)
    rows = {(r.category, r.language): r for r in by_category(pool, values)}
    assert set(rows) == {("Fraud", "en"), ("Theft", "en")}  # one language: nothing to pool
    fraud, theft = rows["Fraud", "en"], rows["Theft", "en"]
    assert (fraud.rate.n, fraud.rate.n_unscored, fraud.few) == (14, 1, False)
    assert fraud.rate == wilson(Cell(values[:15], tuple(p.group_id for p in pool[:15])))
    assert (theft.rate.value, theft.rate.n, theft.few) == (0.0, 2, True)


def test_translations_do_not_make_a_category_large():
    pool = [
        prompt(i, language, category="Fraud", group_id=f"g{i}")
        for i in range(6)
        for language in ("en", "sw")
    ]
    rows = {r.language: r for r in by_category(pool, [1, 0] * 6)}
    assert (rows["all"].rate.n, rows["all"].rate.n_groups, rows["all"].few) == (12, 6, True)
    assert rows["all"].rate.value == 0.5
    assert (rows["en"].rate.value, rows["sw"].rate.value) == (1.0, 0.0)
    # Groups are resampled whole, and every group has the rate 1/2.
    assert rows["all"].rate.low == rows["all"].rate.high == 0.5


def test_wrong_outcomes_are_refused():
    with pytest.raises(UserError, match="2 prompts came with 1 values"):
        by_category([prompt(0), prompt(1)], [1])
    with pytest.raises(UserError, match="1 .fired or refused."):
        by_form([prompt(0)], [0.7])


# ---------------------------------------------------------------------------------------------
# forms


def formed(number, form, label, language="en"):
    name = f"{number}" if form == "plain" else f"{number}~{form}"
    return Prompt(
        id=f"{label}{name}", language=language, text=f"{label} {name}", label=label, split="test",
        group_id=f"{label}{number}", extra={"form": form},
    )  # fmt: skip


def test_a_form_is_compared_with_the_plain_prompts_that_it_has():
    pool, fired = [], []
    for i in range(20):
        for label in ("harmful", "harmless"):
            pool.append(formed(i, "plain", label))
            # The plain gate is perfect on the first ten groups and useless on the others.
            fired.append(float(label == "harmful") if i < 10 else 1.0)
            if i < 10:
                pool.append(formed(i, "framed-story", label))
                fired.append(float(label == "harmful" and i < 5))
    # Scores that the frame lowers below any threshold but keeps in order.
    scores = [p.harmful - 5.0 * (p.extra["form"] != "plain") for p in pool]
    plain, story = by_form(pool, fired, scores=scores)
    assert (plain.auroc, story.auroc) == (1.0, 1.0)
    assert math.isnan(by_form(pool, fired)[1].auroc)
    assert (plain.form, plain.loss) == ("plain", None)
    assert plain.selectivity.value == pytest.approx(0.5)
    assert (story.fired_harmful.value, story.fired_harmless.value) == (0.5, 0.0)
    # 1.0 on the same ten groups, and not the plain form's 0.5 on all twenty.
    assert story.loss is not None
    assert story.loss.delta == pytest.approx(1.0 - 0.5)
    assert story.loss.n == 20
    assert 0.1 < story.loss.low < 0.5 < story.loss.high < 0.9


def test_a_form_without_a_plain_one_has_no_loss():
    (row,) = by_form([formed(0, "framed-story", "harmful")], [1])
    assert row.loss is None
    assert row.fired_harmless.missing


# ---------------------------------------------------------------------------------------------
# language unknown


def slow_shares(pool, scores, picked):
    """Shares fired per language and label, one prompt at a time; ``picked`` gives thresholds."""
    found = {}
    for language in dict.fromkeys(p.language for p in pool):
        for label in ("harmful", "harmless"):
            fired = [
                scores[i] >= picked(p, i)
                for i, p in enumerate(pool)
                if (p.language, p.label) == (language, label) and not math.isnan(scores[i])
            ]
            found[language, label] = sum(fired) / len(fired)
    return found


def drawn(seed):
    rng = np.random.default_rng(seed)
    pool = [
        prompt(i, language, label, group_id=f"{label}{i}")
        for language in ("ar", "ko", "yo", "ba")
        for label in ("harmful", "harmless")
        for i in range(40)
    ]
    shift = {"ar": 0.0, "ko": 1.0, "yo": -1.0, "ba": 0.3}
    scores = np.array([shift[p.language] + 1.5 * p.harmful + rng.normal() for p in pool])
    scores[rng.permutation(len(pool))[:9]] = math.nan
    others = ["ar", "ko", "yo", "fr", None]
    identified = [
        p.language if rng.random() < 0.8 else others[rng.integers(len(others))] for p in pool
    ]
    return pool, scores, identified


@pytest.mark.parametrize("seed", range(3))
def test_policies_against_loops(seed):
    pool, scores, identified = drawn(seed)
    thresholds, default = {"ar": 0.75, "ko": 1.75, "yo": -0.25}, 0.6
    found = language_unknown(pool, scores, identified, thresholds, default)
    rows = {(r.language, r.policy): r for r in found.rows}
    assert len(rows) == 16

    expected = {
        "stated": slow_shares(pool, scores, lambda p, i: thresholds.get(p.language, default)),
        "identified": slow_shares(
            pool, scores, lambda p, i: thresholds.get(identified[i] or "?", default)
        ),
        "default": slow_shares(pool, scores, lambda p, i: default),
        "worst": {},
    }
    for language in ("ar", "ko", "yo", "ba"):
        gaps = {}
        for code in thresholds:
            if code != language:
                shares = slow_shares(pool, scores, lambda p, i, code=code: thresholds[code])
                gaps[code] = shares[language, "harmful"] - shares[language, "harmless"], shares
        worst = min(gaps, key=lambda code: gaps[code][0])
        assert rows[language, "worst"].threshold_of == worst
        expected["worst"] |= {k: v for k, v in gaps[worst][1].items() if k[0] == language}
    for (language, policy), row in rows.items():
        shares = expected[policy]
        assert row.fired_harmful.value == pytest.approx(shares[language, "harmful"])
        assert row.fired_harmless.value == pytest.approx(shares[language, "harmless"])
        gap = shares[language, "harmful"] - shares[language, "harmless"]
        assert row.selectivity.value == pytest.approx(gap)
        if policy == "stated":
            assert row.loss is None
        else:
            stated = expected["stated"]
            before = stated[language, "harmful"] - stated[language, "harmless"]
            assert row.loss.delta == pytest.approx(before - gap)
            assert row.loss.low <= row.loss.delta <= row.loss.high
            assert row.loss.n == row.fired_harmful.n + row.fired_harmless.n
    for row in found.overall:
        of_policy = [rows[language, row.policy] for language in ("ar", "ko", "yo", "ba")]
        assert row.selectivity.value == pytest.approx(
            np.mean([r.selectivity.value for r in of_policy])
        )
        if row.loss is not None:
            assert row.loss.delta == pytest.approx(np.mean([r.loss.delta for r in of_policy]))


def test_identification_that_is_never_wrong_costs_nothing_and_confusion_counts():
    pool, scores, identified = drawn(5)
    thresholds = {"ar": 0.75, "ko": 1.75, "yo": -0.25}
    right = language_unknown(pool, scores, [p.language for p in pool], thresholds, 0.6)
    for row in (*right.rows, *right.overall):
        if row.policy == "identified":
            assert (row.loss.delta, row.loss.low, row.loss.high) == (0, 0, 0)
    assert right.confusion["ko"] == {"ko": 80}
    guessed = language_unknown(pool, scores, identified, thresholds, 0.6).confusion
    assert sum(guessed["ko"].values()) == 80
    assert guessed["ko"]["unsure"] == sum(
        identified[i] is None for i, p in enumerate(pool) if p.language == "ko"
    )


def test_the_comparison_is_at_least():
    """A score equal to the threshold fires, as everywhere."""
    pool = [prompt(0, "ar"), prompt(1, "ar", "harmless")]
    found = language_unknown(pool, [0.5, 0.4], ["ar", "ar"], {"ar": 0.5}, 9.0)
    stated = found.rows[0]
    assert (stated.fired_harmful.value, stated.fired_harmless.value) == (1.0, 0.0)


def test_without_another_language_there_is_no_worst_one():
    pool = [prompt(0, "ar"), prompt(1, "ar", "harmless")]
    found = language_unknown(pool, [0.5, 0.4], ["ar", None], {"ar": 0.45}, 9.0)
    worst = {r.policy: r for r in found.rows}["worst"]
    assert worst.threshold_of is None
    assert worst.fired_harmful.missing
    assert math.isnan(worst.loss.delta)
    assert {r.policy: r for r in found.overall}["worst"].loss is None


def test_what_does_not_fit_is_named():
    pool = [prompt(0, "ar"), prompt(1, "ar", "harmless")]
    with pytest.raises(UserError, match="2 prompts came with 1 scores"):
        language_unknown(pool, [1.0], ["ar", "ar"], {}, 0.0)
    with pytest.raises(UserError, match="'ar' needs harmful and harmless"):
        language_unknown(pool[:1], [1.0], ["ar"], {}, 0.0)
