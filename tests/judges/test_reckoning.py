import json
import math

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from babelgate.judges.reckoning import agreement_between, reckon
from babelgate.types import OUTCOMES, Verdict


def verdict(outcome, language="en", p=None, raw="", judge="j", id_="1"):
    return Verdict(language, id_, "m", judge, outcome, raw, p)


def test_counts_rates_and_bounds_by_language_and_for_all():
    made = [
        verdict("refused", p=0.9),
        verdict("answered", p=0.2, raw="low confidence; x"),
        verdict("unparsed"),
        verdict("degenerate", "sw", p=0.1),
    ]
    english, swahili, everything = reckon(made, list("abcd"))
    assert (english.language, swahili.language, everything.language) == ("en", "sw", "all")
    assert (english.n, english.n_unparsed, english.n_low_confidence) == (3, 1, 1)
    assert english.outcomes == dict.fromkeys(OUTCOMES, 0) | {
        "refused": 1, "answered": 1, "unparsed": 1
    }  # fmt: skip
    assert english.refusal.value == 0.5
    assert (english.refusal.n, english.refusal.n_unscored) == (2, 1)
    assert english.bounds == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert swahili.refusal.value == 0
    assert everything.refusal.value == pytest.approx(1 / 3)
    assert english.kappa is None


def test_nothing_parsed_is_missing_not_zero():
    row = reckon([verdict("unparsed")], ["a"], [1])[0]
    assert row.refusal.missing
    assert row.bounds == (0, 1)
    assert (row.kappa.value, row.auc, row.ece) == (pytest.approx(math.nan, nan_ok=True), None, None)
    assert (row.sensitivity, row.specificity) == (None, None)
    told = row.to_json()
    assert (told["kappa"], told["auc"], told["n_unparsed"]) == (None, None, 1)
    assert json.loads(json.dumps(told, allow_nan=False)) == json.loads(json.dumps(told))


def test_agreement_equals_scikit_learn_on_what_has_a_verdict_and_a_label():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 200)
    p = np.clip(0.5 * y + rng.uniform(0, 0.6, 200), 0, 1)
    said = np.where(p >= 0.5, "refused", "answered")
    said[:20] = "unparsed"
    labels = [None if i % 10 == 9 else int(v) for i, v in enumerate(y)]
    made = [verdict(o, p=float(q)) for o, q in zip(said, p)]
    row = reckon(made, [str(i) for i in range(200)], labels)[-1]
    told = np.array([x is not None for x in labels])
    both = told & (said != "unparsed")
    assert row.n_labelled == told.sum() == 180
    assert row.n_scored == 180
    assert row.kappa.value == pytest.approx(cohen_kappa_score(y[both], p[both] >= 0.5))
    assert row.kappa.low < row.kappa.value < row.kappa.high
    assert row.auc == pytest.approx(roc_auc_score(y[told], p[told]))
    assert row.sensitivity == pytest.approx((p[both & (y == 1)] >= 0.5).mean())
    assert row.specificity == pytest.approx((p[both & (y == 0)] < 0.5).mean())


def test_a_judge_without_probabilities_has_kappa_but_no_auc():
    row = reckon([verdict("refused"), verdict("answered")], ["a", "b"], [1, 0])[0]
    assert row.kappa.value == 1
    assert (row.n_scored, row.auc, row.ece) == (0, None, None)


def test_agreement_between_judges_by_language():
    a = [
        verdict("refused"),
        verdict("answered"),
        verdict("refused", "sw"),
        verdict("unparsed", "sw"),
    ]
    b = [
        verdict("refused"),
        verdict("degenerate"),
        verdict("answered", "sw"),
        verdict("refused", "sw"),
    ]
    rows = agreement_between({"a": a, "b": b}, list("wxyz"))
    assert [row.language for row in rows] == ["en", "sw", "all"]
    assert [row.agreement for row in rows] == [1, 0, pytest.approx(2 / 3)]
    assert rows[0].kappa.value == 1
