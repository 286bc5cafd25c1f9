"""Whether a text is plainly in a language, by its commonest words: microseconds, no model.

A quick yes that saves identification where there is nothing to find; a no says nothing.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

from .normalise import script_counts

#: Words read from the beginning of a text.
_WORDS = 60
#: Hits that a yes needs: so many, this share of the words, and this many times any other language.
_LEAST = 3
_SHARE = 0.15
_MARGIN = 1.5

#: Languages with a script that hardly any other is written in, and the share of letters for a yes.
_OWN_SCRIPT = {
    "ja": "kana", "zh": "han", "ko": "hangul", "th": "thai", "km": "khmer", "my": "myanmar",
    "si": "sinhala",
}  # fmt: skip
_PURE = 0.6

_PUNCTUATION = str.maketrans(dict.fromkeys('.,;:!?"()،؛؟।', " "))


@cache
def _languages() -> dict[str, tuple[str, ...]]:
    """Return, for each common word, the languages in which it is common."""
    text = (files("babelgate.judges") / "data" / "common_words.json").read_text(encoding="utf-8")
    found: dict[str, tuple[str, ...]] = {}
    for code, words in json.loads(text)["words"].items():
        for word in words.split():
            found[word] = (*found.get(word, ()), code)
    return found


@cache
def word_languages() -> frozenset[str]:
    """Return the codes of the languages whose commonest words are known."""
    return frozenset(code for codes in _languages().values() for code in codes)


def plainly_in(text: str, language: str) -> bool:
    """Return whether many of a folded text's words are common in ``language`` and not elsewhere.

    ``text`` is as :func:`babelgate.judges.normalise.clean` makes it. For languages with a script
    to themselves it is the script that must be theirs almost throughout.
    """
    if language in _OWN_SCRIPT:
        return _in_own_script(text, language)
    known = _languages()
    words = text[: 8 * _WORDS].translate(_PUNCTUATION).split()[:_WORDS]
    hits: dict[str, int] = {}
    for word in words:
        if word in known:
            for code in known[word]:
                hits[code] = hits.get(code, 0) + 1
    own = hits.pop(language, 0)
    if own < _LEAST or own < _SHARE * len(words):
        return False
    return own >= _MARGIN * max(hits.values(), default=0)


def _in_own_script(text: str, language: str) -> bool:
    counts = script_counts(text)
    total, kana = sum(counts.values()), counts.get("kana", 0)
    if total < _LEAST:
        return False
    if language in ("ja", "zh"):  # Han with kana is Japanese, without any Chinese
        theirs = kana + counts.get("han", 0)
        return theirs >= _PURE * total and (kana >= 0.1 * theirs) == (language == "ja")
    return counts.get(_OWN_SCRIPT[language], 0) >= _PURE * total
