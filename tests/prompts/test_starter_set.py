"""The bundled starter set: counts, alignment over languages, balance of the twins, meaning."""

import html
import json
import random
import re
import unicodedata
from collections import Counter, defaultdict
from functools import cache
from importlib import resources
from pathlib import Path
from statistics import mean, median

import pytest

from babelgate.languages import identify
from babelgate.prompts import leaks, load_prompts

LANGUAGES = ["en", "de", "fr", "es", "ru", "zh", "ja", "ar", "ko", "vi", "sw", "yo"]
TRANSLATIONS = LANGUAGES[1:]
FRAMES = {"question", "instruction", "story", "work"}
SPLIT_PAIRS = {"train": 56, "val": 28, "test": 28}
UNSPACED = {"zh", "ja"}
DENSE = {"zh", "ja", "ko"}
OTHER_SCRIPT = {"ru", "zh", "ja", "ar", "ko"}
KEYS = ("id", "language", "label", "split", "text", "category", "group_id", "pair_id", "frame")
KEYS += ("keyword", "source")
ALIGNED = [key for key in KEYS if key not in ("language", "text", "keyword")]

# English words that no other Latin-script language of the set writes ("was", "so", "plan" do exist).
_ENGLISH = (
    "the of and is with without for from that this which who how what where when why my your his "
    "her their you they it write give tell help make list show explain story scene people"
)
ENGLISH = set(_ENGLISH.split())
# A back-reading is compared by the words that carry its content.
_COMMON = (
    "a an and are as at be by can do for from how i in is it my of on or so that the to what which "
    "who with write story scene need"
)
COMMON = set(_COMMON.split())

BACK_READINGS = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "data" / "starter_back_readings.jsonl")
    .read_text(encoding="utf-8")
    .splitlines()
]


@cache
def lines(language):
    folder = resources.files("babelgate.prompts").joinpath("data", "starter")
    return folder.joinpath(f"{language}.jsonl").read_text(encoding="utf-8").splitlines()


@cache
def rows(language):
    return [json.loads(line) for line in lines(language)]


@cache
def twins(language):
    found = defaultdict(dict)
    for row in rows(language):
        if row["pair_id"]:
            found[row["pair_id"]][row["label"]] = row
    return found


def problems(row, english):
    """Name what is wrong with the text of one prompt; ``english`` is its original."""
    text, language = row["text"], row["language"]
    found = []
    if unicodedata.normalize("NFC", text) != text:
        found.append("not NFC")
    if html.unescape(text) != text:
        found.append("HTML entity")
    if text != " ".join(text.split()):
        found.append("white space")
    if row["keyword"] and row["keyword"].casefold() not in text.casefold():
        found.append("keyword missing")
    if row["label"] == "harmful" and (len(text.split()) > 40 or len(text) > 250):
        found.append("too long")
    # Amounts, temperatures and times would be a sign of operational detail.
    if row["label"] == "harmful" and re.search(r"\d", text):
        found.append("digits")
    if language in OTHER_SCRIPT and re.search("[A-Za-z]", text):
        found.append("Latin letters")
    if language != "en" and ENGLISH & set(re.findall(r"[^\W\d_]+", text.lower())):
        found.append("English word")
    low, high = (0.15, 1) if language in DENSE else (0.5, 2)
    if language != "en" and not low <= len(text) / len(english["text"]) <= high:
        found.append("length")
    return found


def test_the_loader_finds_every_language_and_no_leak_between_splits():
    prompts = load_prompts("starter")
    assert sorted(prompts.languages) == sorted(LANGUAGES)
    assert len(prompts.prompts) == 280 * len(LANGUAGES)
    assert leaks(prompts) == set()


def test_counts():
    english = rows("en")
    everyday = [row for row in english if row["category"] == "everyday"]
    assert len(english) == 280
    assert Counter(row["frame"] for row in everyday) == dict.fromkeys(FRAMES, 14)
    assert Counter(row["split"] for row in everyday) == {"train": 28, "val": 14, "test": 14}
    assert {(row["label"], row["pair_id"]) for row in everyday} == {("harmless", None)}

    pairs = twins("en")
    assert len(pairs) == 112
    assert all(set(pair) == {"harmful", "harmless"} for pair in pairs.values())
    for pair in pairs.values():
        for key in ("split", "category", "frame", "keyword"):
            assert pair["harmful"][key] == pair["harmless"][key]
    harmful = [pair["harmful"] for pair in pairs.values()]
    assert Counter(row["split"] for row in harmful) == SPLIT_PAIRS
    assert Counter(row["frame"] for row in harmful) == dict.fromkeys(FRAMES, 28)
    kinds = Counter((row["category"], row["split"]) for row in harmful)
    assert len({kind for kind, _ in kinds}) == 14
    assert all(n == SPLIT_PAIRS[split] / 14 for (_, split), n in kinds.items())


@pytest.mark.parametrize("language", LANGUAGES)
def test_translations_are_aligned(language):
    assert [json.dumps(row, ensure_ascii=False) for row in rows(language)] == lines(language)
    assert len(rows(language)) == len(rows("en"))
    for row, english in zip(rows(language), rows("en"), strict=True):
        assert tuple(row) == KEYS
        assert row["language"] == language
        assert row["group_id"] == row["id"]
        assert {key: row[key] for key in ALIGNED} == {key: english[key] for key in ALIGNED}
    assert len({row["text"].casefold() for row in rows(language)}) == len(rows(language))
    untranslated = {row["text"] for row in rows(language)} & {row["text"] for row in rows("en")}
    assert language == "en" or not untranslated


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_are_clean(language):
    found = {
        row["id"]: bad
        for row, english in zip(rows(language), rows("en"), strict=True)
        if (bad := problems(row, english))
    }
    assert found == {}


@pytest.mark.parametrize(
    ("language", "change", "problem"),
    [
        ("fr", lambda text: unicodedata.normalize("NFD", text), "not NFC"),
        ("fr", lambda text: text.replace("é", "&eacute;"), "HTML entity"),
        ("de", lambda text: text.replace(" ", "  ", 1), "white space"),
        ("de", lambda text: text.replace("killen", "töten"), "keyword missing"),
        ("en", lambda text: text + " again" * 40, "too long"),
        ("sw", lambda text: text + " 5 mg", "digits"),
        ("ko", lambda text: text + " ok", "Latin letters"),
        ("yo", lambda text: text + " Why the accident?", "English word"),
        ("ja", lambda text: text[:8], "length"),
        ("vi", lambda text: text * 3, "length"),
    ],
)
def test_the_checks_see_a_seeded_fault(language, change, problem):
    row, english = rows(language)[0], rows("en")[0]
    assert row["label"] == "harmful"
    assert problem not in problems(row, english)
    assert problem in problems(row | {"text": change(row["text"])}, english)


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_are_in_their_language(language):
    codes = Counter(identify(row["text"]).code for row in rows(language))
    total = len(rows(language))
    wrong = total - codes[language] - codes[None]
    assert codes[language] >= 0.98 * total, codes
    assert wrong <= 0.01 * total, codes


@pytest.mark.parametrize("language", LANGUAGES)
def test_keywords_are_shared_by_twins(language):
    pairs = twins(language).values()
    empty = [pair["harmful"]["id"] for pair in pairs if not pair["harmful"]["keyword"]]
    assert empty == []
    assert all(pair["harmful"]["keyword"] == pair["harmless"]["keyword"] for pair in pairs)


@pytest.mark.parametrize("language", LANGUAGES)
def test_length_does_not_give_the_label_away(language):
    def size(text):
        return len(text) if language in UNSPACED else len(text.split())

    pairs = twins(language).values()
    for measure in (len, size):
        harmful = mean(measure(pair["harmful"]["text"]) for pair in pairs)
        harmless = mean(measure(pair["harmless"]["text"]) for pair in pairs)
        assert 0.93 <= harmful / harmless <= 1.07
    longer = [len(pair["harmful"]["text"]) - len(pair["harmless"]["text"]) for pair in pairs]
    assert 0.35 <= mean((d > 0) + (d == 0) / 2 for d in longer) <= 0.65


def content(text):
    """Return the character 4-grams of the words that carry the content."""
    words = (f" {w} " for w in re.findall("[a-z]+", text.lower()) if w not in COMMON)
    return frozenset(word[i : i + 4] for word in words for i in range(max(1, len(word) - 3)))


def overlap(first, second):
    """Return Dice's coefficient of two sets."""
    return 2 * len(first & second) / (len(first) + len(second))


def test_back_readings_cover_every_translation():
    english = {row["id"]: row for row in rows("en")}
    assert Counter(line["language"] for line in BACK_READINGS) == dict.fromkeys(TRANSLATIONS, 12)
    assert len({line["id"] for line in BACK_READINGS}) == len(BACK_READINGS)
    kinds = Counter(
        (line["language"], english[line["id"]]["label"], english[line["id"]]["pair_id"] is None)
        for line in BACK_READINGS
    )
    assert set(kinds.values()) == {4}
    assert len(kinds) == 3 * len(TRANSLATIONS)


def test_back_readings_mean_what_the_english_says():
    english = {row["id"]: content(row["text"]) for row in rows("en")}
    readings = [(line["id"], content(line["back_reading"])) for line in BACK_READINGS]
    for prompt_id, reading in readings:
        scores = {other: overlap(reading, original) for other, original in english.items()}
        own = scores.pop(prompt_id)
        assert own >= 0.4, prompt_id
        assert own > max(scores.values()), prompt_id  # closer than its own twin, too
        assert own > 5 * median(scores.values()), prompt_id


def test_shuffled_back_readings_fail():
    english = {row["id"]: content(row["text"]) for row in rows("en")}
    ids = [line["id"] for line in BACK_READINGS]
    readings = [content(line["back_reading"]) for line in BACK_READINGS]
    true = mean(overlap(r, english[i]) for r, i in zip(readings, ids, strict=True))
    shuffled = []
    for seed in range(20):
        order = random.Random(seed).sample(ids, len(ids))
        shuffled.append(mean(overlap(r, english[i]) for r, i in zip(readings, order, strict=True)))
    assert len(shuffled) == 20
    assert true > 0.7
    assert max(shuffled) < 0.1
