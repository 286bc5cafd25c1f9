"""Normalisation: what two spellings of one word share, and what must stay apart."""

import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from babelgate.judges import normalise
from babelgate.judges.normalise import (
    SCRIPTS,
    clean,
    fold,
    is_dense,
    script_counts,
    without_numbering,
)
from quick import is_quick


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


any_characters = st.text(alphabet=st.characters(), max_size=200)
# Edges of the scripts' ranges, and what looks like them.
edges = st.text(
    alphabet="az`{ɐʯʰßøœđəẖαωάϊаяѐԯЀאתװءيٱۓ۔\u1200\u137f\u1380\u0900\u097f\u0980\u09ff\u0d80\u0dff\u0e00"
    "\u0e7f\u0e80\u1000\u109f\u10a0\u1780\u17ff가힣\ud7a4\ud7ff\ud800\udfff\ue000ぁヿ\u3040\u3100"
    "\u4e00\u9fff\u3400\u4dbf\u4dc0\uffff\U00010000\U00020000\U0010ffff",
    max_size=60,
)


def slow_script_counts(text: str) -> dict[str, int]:
    """Character by character: the first script whose class has it."""
    patterns = {name: re.compile(f"[{chars}]") for name, chars in normalise._SCRIPTS.items()}
    found: Counter[str] = Counter()
    for character in text:
        script = next((name for name, p in patterns.items() if p.fullmatch(character)), None)
        if script is not None:
            found[script] += 1
    return dict(found)


@settings(max_examples=300)
@given(st.one_of(any_characters, edges))
def test_script_counts_are_the_classes(text):
    assert script_counts(text) == slow_script_counts(text)


def test_astral_characters_and_surrogates_are_of_no_script():
    assert script_counts("\ud800\udfff\U00020000\U0001f600\uffff") == {}
    assert script_counts("\ud83d\ude00a") == {"latin": 1}
    assert script_counts("") == {}


@given(st.one_of(any_characters, edges))
def test_density_is_the_majority(text):
    counts = slow_script_counts(text)
    dense = sum(counts.get(name, 0) for name in ("han", "kana", "hangul"))
    assert is_dense(text) == (2 * dense > sum(counts.values()))


@given(any_characters)
def test_remembering_changes_nothing(text):
    assert clean(text) == normalise._clean(text) == clean(text)


def slow_clean(text: str) -> str:
    """Marks to spaces, then every run of spaces to one, and none beside a line break."""
    plain = re.sub(r"[*_~#|>\\`]", " ", fold(text))
    plain = re.sub(r"[^\S\n]+", " ", plain)
    return re.sub(r" ?\n[\n ]*", "\n", plain).strip()


@settings(max_examples=300)
@given(
    st.one_of(any_characters, st.text(alphabet="ab *_\n\t\r\x0b\x1c\x85\u2028\u3000#", max_size=40))
)
def test_clean_is_the_definition(text):
    assert clean(text) == slow_clean(text)


@pytest.mark.parametrize(
    "text",
    [
        "Désolé, je ne peux pas. ",
        "Mo fẹ́ràn rẹ̀ púpọ̀\n",
        "لا يُمكنني ",
        "我不能帮助你。",
        "한국어로 ",
        "ฉันช่วยไม่ได้",
        "ﷺ ﬁne ",
        "a\u0301\u0316 ",
        "👍🏽\ud800 ",
    ],
)
def test_a_long_text_folds_as_a_short_one(text):
    times = 12_000 // len(text)
    assert fold(text * times) == fold(text) * times
    assert fold(text * 3) == fold(text) * 3


@pytest.mark.parametrize("marks", ["\u0301\u0316", "\u0e48\u0e38", "\u05b0\u05bc\u0591"])
def test_many_marks_fold_in_bounded_time(marks):
    assert is_quick(lambda: fold("a" + marks * 50_000), 0.5)
