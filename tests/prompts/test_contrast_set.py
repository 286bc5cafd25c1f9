"""The bundled contrast set: twins for training only, aligned over languages, new to other sets."""

import json
import unicodedata
from collections import Counter
from functools import cache
from importlib import resources
from statistics import mean

import pytest

from babelgate.languages import identify
from babelgate.prompts import load_prompts
from babelgate.prompts.duplicates import near_pairs

LANGUAGES = ["en", "de", "fr", "es", "ru", "zh", "ja"]
PAIRS = {language: 62 for language in LANGUAGES} | {"en": 313}
FORMS = {
    "homonym": 55, "target": 54, "figurative": 46, "request": 40, "context": 39, "definition": 27,
    "group": 19, "history": 19, "person": 14,
}  # fmt: skip
KEYS = ("id", "language", "label", "split", "text", "category", "group_id", "pair_id", "form")
KEYS += ("source",)
ALIGNED = [key for key in KEYS if key not in ("language", "text")]


@cache
def rows(language):
    folder = resources.files("babelgate.prompts").joinpath("data", "contrast")
    lines = folder.joinpath(f"{language}.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    assert [json.dumps(row, ensure_ascii=False) for row in found] == lines
    return found


def test_the_loader_finds_every_language_and_only_train():
    prompts = load_prompts("contrast")
    assert list(prompts.languages) == [x for x in load_prompts("starter").languages if x in PAIRS]
    assert {p.split for p in prompts} == {"train"}
    assert {p.source for p in prompts} == {"contrast"}
    assert Counter(p.language for p in prompts) == {x: 2 * n for x, n in PAIRS.items()}
    assert len(load_prompts("starter+contrast", languages="en")) == 280 + 626


@pytest.mark.parametrize("language", LANGUAGES)
def test_pairs_are_whole_and_aligned_with_english(language):
    english = {row["id"]: row for row in rows("en")}
    pairs = Counter((row["pair_id"], row["label"]) for row in rows(language))
    assert len(pairs) == 2 * PAIRS[language]
    assert set(pairs.values()) == {1}
    for row in rows(language):
        assert tuple(row) == KEYS
        assert {key: row[key] for key in ALIGNED} == {
            key: english[row["id"]][key] for key in ALIGNED
        }
        text = row["text"]
        assert unicodedata.normalize("NFC", text) == text == " ".join(text.split())
        assert not any(c.isdigit() for c in text)
    assert len({row["text"].casefold() for row in rows(language)}) == len(rows(language))


def test_forms():
    forms = Counter(row["form"] for row in rows("en") if row["label"] == "harmful")
    assert forms == FORMS
    assert len({row["category"] for row in rows("en")}) == 14


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_are_in_their_language_and_length_does_not_tell(language):
    wrong = [r["text"] for r in rows(language) if identify(r["text"]).code not in (language, None)]
    assert len(wrong) <= 0.02 * len(rows(language)), wrong
    size = {
        label: mean(len(row["text"]) for row in rows(language) if row["label"] == label)
        for label in ("harmful", "harmless")
    }
    assert 0.9 <= size["harmful"] / size["harmless"] <= 1.1


def test_no_near_duplicates_of_the_starter_set():
    """What is trained on here is not what the starter set's val and test splits ask."""
    for language in LANGUAGES:
        own = [row["text"] for row in rows(language)]
        others = [p.text for p in load_prompts("starter", languages=language)]
        pairs = near_pairs([*own, *others], 0.5)
        assert [p for p in pairs if p.first < len(own) <= p.second] == [], language
