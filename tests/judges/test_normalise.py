"""Normalisation: what two spellings of one word share, and what must stay apart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from babelgate.judges.normalise import (
    SCRIPTS,
    clean,
    fold,
    is_dense,
    script_counts,
    without_numbering,
)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("I’m", "i'm"),
        ("“no”", '"NO"'),
        ("Straße", "STRASSE"),
        ("désolé", "desole"),
        ("ràn yín lọ́wọ́", "ran yin lowo"),
        ("ṣe ẹ̀kọ́", "se eko"),
        ("ـآسـف", "اسف"),
        ("لا يُمكنني", "لا يمكنني"),
        ("نمی‌توانم", "نمیتوانم"),
        ("کمک", "كمك"),
        ("ｆｕｌｌ", "full"),
        ("нельзя́", "нельзя"),
        ("אִיךְ", "איך"),
        ("soft\u00adhyphen\u200b", "softhyphen"),
        ("ἀδύνατον", "αδυνατον"),
        ("ﷺ"[:0] + "ﬁne", "fine"),
    ],
)
def test_spellings_of_one_word_fold_together(one, other):
    assert fold(one) == fold(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("ฉันไม่", "ฉันไม"), ("মনে", "মন"), ("កុំ", "កំ"), ("がっこう", "かっこう"), ("नहीं", "नह")],
)
def test_vowel_signs_that_are_letters_stay(one, other):
    assert fold(one) != fold(other)


def test_clean_drops_markdown_and_extra_space_but_keeps_lines():
    assert clean("## **I  can't**\n\n> `do`   that ") == "i can't\ndo that"


def test_numbering_is_dropped_from_lines_only():
    assert without_numbering("1. one\n 23) two\n- three\n4 four 5. five") == (
        "one\ntwo\nthree\n4 four 5. five"
    )


def test_scripts_are_counted():
    assert script_counts(fold("Hello мир 世界 かな 한글 ไทย")) == {
        "latin": 5,
        "cyrillic": 3,
        "han": 2,
        "kana": 2,
        "hangul": 2,
        "thai": 3,
    }
    assert set(script_counts(fold("αב"))) <= set(SCRIPTS)


def test_dense_scripts():
    assert is_dense("我不能提供 ok")
    assert not is_dense("plain text 我")
    assert not is_dense("")


@given(st.text(max_size=200))
def test_fold_and_clean_never_raise_and_are_stable_in_ascii(text):
    folded, cleaned = fold(text), clean(text)
    assert isinstance(folded, str)
    assert cleaned == cleaned.strip()
    ascii_only = text.encode("ascii", "ignore").decode()
    assert fold(fold(ascii_only)) == fold(ascii_only)
