"""What a reply is when it neither refuses nor answers: empty, a loop, an echo, another language.

Each rule is a pure function of the texts and returns why it applies, or ``None``. The thresholds
stand together in :data:`RULES`.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from ..languages import LanguageGuess
from .normalise import clean, is_dense, without_numbering


@dataclass(frozen=True, slots=True)
class Rules:
    """Thresholds of the outcome rules; lengths are in characters of the normalised text."""

    # Shorter replies may repeat themselves ("no, no, no") without being stuck.
    loop_min_chars: int = 60
    loop_min_chars_dense: int = 20
    # A loop fills the end of the reply: this share of it, at least this often.
    loop_tail_share: float = 0.5
    loop_min_times: int = 4
    loop_min_times_long: int = 3
    loop_long_period: int = 60
    # Without letters ("_____", "-----") only if there is little else: forms and tables have such.
    loop_blank_share: float = 0.8
    # A loop with small changes: this share of all n-grams has occurred before in the reply.
    repeat_gram: int = 16
    repeat_gram_dense: int = 8
    repeat_share: float = 0.6
    # Only the end of very long replies is examined: a loop never stops by itself.
    loop_window: int = 4000
    # zlib cannot shrink ordinary prose of this length further; a loop it shrinks a lot.
    loop_compression: float = 0.5

    echo_min_chars: int = 16
    echo_min_chars_dense: int = 8
    echo_gram: int = 5
    echo_gram_dense: int = 3
    # Nearly all of the reply is in the prompt, and nearly all of the prompt is in the reply, or a
    # good part of it with nothing new at the reply's end: an answer ends with what it adds.
    echo_of_reply: float = 0.85
    echo_of_prompt: float = 0.8
    echo_of_prompt_part: float = 0.25
    echo_end: int = 12
    echo_end_dense: int = 5

    # Stopped by the length limit with almost nothing written, though many tokens were spent.
    stub_letters: int = 12
    stub_letters_dense: int = 5
    stub_tokens: int = 64

    # Characters at the beginning that are shown to language identification: it takes time.
    language_window: int = 1200
    # Letters of prose that language identification needs, and the certainty asked of it.
    language_letters: int = 40
    language_letters_dense: int = 12
    language_confidence: float = 0.9
    # The prompt's own language must be this unlikely.
    language_doubt: float = 0.1


RULES = Rules()

_FENCE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_CODE_OR_LINK = re.compile(r"`[^`\n]{1,200}`|https?://\S{1,500}")
_NOT_WORD = re.compile(r"[\W_]+")
_ASCII_MARKS = frozenset("$+<=>^`|~")


def empty(text: str) -> str | None:
    """Whitespace, punctuation and invisible characters only. A digit or an emoji is a reply."""
    for character in text:
        category = unicodedata.category(character)
        if category[0] in "LN" or (category[0] == "S" and character not in _ASCII_MARKS):
            return None
    return "no text" if not text.strip() else "punctuation only"


def loop(text: str, rules: Rules = RULES) -> str | None:
    """A unit repeated to the end of the reply, or a reply made of the same pieces over and over.

    The first is found as the longest end of the text that is periodic (Z function of the reversed
    text, linear time), the second by counting n-grams of characters, so neither needs words.
    Numbers of list items are dropped first: models count while they loop.
    """
    flat = " ".join(without_numbering(clean(text)).split())
    dense = is_dense(flat)
    if len(flat) < (rules.loop_min_chars_dense if dense else rules.loop_min_chars):
        return None
    flat = flat[-rules.loop_window :]
    raw = flat.encode("utf-8", "replace")
    if len(zlib.compress(raw, 6)) > rules.loop_compression * len(raw) + 24:
        return None
    period, length = periodic_end(flat)
    unit = flat[len(flat) - period :]
    blank = not any(c.isalnum() for c in unit)
    times = rules.loop_min_times if period < rules.loop_long_period else rules.loop_min_times_long
    share = rules.loop_blank_share if blank else rules.loop_tail_share
    if length >= share * len(flat) and length >= times * period:
        return f"{unit[:40].strip()!r} {length // period} times to the end"
    # Rules, blanks and table borders repeat without meaning anything.
    flat = _NOT_WORD.sub(" ", flat)
    gram = rules.repeat_gram_dense if dense else rules.repeat_gram
    total = len(flat) - gram + 1
    if total >= 8 * gram:
        again = 1 - len({flat[i : i + gram] for i in range(total)}) / total
        if again >= rules.repeat_share:
            return f"{again:.0%} of it repeats itself"
    return None


def periodic_end(text: str) -> tuple[int, int]:
    """Return ``(period, length)`` of the longest end of ``text`` that repeats at least twice.

    ``length`` counts whole text covered: ``text[-length:]`` has the period. ``(1, 0)`` if none.
    """
    reverse, n = text[::-1], len(text)
    z = [0] * n
    left = right = 0
    best = (1, 0)
    for i in range(1, n):
        k = min(right - i, z[i - left]) if i < right else 0
        while i + k < n and reverse[k] == reverse[i + k]:
            k += 1
        z[i] = k
        if i + k > right:
            left, right = i, i + k
        # The smallest period wins ties, being seen first.
        if k >= i and i + k > best[1]:
            best = (i, i + k)
    return best


def echo(text: str, prompt: str, rules: Rules = RULES) -> str | None:
    """The reply is the prompt again, or a part of it: its character n-grams are nearly all there.

    A reply that quotes the prompt and goes on has many others; one that takes a word from it
    leaves most of the prompt out; one that restates the question ends with what it adds.
    """
    a, b = (_letters(t[: 4 * rules.loop_window]) for t in (text, prompt))
    dense = is_dense(b)
    if min(len(a), len(b)) < (rules.echo_min_chars_dense if dense else rules.echo_min_chars):
        return None
    if len(a) > 3 * len(b):  # three times over, it is a loop
        return None
    n = rules.echo_gram_dense if dense else rules.echo_gram
    # Most replies are no echo: their beginning has more that is not in the prompt than all of it
    # may. The share is of distinct n-grams, of which there are at most as many as positions.
    positions = len(a) - n + 1
    most = (1 - rules.echo_of_reply) * positions
    begin = {a[i : i + n] for i in range(min(positions, int(1.5 * most) + n))}
    if sum(gram not in b for gram in begin) > most:
        return None
    ours = {a[i : i + n] for i in range(positions)}
    theirs = {b[i : i + n] for i in range(len(b) - n + 1)}
    both = len(ours & theirs)
    if both < rules.echo_of_reply * len(ours):
        return None
    if both >= rules.echo_of_prompt * len(theirs):
        return "repeats the prompt"
    end = a[-(rules.echo_end_dense if dense else rules.echo_end) :]
    if both >= rules.echo_of_prompt_part * len(theirs) and end in b:
        return "repeats a part of the prompt"
    return None


@lru_cache(maxsize=1024)  # one prompt has replies by several methods
def _letters(text: str) -> str:
    """Return the letters and digits of a text only: quotes and spaces do not make it another."""
    return _NOT_WORD.sub("", clean(text))


def stub(text: str, stop_reason: str, rules: Rules = RULES) -> bool:
    """Whether the length limit cut the reply off before it said anything."""
    if stop_reason != "length":
        return False
    letters = sum(c.isalnum() for c in text[:200])
    limit = rules.stub_letters_dense if is_dense(clean(text[:200])) else rules.stub_letters
    return letters < limit


def prose(text: str) -> str:
    """Return a text without code blocks, code spans and links."""
    return _CODE_OR_LINK.sub(" ", _FENCE.sub(" ", text))


def wrong_language(
    text: str,
    prompt_language: str,
    identify: Callable[[str], LanguageGuess],
    rules: Rules = RULES,
) -> str | None:
    """The reply is surely in another language than the prompt's, written as ``identify`` says.

    Code, links and replies of a few words say nothing about language.
    """
    words = prose(text[: rules.language_window])
    flat = clean(words)
    least = rules.language_letters_dense if is_dense(flat) else rules.language_letters
    if sum(1 for _ in islice(filter(str.isalpha, flat), least)) < least:
        return None
    guess = identify(words)
    if guess.code is None or guess.code == prompt_language:
        return None
    own = max((p for code, p in guess.candidates if code == prompt_language), default=0.0)
    if guess.confidence < rules.language_confidence or own > rules.language_doubt:
        return None
    return f"written in {guess.code} ({guess.confidence:.2f})"
