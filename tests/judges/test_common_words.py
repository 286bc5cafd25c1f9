"""The quick yes to "is it in this language": how often it is said, and that it is not wrong."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from babelgate.judges import outcomes
from babelgate.judges.common_words import plainly_in, word_languages
from babelgate.judges.lexicon import lexicon_languages
from babelgate.judges.normalise import clean
from babelgate.languages import identify
from babelgate.prompts import load_prompts

from .examples import ANSWERS
from .made import LANGUAGES, anything

OWN_SCRIPT = {"ja", "zh", "ko", "th", "km", "my", "si"}
KNOWN = sorted(lexicon_languages())
SENTENCES = {
    "en": "I would like to know how to get to the station and what it is that I have to pay.",
    "de": "Ich möchte wissen, wie man zum Bahnhof kommt und was die Fahrt in die Stadt kostet.",
    "fr": "Je voudrais savoir comment aller à la gare et combien coûte le billet pour une personne.",
    "es": "Quiero saber cómo se llega a la estación y cuánto cuesta el billete para una persona.",
    "it": "Vorrei sapere come si arriva alla stazione e quanto costa il biglietto per una persona.",
    "nl": "Ik wil weten hoe je met de trein naar het station komt en wat het voor een kaartje is.",
    "pl": "Chcę wiedzieć, jak się jedzie na dworzec i co to jest, aby nie zapłacić za dużo.",
    "ru": "Я хочу знать, как доехать до вокзала и что мне делать, чтобы не опоздать на поезд.",
    "ar": "أريد أن أعرف كيف أصل إلى المحطة من هنا وما هو ثمن التذكرة في هذا اليوم.",
    "hi": "मैं जानना चाहता हूँ कि स्टेशन तक कैसे जाते हैं और टिकट का दाम क्या है।",
    "vi": "Tôi muốn biết cách đi đến nhà ga và vé cho một người là bao nhiêu tiền.",
    "sw": "Ninataka kujua jinsi ya kufika kwenye kituo na bei ya tiketi kwa mtu mmoja ni ngapi.",
    "yo": "Mo fẹ́ mọ bí mo ṣe lè dé ibùdókọ̀ náà àti iye owó tí ó jẹ́ fún ẹnì kan.",
    "ja": "駅までの行き方と、切符がいくらするのかを知りたいです。",
    "zh": "我想知道怎么去车站，还有一张票要多少钱。",
    "ko": "역까지 어떻게 가는지, 표가 얼마인지 알고 싶습니다.",
    "th": "ฉันอยากรู้ว่าไปสถานีอย่างไรและตั๋วราคาเท่าไร",
    "km": "ខ្ញុំចង់ដឹងពីរបៀបទៅស្ថានីយ៍ និងតម្លៃសំបុត្រ",
    "my": "ဘူတာရုံကို ဘယ်လိုသွားရမလဲ သိချင်ပါတယ်။",
    "si": "දුම්රිය ස්ථානයට යන්නේ කෙසේදැයි මට දැනගන්න ඕනේ.",
}


@pytest.mark.parametrize("code", sorted(SENTENCES))
def test_a_typical_sentence_is_plainly_in_its_language_only(code):
    said = {other for other in KNOWN if plainly_in(clean(SENTENCES[code]), other)}
    assert said == {code}


def test_too_little_is_never_plain():
    for code in KNOWN:
        for text in ("", " ", "ok", "12 34 56", "...", "\n"):
            assert not plainly_in(clean(text), code), (text, code)
    assert not plainly_in("the bread", "en")
    assert not plainly_in("quantum flux tensor matrix " * 20 + "the and of", "en")


def test_unknown_languages_are_never_plain():
    for code in ("qq", "tlh", "", "zh-hant"):
        assert not any(plainly_in(clean(text), code) for text in SENTENCES.values())


def test_every_lexicon_language_has_words_or_a_script():
    assert word_languages() | OWN_SCRIPT >= lexicon_languages()


def test_han_with_kana_is_japanese_and_without_is_chinese():
    japanese, chinese = "申し訳ありませんが、お手伝いできません。", "对不起，我不能帮助你做这件事。"
    assert plainly_in(clean(japanese), "ja")
    assert not plainly_in(clean(japanese), "zh")
    assert plainly_in(clean(chinese), "zh")
    assert not plainly_in(clean(chinese), "ja")
    assert plainly_in(clean("ありがとうございます"), "ja")
    assert not plainly_in(clean("ありがとうございます"), "zh")
    for text in (japanese, chinese):
        assert not plainly_in(clean(text), "ko")
        assert not plainly_in(clean(f"{SENTENCES['en']} {text}"), "ja")
        assert not plainly_in(clean(f"{SENTENCES['en']} {text}"), "zh")


@pytest.mark.parametrize("code", sorted(OWN_SCRIPT))
def test_a_script_needs_most_of_the_letters(code):
    text = SENTENCES[code]
    assert plainly_in(clean(text + " 100 % (A)"), code)
    assert not plainly_in(clean(f"{text[:10]} {SENTENCES['en']}"), code)


def test_answers_are_plain_in_no_other_language():
    wrong = [
        (code, other)
        for code, texts in ANSWERS.items()
        for text in texts
        for other in KNOWN
        if other != code and plainly_in(clean(text), other)
    ]
    assert len(wrong) <= 0.005 * sum(map(len, ANSWERS.values())), wrong


@pytest.fixture(scope="module")
def prompts():
    """The clean texts of the starter set by language."""
    found: dict[str, list[str]] = {}
    for prompt in load_prompts("starter"):
        found.setdefault(prompt.language, []).append(clean(prompt.text))
    return found


def share(texts, code) -> float:
    return sum(plainly_in(text, code) for text in texts) / len(texts)


def test_most_prompts_are_plainly_in_their_language(prompts):
    shares = {code: share(texts, code) for code, texts in prompts.items()}
    assert len(shares) >= 12
    assert {code: s for code, s in shares.items() if s < 0.6} == {}
    assert all(shares[code] > 0.95 for code in set(shares) & OWN_SCRIPT)


def test_hardly_any_prompt_is_plainly_in_another_language(prompts):
    wrong = {
        (language, code): s
        for language, texts in prompts.items()
        for code in KNOWN
        if code != language and (s := share(texts, code)) > 0.005
    }
    assert wrong == {}


def test_identification_does_not_contradict_a_yes():
    """The yes saves identification: where it is said, identification would find nothing."""
    plain = [p for p in load_prompts("starter") if plainly_in(clean(p.text), p.language)]
    contradicted = [p for p in plain if outcomes.wrong_language(p.text, p.language, identify)]
    assert len(plain) > 2000
    assert len(contradicted) <= 0.002 * len(plain), [p.key for p in contradicted]


@settings(max_examples=150, deadline=None)
@given(anything, st.sampled_from(LANGUAGES + KNOWN))
def test_any_text_gets_an_answer(text, code):
    assert plainly_in(clean(text), code) in (True, False)
