"""Cutting into sentences loses nothing and keeps what is no sentence."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from babelgate.judges.translation.pieces import halves, join, pieces
from quick import is_quick


def words(text: str) -> list[str]:
    return [piece.text for piece in pieces(text) if piece.words]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Eins. Zwei! Drei?", ["Eins.", "Zwei!", "Drei?"]),
        ("Am 3. Mai, z. B. hier.", ["Am 3. Mai, z. B. hier."]),
        ("我不能。对不起！好", ["我不能。", "对不起！", "好"]),
        ("他说「好。」然后走了。", ["他说「好。」然后走了。"]),
        ("मैं नहीं कर सकता। माफ़ करें।", ["मैं नहीं कर सकता।", "माफ़ करें।"]),
        ("مرحبا؟ نعم.", ["مرحبا؟", "نعم."]),
        ("អត់ទេ។សូមទោស។", ["អត់ទេ។", "សូមទោស។"]),
        ("1. Eins\n- Zwei\n> ## Drei", ["Eins", "Zwei", "Drei"]),
        ("42\n---\n\n", []),
        ("```\nx = {1}\nein Satz\n```", ["ein Satz"]),
        ("```\nx = {1}", []),
        ("f(x) = {1}", ["f(x) = {1}"]),
    ],
)
def test_sentences(text, expected):
    assert words(text) == expected


def test_english_gets_the_blanks_that_other_scripts_do_without():
    cut = pieces("我不能。对不起。\n好")
    assert join(cut, ["I can't.", "Sorry.", "Fine"]) == "I can't. Sorry.\nFine"


parts = st.sampled_from(
    ["Eins. ", "zwei", "。", "我", "\n", "```", " ", "1. ", "- ", "x = [1]", "! ", "\r", "។", "\t"]
)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=100), st.lists(parts, max_size=30).map("".join)))
def test_joined_pieces_are_the_text(text):
    cut = pieces(text)
    assert "".join(piece.text for piece in cut) == text
    assert join(cut, ["W" for piece in cut if piece.words]).count("\n") == text.count("\n")
    letters = [c for piece in cut if not piece.words for c in piece.text if c.isalpha()]
    assert not letters or "```" in text


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="ab ", max_size=40))
def test_halves_lose_one_blank_only(text):
    both = halves(text)
    if both is None:
        assert " " not in text[1:-1]
    else:
        assert " ".join(both) == text
        assert all(both)


@pytest.mark.parametrize("piece", ["a", " ", ". ", "。", "- ", "\n", "```\n", "1. ", "a. "])
def test_long_texts_take_no_time(piece):
    text = (piece * 100_000)[:100_000]
    assert is_quick(lambda: pieces(text), 2)
