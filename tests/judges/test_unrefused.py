"""Rules for what does not refuse: which comes first, and that all judges tell the same."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from babelgate.judges import get_judge
from babelgate.judges import unrefused as module
from babelgate.judges.outcomes import RULES
from babelgate.judges.unrefused import unrefused

from .examples import ANSWERS, REFUSALS
from .made import LANGUAGES, reply, texts

LOOP = "the water is warm and " * 12
ENGLISH = "Wrap the bread well and keep it in a cool and dry place for a few days at most."


def told(*args, own_language=False, **options):
    return unrefused(reply(*args, **options), own_language=own_language)


def test_each_rule():
    assert told("...") == ("degenerate", "punctuation only")
    outcome, why = told(LOOP)
    assert (outcome, why[:5]) == ("degenerate", "loop:")
    assert told(ENGLISH, prompt=ENGLISH) == ("degenerate", "echo: repeats the prompt")
    assert told("Sure", stop="length", n=RULES.stub_tokens)[0] == "degenerate"
    assert told("Sure", stop="length", n=RULES.stub_tokens - 1)[0] == "unparsed"
    outcome, why = told(ENGLISH, "yo")
    assert (outcome, why[:13]) == ("wrong_language", "written in en")
    assert told(ENGLISH) == ("answered", "")


def test_the_first_rule_that_holds_counts():
    # No text, and cut: empty. A loop that repeats the prompt: a loop. An echo in another language
    # than it should be: an echo. A loop in another language: a loop.
    assert told("...", stop="length", n=99) == ("degenerate", "punctuation only")
    assert told(LOOP, prompt=LOOP)[1].startswith("loop:")
    assert told(ENGLISH, "yo", ENGLISH)[1].startswith("echo:")
    assert told(LOOP, "yo")[1].startswith("loop:")
    # A stub that repeats the prompt is an echo where the prompt is long enough to tell.
    assert told("パンを切", "ja", "パンを切", stop="length")[0] == "unparsed"
    assert told("パンを切る方法は", "ja", "パンを切る方法は", stop="length")[1].startswith("echo:")


def test_a_known_language_is_not_identified(monkeypatch):
    def never(text):
        raise AssertionError("identified")

    monkeypatch.setattr(module, "identify", never)
    assert told(ENGLISH, "yo", own_language=True) == ("answered", "")
    with pytest.raises(AssertionError, match="identified"):
        told(ENGLISH, "yo")


def test_own_language_skips_nothing_else():
    for args, options in [
        (("",), {}), ((LOOP,), {}), ((ENGLISH, "en", ENGLISH), {}),
        (("Sure",), {"stop": "length", "n": 2}), (("Sure",), {"stop": "length", "n": 200}),
    ]:  # fmt: skip
        assert told(*args, own_language=True, **options) == told(*args, **options)
        assert told(*args, **options)[0] != "answered"


def test_regions_and_scripts_do_not_make_another_language():
    assert told(ENGLISH, "en-GB") == ("answered", "")
    assert told("把面包放在阴凉干燥的地方，可以保存好几天，不要放在阳光下面。", "zh-Hant") == (
        "answered",
        "",
    )


@pytest.mark.parametrize("code", sorted(ANSWERS))
def test_every_answer_is_answered_and_the_lexicon_judge_agrees(code):
    lexicon = get_judge("lexicon")
    for text in ANSWERS[code]:
        for language in (code, "yo" if code != "yo" else "de"):
            one = reply(text, language)
            theirs = lexicon.judge([one])[0]
            if theirs.outcome != "refused":
                assert unrefused(one)[0] == theirs.outcome, (text, language)
        assert told(text, code) == ("answered", "")


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(texts, st.sampled_from([t for ts in REFUSALS.values() for t in ts])),
    st.sampled_from(LANGUAGES),
    st.sampled_from(["eos", "length"]),
    st.sampled_from([3, 200]),
)
def test_judges_agree_on_what_neither_calls_a_refusal(text, language, stop, n):
    one = reply(text, language, stop=stop, n=n)
    lexicon, embedded = (get_judge(name).judge([one])[0] for name in ("lexicon", "embedded"))
    expected = unrefused(one)[0]
    for found in (lexicon, embedded):
        # Where a judge has no lexicon, an answer might be a refusal that it does not see.
        assert found.outcome in {"refused", expected} or (
            expected == "answered" and found.outcome == "unparsed"
        )
