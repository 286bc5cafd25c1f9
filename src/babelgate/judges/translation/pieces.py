"""Cutting a text into what a sentence translator takes: sentences, and all between them.

NLLB was trained on single sentences and silently drops some of several
(github.com/huggingface/transformers/issues/24169), and both families lose line breaks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# What stands before the words of a line: indentation, bullets, numbers, quotation marks of mail.
_BEFORE = re.compile(r"[ \t]*(?:(?:[-*•·#>]+|\d{1,3}[.)])[ \t]+)*")
# Sentence ends that a blank follows (... Arabic, Urdu, Devanagari) and those that need none
# (ideographic, Khmer, Burmese, Ethiopic). Not after a digit or a single letter: "3. May", "z. B.".
_END = re.compile(
    r"(?<=[.!?…\u061f\u06d4\u0964\u0965])(?<!\d\.)(?<!\b\w\.)[ \t]+"
    r"|(?<=[。！？\u17d4\u17d5\u104b\u1362])[ \t]*(?=[^\s。！？」』”）\u17d4\u17d5\u104b\u1362])"
)
_CODE = re.compile(r"[{}=;<>\[\]$|\\]|\w\(|^[ \t]*(?://|import |from \w+ import )")


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text: words to translate, or something to copy as it is."""

    text: str
    words: bool


def pieces(text: str) -> list[Piece]:
    """Cut a text into sentences and what lies between; joined, they are the text again.

    What has no letter, fences, and lines of a fenced block that look like code are copied.
    """
    cut: list[Piece] = []
    fenced = False
    for number, line in enumerate(text.split("\n")):
        if number:
            cut.append(Piece("\n", False))
        fence = line.lstrip().startswith("```")
        fenced ^= fence
        if fence or (fenced and _CODE.search(line)):
            cut.append(Piece(line, False))
        else:
            cut += _sentences(line)
    return [piece for piece in cut if piece.text]


def _sentences(line: str) -> list[Piece]:
    before = _BEFORE.match(line)
    start = before.end() if before else 0
    stop = max(start, len(line.rstrip()))
    cut = [Piece(line[:start], False)]
    for end in _END.finditer(line, start, stop):
        cut += [_piece(line[start : end.start()]), Piece(end[0], False)]
        start = end.end()
    return [*cut, _piece(line[start:stop]), Piece(line[stop:], False)]


def _piece(text: str) -> Piece:
    return Piece(text, any(map(str.isalpha, text)))


def join(cut: list[Piece], translated: list[str]) -> str:
    """Put a text together from its pieces, with ``translated`` in place of the words, in order.

    A space is put between sentences where the source's script needs none and English does.
    """
    made: list[str] = []
    rest = iter(translated)
    previous = False
    for piece in cut:
        if piece.words and previous:
            made.append(" ")
        made.append(next(rest) if piece.words else piece.text)
        previous = piece.words
    return "".join(made)


def halves(text: str) -> tuple[str, str] | None:
    """Split a text at the blank nearest its middle; ``None`` if it has none."""
    middle = len(text) // 2
    left, right = text.rfind(" ", 1, middle), text.find(" ", middle)
    at = [i for i in (left, right) if 0 < i < len(text) - 1]
    if not at:
        return None
    best = min(at, key=lambda i: abs(i - middle))
    return text[:best], text[best + 1 :]
