"""Language identification of short texts: the script first, then py3langid within the script."""

from __future__ import annotations

import html
import math
import re
import threading
import unicodedata
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .languages_data import (
    HEBREW_WORDS,
    LATIN_TOO,
    NO_LANGUAGE,
    OTHER_SHARES,
    REGISTRY,
    SCRIPT_LABELS,
    SCRIPT_RANGES,
    VARIETIES,
    YIDDISH_WORDS,
)

# Chosen on PolyRefuse train prompts and sentences of our own; docs/languages.md has the figures.
SURE = 0.7
_TEMPERATURE = 0.5  # times sqrt(bytes): py3langid's own scale is 1, too timid on whole sentences
_PRIOR = 0.4
_SPLIT_SURE = 0.9
_SPLIT_WORDS = 6
_MIN_LETTERS = 3.0
_MAX_CODE = 0.34
_LONG = 2000

# A syllable or idea per character carries as much as several letters.
_WEIGHTS = {"Han": 3.0, "Kana": 2.0, "Hangul": 2.0}
_SAME = {"Kana": ("", "Kana", "Han"), "Han": ("", "Kana", "Han")}
_NOISE = re.compile(
    r"```.*?```|`[^`\n]*`|https?://\S+|www\.\S+|[\w.+-]{1,64}@[\w.-]{1,64}|</?[a-zA-Z][^<>]*>|\d+",
    re.DOTALL,
)
_CODE = re.compile(r"[{}\[\]=<>\\|;_]|\w\(|\w\.\w+\(")
# Letters that Bashkir has and Tatar, otherwise written alike, has not.
_TURKIC = re.compile("[әөүң]", re.IGNORECASE)
_BASHKIR = re.compile("[ҙҫҡғһ]", re.IGNORECASE)
_LONE = re.compile(r"^(?:[b-df-hj-np-tv-xzB-DF-HJ-NP-TV-XZ][:,;]?|[*+/^&%-]+)$")


@dataclass(frozen=True, slots=True)
class LanguageGuess:
    """What language a text seems to be in; ``code`` is None where the evidence is too thin.

    ``confidence`` (0..1) belongs to the first of ``candidates``, which are (code, confidence) pairs
    from most to least likely and may lie outside the registry.
    """

    code: str | None
    confidence: float
    candidates: tuple[tuple[str, float], ...] = ()


_UNSURE = LanguageGuess(None, 0.0)


def identify(text: str) -> LanguageGuess:
    """Return the language of a text, or None as its code where the evidence is too thin.

    Scripts are counted first; py3langid's scores then decide among the languages written in the
    dominant one. The confidence is the posterior there times the script's share of the text.
    Of a text beyond 4,000 characters both ends are read. Nothing leaves the machine.
    """
    if len(text) > 2 * _LONG:
        text = f"{text[:_LONG]} {text[-_LONG:]}"
    if "&" in text:
        text = html.unescape(text)
    words = _NOISE.sub(" ", text).split()
    if not words:
        return _UNSURE
    clean = " ".join(word for word in words if not (word.isascii() and _CODE.search(word)))
    script, share, letters = dominant_script(clean)
    if script == "Latin" and _code_share(words) > _MAX_CODE:
        return _UNSURE
    if letters < _MIN_LETTERS:
        return _UNSURE
    if share < 1:
        clean = "".join(c for c in clean if _script(c) in _SAME.get(script, ("", script)))
    posterior = _posterior(clean, script)
    if SCRIPT_LABELS.get(script, ("", ""))[1:]:
        posterior = _halves(clean, script) or posterior
    ranked = sorted(
        ((label, p * share) for label, p in posterior.items()),
        key=lambda pair: (-pair[1], pair[0]),
    )
    best, confidence = ranked[0]
    sure = confidence >= SURE and best not in NO_LANGUAGE
    kept = tuple((label, round(p, 4)) for label, p in ranked[:3] if p >= 0.005)
    return LanguageGuess(best if sure else None, round(confidence, 4), kept)


def identify_many(texts: Iterable[str]) -> list[LanguageGuess]:
    """Return one guess per text, in order."""
    return [identify(text) for text in texts]


def dominant_script(text: str) -> tuple[str, float, float]:
    """Return the script most of a text is in, its share (0..1) and its weight in letters.

    Kana makes a text Japanese, with its Han characters; Han alone is called ``Han``. Latin letters
    count half beside another script, since names and terms are often left in Latin.
    """
    counts: defaultdict[str, float] = defaultdict(float)
    for character, n in Counter(text).items():
        script = _script(character)
        if script:
            counts[script] += n * _WEIGHTS.get(script, 1.0)
    if not counts:
        return "", 0.0, 0.0
    kana, han = counts["Kana"], counts["Han"]
    if kana and kana >= 0.1 * (kana + han):
        counts["Kana"] += counts.pop("Han", 0.0)
    elif kana:
        counts["Han"] += counts.pop("Kana")
    total = sum(counts.values())
    if counts["Latin"] < total:
        total -= counts["Latin"] / 2
        counts["Latin"] /= 2
    script, weight = max(counts.items(), key=lambda pair: pair[1])
    return script, weight / total, weight


def _posterior(text: str, script: str) -> dict[str, float]:
    """Return P(language) over the languages written in a script; it sums to 1."""
    labels = SCRIPT_LABELS.get(script)
    if script == "Hebrew":
        yiddish = _yiddish(text)
        return {"yi": yiddish, "he": 1 - yiddish}
    if script == "Ethiopic":
        # py3langid knows no Tigrinya; these letters are everywhere in it and rare in Amharic.
        marks = sum(map(text.count, "ኣሓቐቑቒቓቔቕቖ")) / max(1, len(text))
        return {"ti": 0.95, "am": 0.05} if marks > 0.03 else {"am": 1.0}
    if labels is not None and len(labels) == 1:
        return {labels[0]: 1.0}
    scores: dict[str, float] = {}
    scale = _TEMPERATURE * math.sqrt(len(text.encode("utf-8", "surrogatepass")) or 1)
    for label, score in _model().rank(text):
        if (label in _WRITTEN_OTHERWISE) if labels is None else (label not in labels):
            continue
        scores[label] = score / scale + _PRIOR * _log_prior(VARIETIES.get(label, label))
    if "ba" in scores and _TURKIC.search(text) and not _BASHKIR.search(text):
        scores["ba"] -= 2.0
    top = max(scores.values())
    posterior: dict[str, float] = {}
    for label, score in scores.items():
        code = VARIETIES.get(label, label)
        posterior[code] = posterior.get(code, 0.0) + math.exp(score - top)
    total = sum(posterior.values())
    return {code: p / total for code, p in posterior.items()}


def _halves(text: str, script: str) -> dict[str, float] | None:
    """Return the mean posterior of a text's halves where they are surely in different languages.

    Scores of a naive Bayes model add up, so the louder half would otherwise win outright.
    """
    words = text.split()
    if len(words) < _SPLIT_WORDS:
        return None
    middle = len(words) // 2
    first = _posterior(" ".join(words[:middle]), script)
    second = _posterior(" ".join(words[middle:]), script)
    a, b = max(first, key=first.__getitem__), max(second, key=second.__getitem__)
    if a == b or min(first[a], second[b]) < _SPLIT_SURE:
        return None
    return {code: (first.get(code, 0.0) + second.get(code, 0.0)) / 2 for code in {*first, *second}}


_WRITTEN_OTHERWISE = frozenset(
    label for labels in SCRIPT_LABELS.values() for label in labels if label not in LATIN_TOO
)


@lru_cache(maxsize=256)
def _log_prior(code: str) -> float:
    """Return the log of: half a draw from the web, half a draw from the registry."""
    if code in REGISTRY:
        return math.log(0.5 * REGISTRY[code][3] / 100 + 0.5 / len(REGISTRY))
    return math.log(0.5 * OTHER_SHARES.get(code, 0.002) / 100)


def _yiddish(text: str) -> float:
    """Return the probability that a text in Hebrew letters is Yiddish rather than Hebrew."""
    plain = unicodedata.normalize("NFKD", text)
    # Vowel signs on alef and the digraphs as one character are standard in Yiddish only.
    marks = sum(plain.count(pair) for pair in ("אַ", "אָ", "פֿ", "ײַ", "יִ"))
    marks += sum(text.count(c) for c in "װױײ")
    bare = "".join(c for c in plain if not unicodedata.combining(c))
    words = re.findall(r"[\u05d0-\u05ea\u05f0-\u05f2]+", bare)
    letters = sum(map(len, words)) or 1
    evidence = -1.0 + min(marks, 6)
    evidence += 1.5 * sum(word in YIDDISH_WORDS or word.startswith("וו") for word in words)
    evidence -= 1.5 * sum(word in HEBREW_WORDS for word in words)
    # Endings of verbs in Yiddish; the article and the plurals in Hebrew.
    evidence += 0.7 * sum(word.endswith("ען") for word in words)
    evidence -= 0.7 * sum(
        len(word) > 3 and (word[0] == "ה" or word.endswith(("ים", "ות"))) for word in words
    )
    # Ayin writes the vowel e: about a tenth of Yiddish letters, a thirtieth of Hebrew ones.
    evidence += 5 * math.sqrt(letters) * (bare.count("ע") / letters - 0.06)
    return 1 / (1 + math.exp(-evidence))


def _code_share(words: list[str]) -> float:
    """Return the share of words (0..1) that look like program code; numbers are not counted."""
    code = sum(1 for word in words if _CODE.search(word) or _LONE.match(word))
    plain = sum(1 for word in words if any(map(str.isalpha, word)) and not _CODE.search(word))
    return code / max(1, code + plain)


_STARTS = [first for first, _, _ in SCRIPT_RANGES]


@lru_cache(maxsize=8192)
def _script(character: str) -> str:
    """Return the script of a letter or mark; empty for digits, punctuation and other scripts."""
    if unicodedata.category(character)[0] not in "LM":
        return ""
    i = bisect_right(_STARTS, ord(character)) - 1
    if i < 0 or ord(character) > SCRIPT_RANGES[i][1]:
        return ""
    return SCRIPT_RANGES[i][2]


_LOCK = threading.Lock()
_loaded: list[Any] = []


def _model() -> Any:
    """Return py3langid's identifier, loaded once (0.8 s, about 100 MB while loaded).

    Its model is an .npz inside the wheel, read with ``allow_pickle=False``: nothing is unpickled
    and nothing is downloaded. The identifier only reads its tables, so threads may share it.
    """
    if not _loaded:
        with _LOCK:
            if not _loaded:
                from py3langid import langid

                _loaded.append(langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE))
    return _loaded[0]
