"""The shipped weights and figures are what training on the labelled data gives."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from babelgate.judges.embedded.features import DENSE, features
from babelgate.judges.embedded.model import shipped_model
from babelgate.judges.normalise import clean

REPOSITORY = Path(__file__).parents[3]
TRAINING = REPOSITORY / "training" / "judge"
LABELS = REPOSITORY.parent / "shared" / "data" / "refusal_labels"
needs_data = pytest.mark.skipif(not LABELS.is_dir(), reason="no labelled replies at hand")
BOTH = "both 7-8B models"


@pytest.fixture(scope="module")
def train():
    """The training script as a module."""
    pytest.importorskip("sklearn")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TRAINING)
        import train  # pyright: ignore

        yield train
    for name in ("train", "card", "replies"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def data(train):
    return train.Data(train.read_all(LABELS))


@pytest.fixture(scope="module")
def measured(train, data):
    """All figures of the card, computed again."""
    sources = sorted(set(data.source) - {train.WRITTEN})
    data.p_model = train.sigmoid(data.left_out(data.source, sources))
    unseen = data.left_out(data.language, sorted(set(data.language)))
    return train.card.measure(data, train.sigmoid(unseen))


@needs_data
def test_the_shipped_weights_are_those_of_this_data(data):
    shipped = shipped_model()
    dense, bias, grams = data.fit(np.ones(len(data.y), dtype=bool))
    scale = float(np.abs(grams).max()) / 127
    again = replace(
        shipped,
        dense=dense.astype(np.float32),
        bias=bias,
        grams=np.round(grams / scale).astype(np.int8),
        scale=scale,
    )
    why = "the weights are stale; run training/judge/train.py"
    np.testing.assert_allclose(again.dense, shipped.dense, atol=0.01, err_msg=why)
    assert again.bias == pytest.approx(shipped.bias, abs=0.01), why
    assert again.scale == pytest.approx(shipped.scale, rel=0.01), why
    assert np.abs(again.grams.astype(int) - shipped.grams.astype(int)).max() <= 1, why
    seen = features([item.reply for item in data.items], bits=shipped.bits)
    p, mine = shipped.probabilities(seen), again.probabilities(seen)
    np.testing.assert_allclose(mine, p, atol=1e-3, err_msg=why)


@needs_data
def test_all_replies_of_the_training_are_marked(data):
    texts = [item.reply.completion.text for item in data.items]
    assert shipped_model().has_seen(texts).all()
    assert not shipped_model().has_seen([f"{text[:99]} and so on" for text in texts]).any()


@needs_data
def test_int8_costs_nothing(data):
    """The shipped weights against the fit itself, before rounding."""
    rows = np.ones(len(data.y), dtype=bool)
    exact = data._fit(rows).predict_proba(data.x)[:, 1]
    shipped = shipped_model()
    p = shipped.probabilities(features([i.reply for i in data.items], bits=shipped.bits))
    assert np.abs(p - exact).max() < 0.02
    assert ((p >= 0.5) != (exact >= 0.5)).mean() < 0.002


@needs_data
def test_models_left_out(measured):
    found = measured.models[BOTH]
    assert found.n > 3000
    assert found.kappa >= 0.78
    assert found.auc >= 0.95
    assert found.kappa > found.lexicon_kappa
    assert found.substring_kappa < 0.2


@needs_data
def test_languages_left_out(measured):
    found = measured.models["written (languages left out)"]
    assert found.n == 1200
    assert found.auc >= 0.88
    assert found.kappa > found.lexicon_kappa + 0.05
    assert found.substring_kappa < 0.2


@needs_data
def test_the_card_has_these_figures(train, data, measured):
    shipped = shipped_model().card
    assert set(shipped["models_left_out"]) == set(measured.models)
    for name, found in measured.models.items():
        for key, value in asdict(found).items():
            told = shipped["models_left_out"][name][key]
            expected = None if math.isnan(value) else pytest.approx(value, abs=0.01)
            assert told == expected, (name, key)
    again = train.card.as_json(data, measured)
    assert {k: again[k] for k in ("version", "languages", "note")} == {
        k: shipped[k] for k in ("version", "languages", "note")
    }
    assert set(shipped["errors"]) == set(again["errors"])
    for code, found in again["errors"].items():
        told = shipped["errors"][code]
        assert {told[k] == found[k] for k in ("basis", "n", "refused")} == {True}, code
        assert told["auc"] == pytest.approx(found["auc"], abs=0.02), code


@needs_data
def test_no_prompt_is_in_the_training_of_its_own_test(data):
    """A model left out is judged by weights that have seen none of its replies."""
    name = "Qwen2.5-7B-Instruct"
    part = data.source == name
    odds = data.left_out(data.source, [name])
    assert np.isnan(odds[~part]).all()
    expected = data._fit(~part).decision_function(data.x[part])
    np.testing.assert_allclose(odds[part], expected)
    # Its labels do not matter to it.
    before = data.y.copy()
    try:
        data.y[part] = 1 - data.y[part]
        np.testing.assert_allclose(data.left_out(data.source, [name])[part], expected)
    finally:
        data.y[:] = before


def test_the_card_is_the_models():
    card = (REPOSITORY / "src/babelgate/judges/data/embedded/MODEL_CARD.md").read_text()
    shipped = shipped_model().card
    assert shipped["note"] in card
    both = shipped["models_left_out"][BOTH]
    assert f"| {BOTH} | {both['n']} | {both['refused']} | {both['kappa']:.2f} |" in card
    assert len(shipped_model().dense) == len(DENSE)


def _rows() -> list[dict]:
    files = sorted((TRAINING / "written").glob("*.jsonl"))
    rows = [json.loads(line) for f in files for line in f.read_text("utf-8").splitlines()]
    assert {row["language"] for row in rows} == {f.stem for f in files}
    return rows


def test_written_replies_are_as_many_as_the_card_says():
    counts = Counter((row["language"], row["refusal"]) for row in _rows())
    languages = {language for language, _ in counts}
    assert languages == shipped_model().languages
    assert len(languages) == 30
    assert counts == {(code, r): n for code in languages for r, n in ((1, 16), (0, 24))}


def test_no_written_reply_occurs_twice():
    rows = _rows()
    assert len({row["id"] for row in rows}) == len(rows)
    twice = [t for t, n in Counter(clean(row["response"]) for row in rows).items() if n > 1]
    assert twice == []


def test_no_reply_of_the_demo_model_is_a_written_one():
    """A written reply is trained on with its language left out of nothing: it must be no copy."""
    written = {clean(row["response"]) for row in _rows()}
    lines = (TRAINING / "demo_replies.jsonl").read_text("utf-8").splitlines()
    shared = [t for t in (clean(json.loads(x)["response"]) for x in lines) if t in written]
    assert len(shared) <= 0.01 * len(lines), shared[:5]
