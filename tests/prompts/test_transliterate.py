"""Texts in Latin letters."""

import sys
import unicodedata

import pytest

from babelgate.errors import UserError
from babelgate.prompts import transliterate as module
from babelgate.prompts.transliterate import (
    transliterate,
    why_not_transliterated,
    without_diacritics,
)


@pytest.mark.parametrize(
    ("code", "text", "latin"),
    [
        ("ru", "Москва хорошо", "Moskva khorosho"),
        ("ko", "한국 사람", "hangug saram"),
        ("ba", "Һыу һәм һөт", "Hyu hem hot"),
        ("zh", "谢谢你的朋友", "xie xie ni de peng you"),
        ("zh", "写三百五十个字", "xie 350 ge zi"),
        ("ar", "كتاب سلام", "ktab slam"),
        ("th", "ไทย อาหาร", "thai aahaan"),
    ],
)
def test_known_words(code, text, latin):
    pytest.importorskip("uroman")
    assert transliterate(text, code) == latin


def test_what_is_latin_already_stays():
    pytest.importorskip("uroman")
    assert transliterate("Я пишу GPT-4 и print(x)", "ru") == "Ya pishu GPT-4 i print(x)"


@pytest.mark.parametrize(
    ("code", "text", "reason"),
    [
        ("de", "Guten Tag", "Latin"),
        ("yo", "Ẹ káàárọ̀", "Latin"),
        ("ja", "東京で会計を学ぶ", "dictionary"),
        ("ja", "東京", "dictionary"),
        ("en", "123 ?!", "no letters"),
    ],
)
def test_what_is_left_out_and_why(code, text, reason):
    assert reason in (why_not_transliterated(text, code) or "")
    with pytest.raises(UserError, match=reason):
        transliterate(text, code)


def test_without_the_library_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "uroman", None)
    monkeypatch.setattr(module, "_loaded", [])
    with pytest.raises(UserError, match=r"pip install babelgate\[transliterate\]"):
        transliterate("Москва", "ru")


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("Ṣé ó dára? Ẹ káàárọ̀", "Se o dara? E kaaaro"),
        ("Đường phố Hà Nội", "Duong pho Ha Noi"),
        ("Łódź, żółć", "Lodz, zolc"),
        ("naïve façade", "naive facade"),
        ("plain", "plain"),
        # Marks of other scripts are letters there, not decoration.
        ("हिन्दी น้ำ й", "हिन्दी น้ำ й"),
    ],
)
def test_diacritics(text, bare):
    assert without_diacritics(text) == unicodedata.normalize("NFC", bare)
    assert without_diacritics(unicodedata.normalize("NFD", text)) == without_diacritics(text)
