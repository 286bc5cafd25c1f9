"""One form for text that is compared: models write the same refusal in many typographies."""

from __future__ import annotations

import re
import unicodedata
from functools import cache, lru_cache

import numpy as np

# Marks that people and models write or leave out at will: Latin, Greek and Cyrillic accents
# (so Yoruba tones), Hebrew points, Arabic vowel signs, hamza above and below, and tatweel.
# Not the vowel signs of Thai, Khmer, Burmese, Bengali or Sinhala: those are letters.
_OPTIONAL_MARKS = "".join(
    chr(code)
    for low, high in (
        (0x0300, 0x036F),
        (0x0591, 0x05C7),
        (0x0610, 0x061A),
        (0x0640, 0x0640),
        (0x064B, 0x065F),
        (0x0670, 0x0670),
        (0x06D6, 0x06ED),
    )
    for code in range(low, high + 1)
)
_INVISIBLE = (
    "\u00ad\u034f\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e"
    "\u2060\u2066\u2067\u2068\u2069\ufeff"
)
_SAME = {
    **dict.fromkeys("‘’‚‛ʼʻ´＇′׳ʹ", "'"),
    **dict.fromkeys("“”„‟«»＂″״「」『』《》〈〉", '"'),
    **dict.fromkeys("‐‑‒–—―−", "-"),
    **{"ی": "ي", "ى": "ي", "ک": "ك", "ۀ": "ه", "ة": "ه", "ھ": "ه", "ہ": "ه"},
}
_FOLD = str.maketrans({**_SAME, **dict.fromkeys(_OPTIONAL_MARKS + _INVISIBLE)})
_FOLDED = re.compile(f"[{re.escape(''.join(map(chr, _FOLD)))}]")
_MARKDOWN = str.maketrans(dict.fromkeys("*_~#|>\\`", " "))
_MARKED = re.compile(r"[*_~#|>\\`]")
_LIST_NUMBER = re.compile(r"(?m)^[ \t]*(?:\d{1,3}[.)]|[-•·])[ \t]+")
_SHORT = 4000
_PIECE = re.compile(r"(?s).{1,999}\s|.{1,1000}")


def fold(text: str) -> str:
    """Return ``text`` without what does not tell words apart: case, accents, quote shapes.

    NFKC, case folding, one shape per quote and dash, no zero-width characters, no Arabic vowel
    signs and no combining marks on Latin, Greek and Cyrillic letters. ``fold`` is applied to
    lexicon phrases and to replies alike, so both sides lose the same distinctions.
    """
    if text.isascii():
        return text.lower()
    if len(text) <= _SHORT:
        return _fold(text)
    # Marks are sorted in a time that grows with the square of how many follow each other.
    return "".join(map(_fold, _PIECE.findall(text)))


def _fold(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).casefold()
    if _FOLDED.search(plain):  # looking costs a tenth of translating
        plain = plain.translate(_FOLD)
    return unicodedata.normalize("NFC", plain)


def clean(text: str) -> str:
    """Return ``text`` folded, without Markdown marks, with single spaces; line breaks are kept."""
    # Several rules look at one reply in turn, and many replies answer one prompt.
    return _clean_short(text) if len(text) <= _SHORT else _clean(text)


def _clean(text: str) -> str:
    text = fold(text)
    if _MARKED.search(text):
        text = text.translate(_MARKDOWN)
    if "\n" not in text:
        return " ".join(text.split())
    return "\n".join(filter(None, (" ".join(line.split()) for line in text.split("\n"))))


_clean_short = lru_cache(maxsize=4096)(_clean)


def without_numbering(text: str) -> str:
    """Return ``text`` without list numbers and bullets, so that a numbered loop is a loop."""
    return _LIST_NUMBER.sub("", text)


# Ranges of the scripts that lexicons are written in.
_SCRIPTS = {
    "latin": "a-zɐ-ʯßøæœđłŋɓɗƙıəẖ",
    "greek": "α-ω",
    "cyrillic": "а-яѐ-ԯ",
    "hebrew": "א-ת",
    "arabic": "ء-يٱ-ۓ",
    "ethiopic": "\u1200-\u137f",
    "devanagari": "\u0900-\u097f",
    "bengali": "\u0980-\u09ff",
    "sinhala": "\u0d80-\u0dff",
    "thai": "\u0e00-\u0e7f",
    "myanmar": "\u1000-\u109f",
    "khmer": "\u1780-\u17ff",
    "hangul": "가-힣",
    "kana": "ぁ-ヿ",
    "han": "\u4e00-\u9fff\u3400-\u4dbf",
}
SCRIPTS: tuple[str, ...] = tuple(_SCRIPTS)
# Several times as much is said per character as in an alphabet.
DENSE_SCRIPTS = frozenset({"han", "kana", "hangul"})


_DENSE = re.compile(f"[{''.join(_SCRIPTS[script] for script in sorted(DENSE_SCRIPTS))}]")
_SCRIPT_PATTERNS = {script: re.compile(f"[{chars}]") for script, chars in _SCRIPTS.items()}


@cache
def _script_table() -> np.ndarray:
    """Return the number of the script of each character of the basic plane, 0 for none."""
    everything = (
        "".join(map(chr, range(0xD800))) + "\0" * 0x800 + "".join(map(chr, range(0xE000, 0x10000)))
    )
    table = np.zeros(0x10000, dtype=np.uint8)
    for number, script in reversed(list(enumerate(SCRIPTS, 1))):  # the first that matches counts
        for match in _SCRIPT_PATTERNS[script].finditer(everything):
            table[match.start()] = number
    return table


def script_counts(folded: str) -> dict[str, int]:
    """Return how many letters of each known script a folded text has; absent ones are left out."""
    codes = np.frombuffer(folded.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    counts = np.bincount(_script_table()[np.minimum(codes, 0xFFFF)], minlength=len(SCRIPTS) + 1)
    return {script: int(n) for script, n in zip(SCRIPTS, counts[1:].tolist()) if n}


def is_dense(folded: str) -> bool:
    """Return whether a folded text is mostly in a script that says more per character."""
    head = folded[:2000]
    if head.isascii() or not _DENSE.search(head):  # nearly all texts, in a tenth of the time
        return False
    counts = script_counts(head)
    dense = sum(n for script, n in counts.items() if script in DENSE_SCRIPTS)
    return 2 * dense > sum(counts.values())
