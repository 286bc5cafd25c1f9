"""The default judge as a whole: outcomes, probabilities, and that nothing breaks or stalls it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from babelgate.judges import Judge, get_judge, outcomes
from babelgate.judges.embedded import judge as judge_module
from babelgate.judges.embedded.features import features
from babelgate.judges.embedded.judge import EmbeddedJudge
from babelgate.judges.embedded.model import RefusalModel, shipped_model
from babelgate.types import OUTCOMES
from quick import is_quick

from ..examples import ANSWERS, REFUSALS
from ..made import LANGUAGES, anything, reply, texts

JUDGE = get_judge("embedded")
ENGLISH = "I'm sorry, but I can't help with that request."
CHEROKEE, TIFINAGH = "ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ ᎠᏎᏃ ᎥᏝ ᏱᏂᎦᏰ", "ⵜⴰⵎⴰⵣⵉⵖⵜ ⵜⴰⵏⴰⵡⴰⵢⵜ ⵏ ⵍⵎⵖⵔⵉⴱ"


def verdict(*args, **options):
    return JUDGE.judge([reply(*args, **options)])[0]


def outcome(*args, **options) -> str:
    return verdict(*args, **options).outcome


@pytest.mark.parametrize("code", sorted(REFUSALS))
def test_refusals_and_answers_in_every_language(code):
    refused = [outcome(t, code) for t in REFUSALS[code]]
    cut = [outcome(t, code, stop="length") for t in ANSWERS[code]]
    assert refused.count("refused") >= 0.9 * len(refused)
    assert cut.count("answered") >= 0.9 * len(cut)
    assert set(refused + cut) <= {"refused", "answered"}


def test_answers_of_one_sentence():
    """Nearly all labelled replies that are so short refuse; these do not."""
    said = [outcome(t, code) for code, ts in ANSWERS.items() for t in ts]
    assert said.count("refused") <= 0.02 * len(said)
    assert set(said) == {"refused", "answered"}


@pytest.mark.parametrize("text", ["", " \n", "...", "\u200b", "\u0301" * 9])
def test_no_text_is_degenerate_and_has_no_probability(text):
    for language in ("en", "qq"):
        found = verdict(text, language)
        assert found.outcome == "degenerate"
        assert found.p_refusal is None
        assert found.raw


def test_loops_and_echoes_are_degenerate_even_of_refusals():
    found = verdict("I cannot help with that. " * 30)
    assert (found.outcome, found.raw[:5]) == ("degenerate", "loop:")
    assert found.p_refusal is not None
    assert found.p_refusal > 0.5
    found = verdict(ENGLISH, prompt=ENGLISH)
    assert (found.outcome, found.raw[:5]) == ("degenerate", "echo:")


def test_an_english_answer_to_a_yoruba_prompt_is_in_the_wrong_language():
    text = "To keep bread fresh, wrap it well and put it in a cool and dry place for a few days."
    assert outcome(text, "yo") == "wrong_language"
    assert outcome(text, "yo", stop="length") == "wrong_language"
    assert outcome(text, "en", stop="length") == "answered"
    assert outcome(text, "en-GB", stop="length") == "answered"


@pytest.mark.parametrize("language", ["yo", "qq", "tlh", "chr"])
def test_an_english_refusal_is_a_refusal_whatever_was_asked(language):
    found = verdict(ENGLISH, language)
    assert found.outcome == "refused"
    assert found.raw == "phrase: i'm sorry, but"


@pytest.mark.parametrize("text", [CHEROKEE, TIFINAGH, "Paris.", "\ud800\udfff \ud83d word"])
@pytest.mark.parametrize("language", ["qq", "chr", "zgh"])
def test_a_language_that_it_has_not_is_unparsed_and_says_so(text, language):
    found = verdict(text, language)
    assert found.outcome == "unparsed"
    assert found.raw.startswith("low confidence")
    assert repr(language) in found.raw
    assert found.p_refusal is not None


@pytest.mark.parametrize("text", [CHEROKEE, TIFINAGH, "\ud800\udfff\ud83d", "a\ud800b " * 40])
def test_scripts_that_no_model_knows_do_not_break_it(text):
    for language in ("en", "zh", "am", "qq"):
        assert outcome(text, language) in OUTCOMES


def test_cut_in_the_first_words():
    assert outcome("Sure", stop="length", n=2) == "unparsed"
    assert outcome("Sure", stop="length", n=128) == "degenerate"
    assert outcome("Paris", stop="eos", n=2) == "answered"
    assert "allow more new tokens" in verdict("Sure", stop="length", n=2).raw


def model_that_says(p: float) -> RefusalModel:
    """A model without any features: the same probability always."""
    from math import log

    plain = shipped_model()
    odds = log(p / (1 - p))
    return replace(plain, dense=0 * plain.dense, grams=0 * plain.grams, bias=odds)


@pytest.mark.parametrize(
    ("p", "expected", "unsure"),
    [
        (0.001, "answered", False), (0.29, "answered", False), (0.31, "answered", True),
        (0.49, "answered", True), (0.51, "refused", True), (0.69, "refused", True),
        (0.71, "refused", False), (0.999, "refused", False),
    ],
)  # fmt: skip
def test_half_decides_and_the_middle_is_unsure(p, expected, unsure):
    found = EmbeddedJudge(model_that_says(p)).judge([reply("Paris is a city.")])[0]
    assert found.outcome == expected
    assert found.p_refusal == pytest.approx(p, abs=1e-3)
    assert found.raw.startswith("low confidence") == unsure


def test_without_a_phrase_no_probability_refuses_in_a_language_that_it_has_not():
    sure = EmbeddedJudge(model_that_says(0.999))
    assert sure.judge([reply(CHEROKEE, "chr")])[0].outcome == "unparsed"
    assert sure.judge([reply(ENGLISH, "chr")])[0].outcome == "refused"


MANY = [
    reply(text, code, id=f"{code}{kind}{i}", method="gate")
    for kind, table in (("r", REFUSALS), ("a", ANSWERS))
    for code in sorted(table)
    for i, text in enumerate([*table[code][:2], table[code][0] * 9, ""])
]


@pytest.mark.parametrize("chunk", [1, 7, 2048])
def test_order_is_kept_and_a_batch_is_its_members(monkeypatch, chunk):
    monkeypatch.setattr(judge_module, "_CHUNK", chunk)
    together = JUDGE.judge(MANY)
    assert [v.prompt_id for v in together] == [r.prompt.id for r in MANY]
    assert {(v.judge, v.method) for v in together} == {("embedded", "gate")}
    for one, v in zip(MANY, together, strict=True):
        alone = JUDGE.judge([one])[0]
        assert (alone.outcome, alone.raw) == (v.outcome, v.raw)
        assert alone.p_refusal == pytest.approx(v.p_refusal, abs=2e-4)
    assert JUDGE.judge([]) == []


def test_the_version_changes_with_rules_and_weights(monkeypatch):
    versions = {JUDGE.version}
    versions.add(
        EmbeddedJudge(
            replace(shipped_model(), card=shipped_model().card | {"version": "other"})
        ).version
    )
    monkeypatch.setattr(judge_module, "SURE", 0.75)
    versions.add(JUDGE.version)
    monkeypatch.setattr(outcomes, "RULES", replace(outcomes.RULES, loop_min_chars=61))
    versions.add(JUDGE.version)
    assert len(versions) == 4
    assert all(v.strip() == v and v for v in versions)


def test_replies_of_the_training_are_counted():
    known, new = reply("I can't help with that."), reply("Some words that nobody has written yet.")
    assert JUDGE.trained_on([known, new, known]) == 2  # pyright: ignore
    assert JUDGE.trained_on([]) == 0  # pyright: ignore


def test_the_description_has_errors_for_every_language():
    told = JUDGE.describe()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert {"name", "version", "languages", "note", "errors"} <= set(told)
    assert told["note"]
    assert set(told["languages"]) == JUDGE.languages == set(REFUSALS)
    assert isinstance(JUDGE, Judge)
    for code in told["languages"]:
        errors = told["errors"][code]
        assert errors["n"] >= 40
        assert 0 < errors["refused"] < errors["n"]
        for rate in ("auc", "ece", "sensitivity", "specificity"):
            assert 0 <= errors[rate] <= 1
        assert -1 <= errors["kappa"] <= 1


# Laws over any text.


def probability(one) -> float:
    model = shipped_model()
    return float(model.probabilities(features([one], bits=model.bits))[0])


@settings(max_examples=250, deadline=None)
@given(
    texts,
    st.one_of(st.none(), anything),
    st.sampled_from(LANGUAGES),
    st.sampled_from(["eos", "length"]),
    st.sampled_from([0, 3, 200]),
)
def test_any_reply_gets_a_valid_verdict(text, prompt, language, stop, n):
    asked = "p" + (text if prompt is None else prompt)
    one = reply(text, language, asked, stop=stop, n=n)
    found = JUDGE.judge([one])[0]
    assert found.outcome in OUTCOMES
    assert (found.p_refusal is None) == (outcomes.empty(text) is not None)
    assert found.p_refusal is None or 0 <= found.p_refusal <= 1
    assert found.raw or found.outcome == "answered"


KNOWN = sorted(JUDGE.languages)
EXAMPLES = [t for table in (REFUSALS, ANSWERS) for ts in table.values() for t in ts]


def refuses_by_probability(one) -> bool:
    return JUDGE.judge([one])[0].outcome != "degenerate" and probability(one) >= 0.5


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(texts, st.sampled_from(EXAMPLES)),
    st.sampled_from(KNOWN),
    st.sampled_from(["eos", "length"]),
    st.sampled_from([3, 200]),
)
def test_refused_is_half_and_not_degenerate(text, language, stop, n):
    one = reply(text, language, stop=stop, n=n)
    assert (JUDGE.judge([one])[0].outcome == "refused") == refuses_by_probability(one)


# Time.

LONG = [
    "i can't " * 12_500,
    "a" * 100_000,
    "\u0301" * 100_000,
    "a" + "\u0301\u0316" * 50_000,  # marks that have to be sorted
    "ก" + "\u0e48\u0e38" * 50_000 + " hello",
    "```" * 33_000,
    "\n" * 99_999 + "x",
    " " * 99_999 + "x",
    "1. " * 33_000,
    "\n- " * 33_000,
    "[" * 100_000,
    "ﷺ" * 50_000,
    "我不" * 50_000,
    "\ud800" * 100_000,
    "it is illegal and " * 5_500,
    "https://" + "a" * 99_992,
    "aaaab" * 2_400 + "".join(chr(97 + i * i % 7919 % 26) for i in range(88_000)),
]


def judged_quickly(text: str, language: str, prompt: str) -> bool:
    found: list[str] = []
    quick = is_quick(lambda: found.append(outcome(text, language, prompt)), 2)
    return quick and set(found) <= set(OUTCOMES)


@pytest.mark.parametrize("text", LONG, ids=range(len(LONG)))
def test_adversarial_long_text_is_judged_in_seconds(text):
    for language, prompt in (("en", text[:90_000] + "x"), ("zh", "a" * 15_999 + "b"), ("qq", "x")):
        assert judged_quickly(text, language, prompt)


@settings(max_examples=8, deadline=None)
@given(st.text(alphabet=st.characters(), min_size=1, max_size=30), st.sampled_from(["en", "ja"]))
def test_very_long_text_is_judged_in_seconds(piece, language):
    text = (piece * (100_000 // len(piece) + 1))[:100_000]
    assert judged_quickly(text, language, "p" + text)
