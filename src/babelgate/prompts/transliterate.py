"""Texts of other scripts in Latin letters, by uroman; and Latin texts without their diacritics.

uroman (Hermjakob, May and Knight 2018, ACL demonstrations) was chosen on common words with known
romanisations; docs/out-of-distribution.md has the figures.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from typing import Any

from ..errors import UserError
from ..language_id import dominant_script
from ..languages import is_known, language, normalise_code
from ..languages_data import REGISTRY

# Numerals stay together: uroman reads them as one number.
_HAN = "[\u3400-\u4dbf\u4e00-\u9fff]"
_NUMERAL = "[〇零一二三四五六七八九十百千万亿两]"
_BETWEEN_HAN = re.compile(f"(?<={_HAN})(?={_HAN})(?!(?<={_NUMERAL})(?={_NUMERAL}))")
_SPACES = re.compile(r"(?<=\S) {2,}")
# Bashkir: a plain h, which uroman reads as the shha that it is called in Unicode.
_BASHKIR = str.maketrans({"һ": "h", "Һ": "H"})
# Letters that do not decompose into a letter and a mark.
_BARE = str.maketrans("đĐłŁøØħĦ", "dDlLoOhH")


def why_not_transliterated(text: str, code: str) -> str | None:
    """Return the reason for leaving a text out of transliteration, or None.

    Latin texts are in Latin letters already; kanji have readings that depend on the word, which
    takes a dictionary, and uroman reads them as Chinese.
    """
    script = dominant_script(text)[0]
    if not script:
        return "has no letters"
    if script == "Latin":
        return "is in Latin letters already"
    if script == "Kana" or code.partition("-")[0] == "ja":
        return "is Japanese, whose kanji need a dictionary of readings"
    return None


def transliterate(text: str, code: str) -> str:
    """Return a text in Latin letters, as uroman writes its language.

    Chinese comes out in pinyin without tones, a space between syllables; texts without spaces in
    other scripts (Thai) stay without. Numerals become digits; quotation marks stay.

    Raises:
        UserError: without uroman, or for a text that :func:`why_not_transliterated` leaves out.
    """
    if reason := why_not_transliterated(text, code):
        raise UserError(f"the text {text[:40]!r} {reason}; leave it out")
    base = normalise_code(code).partition("-")[0]
    if base == "ba":
        text = text.translate(_BASHKIR)
    # uroman's rules for a language are filed under ISO 639-3.
    code3 = language(base).aliases[0] if is_known(base) and base in REGISTRY else None
    found = _uroman().romanize_string(_BETWEEN_HAN.sub(" ", text), lcode=code3)
    return _SPACES.sub(" ", found).strip()


def without_diacritics(text: str) -> str:
    """Return a text without its marks above and below letters: ``Ṣé ó dára`` to ``Se o dara``.

    Canonical decomposition, combining marks of Latin letters removed; đ ł ø ħ lose their strokes.
    """
    kept: list[str] = []
    latin = False
    for character in unicodedata.normalize("NFD", text):
        if unicodedata.category(character) == "Mn":
            if not latin:
                kept.append(character)
            continue
        latin = "LATIN" in unicodedata.name(character, "")
        kept.append(character)
    return unicodedata.normalize("NFC", "".join(kept).translate(_BARE))


_LOCK = threading.Lock()
_loaded: list[Any] = []


def _uroman() -> Any:
    """Return uroman's tables, loaded once (about 3 s); plain text files inside the package."""
    with _LOCK:
        if not _loaded:
            try:
                from uroman import Uroman
            except ImportError:
                raise UserError(
                    "transliteration needs uroman, which is not installed; "
                    "install it with `pip install babelgate[transliterate]`"
                ) from None
            _loaded.append(Uroman())
    return _loaded[0]
