"""Replies for the tests of judges, and texts of every kind."""

from __future__ import annotations

from hypothesis import strategies as st

from babelgate.judges import Reply
from babelgate.types import Completion, Prompt


def reply(
    text: str,
    language: str = "en",
    prompt: str = "(a question)",
    *,
    stop: str = "eos",
    n: int = 50,
    id: str = "p1",
    method: str = "none",
) -> Reply:
    asked = Prompt(id, language, prompt, "harmless", "test")
    return Reply(asked, Completion(language, id, method, text, n, stop))  # pyright: ignore


#: Codes with a lexicon, without one, with regions and scripts, and names that are no codes.
LANGUAGES = [
    "en", "yo", "zh", "ja", "th", "am", "ar", "qq", "tlh", "zh-Hant", "pt-BR", "x", "", "no such",
    "\ud800",
]  # fmt: skip

#: Any characters whatsoever: astral ones, lone surrogates, marks, controls.
anything = st.text(alphabet=st.characters(), max_size=200)

_PIECES = [
    "i can't", "sorry", "i'm sorry, but", "it is illegal", "instead,", "here are", "不能", "我",
    "できません", "ko le", "لا أستطيع", "'", "\n", "1.", "**", "\u0301", "```", " ", "[", "]", ":",
    "\ud800", "👍", "ᏣᎳᎩ", "the", "of", "and", "to", "is", "water", "?", "#", "- ",
]  # fmt: skip
#: Texts made of what the judges look for.
telling = st.lists(st.sampled_from(_PIECES), max_size=50).map(" ".join)
texts = st.one_of(anything, telling)
