"""The audit on a set whose faults are known, and on PolyRefuse."""

import json

import pytest
from prompt_makers import SHARED, make, needs_data

from babelgate.errors import PromptError
from babelgate.prompts import audit, leaks, load_prompts, print_audit
from babelgate.prompts.audit import is_escaped
from babelgate.prompts.leakage import find_duplicates
from babelgate.types import PromptSet

ENGLISH = [
    "Where can I buy fresh bread near the station?",
    "How long should I boil an egg for breakfast?",
    "Please remind me to water the plants tomorrow morning.",
    "Our kitchen was painted yellow by the neighbours last weekend.",
]
GERMAN = [
    "Wo kann ich in der Nähe des Bahnhofs frisches Brot kaufen?",
    "Wie lange muss ich ein Ei zum Frühstück kochen?",
    "Bitte erinnere mich morgen früh daran, die Pflanzen zu gießen.",
    "Unsere Küche wurde am Wochenende von den Nachbarn gelb gestrichen.",
]


def prompt(language, number, text, **fields):
    return make(language, number, text=text, group_id=f"g{number}", **fields)


@pytest.fixture
def faulty():
    return PromptSet(
        "faulty",
        (
            prompt("en", 0, ENGLISH[0], split="train"),
            prompt("en", 1, ENGLISH[1], split="test"),
            prompt("en", 2, ENGLISH[2], split="test", label="harmful"),
            prompt("en", 3, ENGLISH[0].replace("near", "by"), split="test"),  # near g0
            prompt("en", 4, ENGLISH[1].upper(), split="test", label="harmful"),  # equals g1
            prompt("de", 0, GERMAN[0], split="train"),
            prompt("de", 1, GERMAN[1], split="test"),
            prompt("de", 2, ENGLISH[2], split="test", label="harmful"),  # untranslated
            prompt("de", 3, GERMAN[3], split="test"),
            prompt("de", 4, GERMAN[2] + " &quot;Bitte&quot;", split="test"),
        ),
    )


def test_duplicates_leaks_and_damage(faulty):
    result = audit(faulty)
    english, german = result.languages
    assert (english.n, english.tier, german.tier) == (5, "high", "high")
    assert (english.exact, english.exact_test, english.near, english.near_leaking) == (1, 1, 1, 1)
    assert (german.exact, german.near) == (0, 0)
    assert (german.escaped, german.untranslated, german.mismatched) == (1, 1, 1)
    assert german.mistaken_for == "en"
    exact, near = result.duplicates
    assert (exact.keys, exact.similarity, exact.labels_differ, exact.leaks) == (
        ("en/p1", "en/p4"), 1.0, True, False,
    )  # fmt: skip
    assert (near.keys, near.leaks) == (("en/p0", "en/p3"), True)
    # What English shows is left out of German too: the same requests in other words.
    assert result.leaks == ("en/p3", "en/p4", "de/p3", "de/p4")
    assert leaks(faulty) == set(result.leaks)
    assert (english.leaks, german.leaks) == (2, 2)


def test_counts(faulty):
    result = audit(faulty)
    assert [(c.language, c.split, c.label, c.n) for c in result.cells] == [
        ("en", "train", "harmless", 1),
        ("en", "test", "harmful", 2),
        ("en", "test", "harmless", 2),
        ("de", "train", "harmless", 1),
        ("de", "test", "harmful", 1),
        ("de", "test", "harmless", 3),
    ]
    assert (result.n, result.n_groups) == (10, 5)
    assert result.tiers == (("high", 10),)
    assert all(row.tokens is None for row in result.languages)


def test_a_translation_of_a_training_prompt_leaks():
    prompts = PromptSet(
        "x",
        (
            prompt("en", 0, ENGLISH[0], split="train"),
            prompt("de", 0, GERMAN[0], split="test"),
            prompt("de", 1, GERMAN[1], split="test"),
        ),
    )
    assert leaks(prompts) == {"de/p0"}
    assert audit(prompts).shared_groups == ("g0",)


def test_the_same_test_group_stays_in_every_language():
    """In German the later group comes first in the set; what stays is decided once."""
    prompts = PromptSet(
        "x",
        (
            prompt("en", 0, ENGLISH[0], split="test"),
            prompt("en", 1, ENGLISH[0], split="test"),
            prompt("de", 1, GERMAN[0], split="test"),
            prompt("de", 0, GERMAN[0], split="test"),
        ),
    )
    assert leaks(prompts) == {"en/p1", "de/p1"}


def test_repeats_within_one_group():
    same = [
        make("en", i, text=ENGLISH[0], group_id="g", split="test", id=f"p{i}") for i in range(3)
    ]
    assert leaks(PromptSet("x", tuple(same))) == {"en/p1", "en/p2"}


def test_twins_are_no_near_duplicates_but_equal_texts_are_duplicates():
    text = "How can I kill a Python process that does not answer?"
    pair = {"pair_id": "t1", "split": "test"}
    twins = (
        prompt("en", 0, text, label="harmless", **pair),
        prompt("en", 1, text.replace("process", "programmer"), label="harmful", **pair),
    )
    assert find_duplicates(PromptSet("x", twins), 0.5) == ()
    alone = (twins[0], prompt("en", 1, twins[1].text, label="harmful", split="test"))
    assert len(find_duplicates(PromptSet("x", alone), 0.5)) == 1
    equal = (twins[0], prompt("en", 1, text, label="harmful", **pair))
    assert find_duplicates(PromptSet("x", equal))[0].labels_differ


def test_token_costs():
    """English: 'aa bb' 5 and 'cc' 2 characters. Chinese: 4 and 3 for the same two groups."""
    prompts = PromptSet(
        "x",
        (
            prompt("en", 0, "aa bb"),
            prompt("en", 1, "cc"),
            prompt("zh", 0, "去车站吗"),
            prompt("zh", 1, "好面包"),
            prompt("zh", 2, "去吧"),
        ),
    )
    result = audit(prompts, count_tokens=lambda texts: [len(t) for t in texts])
    english, chinese = (row.tokens for row in result.languages)
    assert english is not None
    assert chinese is not None
    assert (english.mean, english.unit, english.versus_english) == (3.5, "word", 1.0)
    assert english.fertility == pytest.approx(7 / 3)
    assert (chinese.mean, chinese.unit, chinese.fertility) == (3.0, "character", 1.0)
    assert chinese.versus_english == pytest.approx(7 / 7)
    assert chinese.n_aligned == 2
    with pytest.raises(PromptError, match="1 counts for 5 texts"):
        audit(prompts, count_tokens=lambda texts: [1])


@pytest.mark.parametrize(
    ("text", "escaped"),
    [("a &quot;b&quot;", True), ("it&#39;s", True), ("&#x27;", True), ("R&D; AT&T", False),
     ("a & b", False), ("&unknown;", False)],
)  # fmt: skip
def test_entities(text, escaped):
    assert is_escaped(text) is escaped


def test_json_and_print(faulty, capsys):
    result = audit(faulty, count_tokens=lambda texts: [len(t.split()) for t in texts])
    document = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert document["schema"] == 1
    assert document["tiers"] == {"high": 10}
    assert document["languages"][1]["mistaken_for"] == "en"
    print_audit(result)
    shown = capsys.readouterr()
    assert "faulty: 10 prompts in 5 groups" in shown.out
    assert "x English" in shown.out
    assert "both labels: en/p1, en/p4" in shown.err


def test_an_empty_set():
    assert audit(PromptSet("none", ())).n == 0


@needs_data
def test_polyrefuse_in_three_languages():
    prompts = load_prompts(SHARED / "polyrefuse", languages="en,zh,ba")
    result = audit(prompts)
    rows = {row.language: row for row in result.languages}
    assert rows["en"].exact_test == 10
    assert rows["en"].near_leaking == 16
    assert rows["ba"].escaped == 94
    assert all(row.mismatched <= 0.002 * row.n for row in result.languages)
    harmful = {key.partition("/")[2] for key in result.leaks if "harmful" in key}
    assert {f"{code}/{i}" for code in rows for i in harmful} <= set(result.leaks)
