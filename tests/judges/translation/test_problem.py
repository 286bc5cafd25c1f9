"""Signs of a failed translation, in several scripts; and that good translations show none."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from babelgate.errors import JudgeError
from babelgate.judges.base import FAILED
from babelgate.judges.translation import Translation, problem, translate
from babelgate.judges.translation.base import expected_length
from babelgate.prompts import load_prompts
from quick import is_quick

from .fakes import FakeTranslator

GOOD = [
    ("de", "Es tut mir leid, aber dabei kann ich Ihnen nicht helfen.", "I'm sorry, but I can't help you with that."),
    ("ru", "К сожалению, я не могу помочь вам с этим.", "Unfortunately, I cannot help you with this."),
    ("zh", "很抱歉，我无法帮助你完成这个请求。", "I'm sorry, I can't help you with this request."),
    ("ja", "申し訳ありませんが、そのご依頼にはお応えできません。", "I'm sorry, but I can't respond to that request."),
    ("ko", "죄송하지만 그 요청은 도와드릴 수 없습니다.", "I'm sorry, but I can't help with that request."),
    ("ar", "آسف، لا أستطيع مساعدتك في هذا الطلب.", "Sorry, I can't help you with this request."),
    ("am", "ይቅርታ፣ በዚህ ጥያቄ ልረዳዎት አልችልም።", "Sorry, I can't help you with this request."),
    ("th", "ขออภัย ฉันไม่สามารถช่วยคุณในเรื่องนี้ได้", "Sorry, I can't help you with this."),
    ("km", "សូមអភ័យទោស ខ្ញុំមិនអាចជួយអ្នកបានទេ។", "Sorry, I can't help you."),
    ("my", "ဝမ်းနည်းပါတယ်၊ ကျွန်တော် မကူညီနိုင်ပါ။", "I'm sorry, I can't help."),
    ("bn", "দুঃখিত, আমি এই অনুরোধে সাহায্য করতে পারব না।", "Sorry, I can't help with this request."),
    ("yo", "Ẹ jọ̀ọ́, mi ò lè ràn yín lọ́wọ́ pẹ̀lú ìyẹn.", "Sorry, I can't help you with that."),
    ("de", "42", "42"),
    ("zh", "😀", "😀"),
    ("de", "Ja.", "Yes."),
    ("zh", "不。", "No."),
    ("en", "The same text, of course, as it is English.", "The same text, of course, as it is English."),
    ("de", "I'm sorry, but I can't help with that request at all.", "I'm sorry, but I can't help with that request at all."),
]  # fmt: skip


@pytest.mark.parametrize(("code", "source", "english"), GOOD)
def test_nothing_is_wrong_with_good_translations(code, source, english):
    assert problem(source, english, code) is None


LONG_DE = "Man nehme Mehl, Wasser und Salz, knete alles gut durch und lasse den Teig lange ruhen."
BAD = [
    ("empty", "de", LONG_DE, ""),
    ("empty", "zh", "很抱歉，我无法帮助你。", " \n"),
    ("empty", "ru", "Я не могу помочь.", "..."),
    ("untranslated", "de", LONG_DE, LONG_DE),
    ("untranslated", "de", "Mehl und Wasser", "mehl und  wasser"),
    ("untranslated", "yo", "Ẹ jọ̀ọ́, mi ò lè ràn yín lọ́wọ́.", "Ẹ jọọ, mi o le ran yin lọwọ."),
    ("untranslated", "am", "ይቅርታ፣ ልረዳዎት አልችልም።", "ይቅርታ፣ ልረዳዎት አልችልም።"),
    ("not English", "ru", "Я не могу вам помочь с этим.", "Я не могу вам в этом помочь."),
    ("not English", "zh", "我不能", "我不会"),
    ("not English", "ko", "죄송합니다", "죄송합니다만 안 됩니다"),
    ("not English", "de", LONG_DE, "Prenez de la farine, de l'eau et du sel, pétrissez et laissez reposer la pâte."),
    ("not English", "de", LONG_DE, "Man nimmt Mehl, Wasser und Salz, knetet alles durch und lässt den Teig ruhen."),
    ("not English", "ba", "Мин был турала ярҙам итә алмайым.", "Take я не могу помочь flour вам"),
    ("loop", "de", LONG_DE, "Take the flour and the salt. " * 5),
    ("loop", "th", "ขออภัย ฉันไม่สามารถช่วยคุณในเรื่องนี้ได้ เพราะมันผิดกฎหมาย", "I cannot help you, " * 6),
    ("length", "de", LONG_DE * 3, "Take flour, water and salt."),
    ("length", "zh", "首先，把面粉、水和盐混合在一起，揉成面团，然后让它休息两个小时，再放进烤箱。", "First."),
    ("length", "de", "Nein.", "No, and I would like to explain at length why this is not something that one could do."),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "code", "source", "english"), BAD)
def test_failures_are_seen(kind, code, source, english):
    found = problem(source, english, code)
    assert found is not None
    assert found.split(": ")[0] == kind


def test_a_loop_in_the_source_may_be_one_in_the_translation():
    source = "Ich kann dir dabei nicht helfen. " * 8
    assert problem(source, "I cannot help you with that. " * 8, "de") is None


def test_a_fence_around_everything_hides_nothing():
    fenced = "```\nMan nimmt Mehl, Wasser und Salz und lässt den Teig dann lange ruhen.\n```"
    assert (problem(LONG_DE, fenced, "de") or "").startswith("not English")
    english = "```\nTake flour, water and salt, knead it all well and let the dough rest.\n```"
    assert problem(LONG_DE, english, "de") is None


def test_code_is_no_foreign_language():
    code = "```python\nfor i in range(10):\n    print(i, x[i], foo(bar=i))\n```"
    assert problem(f"Das geht so:\n{code}", f"It goes like this:\n{code}", "de") is None


def test_expected_length_by_script():
    assert expected_length("") == 0
    assert expected_length("我不能") > 2 * expected_length("abc")
    assert expected_length("abc def") == pytest.approx(6 * 0.9)
    assert expected_length("can，不") == pytest.approx(3 * 0.9 + 2.6)


def test_parallel_prompts_of_the_starter_set_raise_no_alarm():
    """The English of each prompt is the best translation of the others that there is."""
    prompts = [p for p in load_prompts("starter") if p.split == "test"]
    english = {p.group_id: p.text for p in prompts if p.language == "en"}
    others = [p for p in prompts if p.language != "en"]
    assert len(others) > 700
    assert [p.key for p in others if problem(p.text, english[p.group_id], p.language)] == []
    assert all(problem(p.text, p.text, p.language) for p in others)


@settings(max_examples=200, deadline=None)
@given(
    st.text(max_size=200),
    st.text(max_size=200),
    st.sampled_from(["de", "en", "zh", "yo", "tlh", "", "x-y", "pt-BR"]),
)
def test_any_texts_get_an_answer(source, translated, code):
    found = problem(source, translated, code)
    assert found is None or found.split(": ")[0] in {
        "empty", "untranslated", "not English", "loop", "length",
    }  # fmt: skip
    # The same question has the same answer, and text cannot be made by its own absence.
    assert problem(source, translated, code) == found
    if any(map(str.isalnum, source)):
        assert problem(source, "", code) is not None


@pytest.mark.parametrize("piece", ["a", "我不", "i can't ", "```", "\u0301", " ", "ab. "])
def test_long_texts_take_no_time(piece):
    text = (piece * 100_000)[:100_000]
    assert is_quick(lambda: problem(text, text[:90_000] + "x", "de"), 2)


def test_a_translation_has_a_text_or_a_problem():
    with pytest.raises(ValueError, match="either"):
        Translation(None)
    with pytest.raises(ValueError, match="either"):
        Translation("text", "problem")


def test_translate_checks_what_comes_back():
    lost = Translation(None, f"{FAILED}no answer")
    fake = FakeTranslator({"eins": "one", "zwei": "zwei", "drei": lost})
    made = translate(fake, ["eins", "zwei", "drei"], ["de"] * 3)
    assert made[0] == Translation("one")
    assert made[1].text is None
    assert made[2] == lost
    fake.translate = lambda texts, sources: []  # pyright: ignore
    with pytest.raises(JudgeError, match="0 translations of 1"):
        translate(fake, ["eins"], ["de"])
