"""Near duplicates against the plain definition, and what counts as equal."""

import random

import pytest
from prompt_makers import SHARED, needs_data

from babelgate.prompts.duplicates import NEAR, exact_groups, near_pairs, normalise, shingles


def naive(texts, threshold):
    """All pairs by the definition: Jaccard index of n-gram sets, one text per normalised text."""
    first = {}
    for i, text in enumerate(texts):
        first.setdefault(normalise(text), i)
    sets = [(i, shingles(text)) for text, i in first.items()]
    return {
        (i, j): len(a & b) / len(a | b)
        for x, (i, a) in enumerate(sets)
        for j, b in sets[x + 1 :]
        if len(a & b) / len(a | b) >= threshold
    }


@pytest.mark.parametrize("threshold", [0.3, 0.5, NEAR, 0.9, 1.0])
def test_the_filter_loses_nothing(threshold):
    draw = random.Random(0)
    words = ["bread", "snow", "train", "piano", "kitchen", "yellow", "sister", "egg"]
    texts = []
    for _ in range(40):
        text = draw.choices(words, k=draw.randint(1, 14))
        for changes in range(4):
            for _ in range(changes):
                text = [*text[:-1], draw.choice(words)] if changes == 1 else [*text, "s"]
            texts.append(" ".join(text))
    texts += ["", "a", "ab", "面包在哪里", "面包在那里", "どこでパンを", "どこでパンが"]
    expected = naive(texts, threshold)
    found = {(p.first, p.second): p.similarity for p in near_pairs(texts, threshold)}
    assert found == pytest.approx(expected)
    assert len(expected) > (0 if threshold == 1.0 else 3)


def test_equal_once_normalised():
    texts = ["A  b\n", "a b", "Ａ b", "a &quot;b&quot;", 'A "B"', "c"]
    assert exact_groups(texts) == [[0, 1, 2], [3, 4]]
    assert near_pairs(texts) == []


def test_worked_example():
    """'abcdefghij' and 'abcdefghik' have 6 5-grams each, 5 of them shared: 5 / 7."""
    (pair,) = near_pairs(["abcdefghij", "abcdefghik"], 0.7)
    assert pair.similarity == pytest.approx(5 / 7)
    assert near_pairs(["abcdefghij", "abcdefghik"], 0.72) == []


@needs_data
def test_the_filter_loses_nothing_on_prompts():
    from babelgate.prompts import load_prompts

    prompts = load_prompts(SHARED / "polyrefuse", languages="en", splits="test")
    texts = [p.text for p in prompts.select(label="harmful")][:400]
    found = {(p.first, p.second) for p in near_pairs(texts)}
    assert found == set(naive(texts, NEAR))
    assert found
