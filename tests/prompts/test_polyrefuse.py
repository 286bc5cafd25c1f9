"""PolyRefuse's repository layout, on small files of the same form, and what aligns with what."""

import pytest
from prompt_makers import SHARED, needs_data, record

from babelgate.errors import PromptError
from babelgate.prompts import load_prompts
from babelgate.prompts.polyrefuse import group_of


def entries(language, n, *, translated=True, category=None):
    """Return entries as the repository writes them: with or without the English original."""
    text = [{"instruction_translated": f"{language} {i}"} for i in range(n)]
    english = [{"instruction": f"english {i}", "category": category} for i in range(n)]
    if translated:
        return [e | t for e, t in zip(english, text)]
    return [{"instruction": f"{language} {i}", "category": None} for i in range(n)]


@pytest.fixture
def checkout(write, tmp_path):
    write("PolyRefuse/harmful_test_translated_de.json", entries("de", 3, category="Fraud"))
    write("PolyRefuse/harmless_test_translated_de.json", entries("de", 2, translated=False))
    write("PolyRefuse/harmless_train_translated_zh.json", entries("zh", 2, translated=False))
    back = "PolyRefuse/harmful_test_back_translated/harmful_test_back_translated_de.json"
    write(back, entries("de", 1))
    write("dataset/splits_multi/harmful_test_translated_de.json", entries("stale", 3))
    write("dataset/splits_multi/jailbreakbench_test_translated_de.json", entries("jbb", 3))
    write("dataset/splits/harmful_test.json", entries("en", 3, translated=False))
    write("dataset/splits/harmless_test.json", entries("unsampled", 9, translated=False))
    write("dataset/splits/harmless_test_200_sampled.json", entries("wrong", 2, translated=False))
    write("dataset/splits/harmless_test_500_sampled.json", entries("en", 2, translated=False))
    write("dataset/processed/xstest.json", entries("xs", 1))
    return tmp_path


def test_the_repository_is_read(checkout):
    prompts = load_prompts(f"polyrefuse:{checkout}")
    assert prompts.name == "polyrefuse"
    assert prompts.counts() == {
        ("de", "test", "harmful"): 3,
        ("de", "test", "harmless"): 2,
        ("zh", "train", "harmless"): 2,
        ("en", "test", "harmful"): 3,
        ("en", "test", "harmless"): 2,
    }
    first = next(p for p in prompts if p.key == "de/harmful-test-000")
    assert (first.text, first.category, first.source) == ("de 0", "Fraud", "polyrefuse")
    assert {p.text.split()[0] for p in prompts} == {"de", "zh", "en"}
    # The same folder without the prefix, and its data folder alone.
    assert load_prompts(checkout).prompts == prompts.prompts
    assert load_prompts(f"polyrefuse:{checkout / 'PolyRefuse'}").languages == ("de", "zh")
    assert load_prompts(checkout, languages="de").languages == ("de",)


def test_groups_hold_translations_only():
    def same(a, b, label, split):
        return group_of("x", a, label, split) == group_of("x", b, label, split)

    assert same("en", "zh", "harmful", "test")
    assert same("en", "ba", "harmful", "train")
    assert same("en", "yo", "harmless", "train")
    assert not same("en", "zh", "harmless", "train")
    assert not same("en", "zh", "harmless", "val")
    assert same("en", "ba", "harmless", "test")
    assert same("de", "yo", "harmless", "test")
    assert not same("en", "de", "harmless", "test")
    assert not same("de", "sw", "harmless", "test")
    assert group_of("a", "en", "harmful", "test") != group_of("b", "en", "harmful", "test")


def test_flat_files_with_its_ids_are_aligned_too(write, tmp_path):
    for language in ("en", "de"):
        rows = [
            record(language=language, id="harmful-test-000", text=f"{language} a"),
            record(language=language, id="harmless-test-000", label="harmless", text="b"),
        ]
        write(f"flat/{language}.jsonl", rows)
    prompts = load_prompts(tmp_path / "flat")
    groups = {p.key: p.group_id for p in prompts}
    assert groups["en/harmful-test-000"] == groups["de/harmful-test-000"]
    assert groups["en/harmless-test-000"] != groups["de/harmless-test-000"]
    assert load_prompts(f"polyrefuse:{tmp_path / 'flat'}").prompts == prompts.prompts


def test_files_with_other_ids_or_own_groups_are_left_alone(write):
    for fields in ({"id": "other-1"}, {"id": "harmful-test-001", "group_id": "mine"}):
        path = write("x.jsonl", [record(**fields)])
        (prompt,) = load_prompts(path.parent)
        assert (prompt.group_id, prompt.source) == (fields.get("group_id", fields["id"]), "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ({"a": 1}, "expected a list"),
        (["text"], "entry 1: expected an object"),
        ([{"instruction": "a"}, {"instruction": ""}], "entry 2: field 'text' is"),
        ([{"category": None}], "entry 1: field 'text' is missing"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_broken_lists_are_named(write, tmp_path, content, message):
    write("harmful_test_translated_de.json", content)
    with pytest.raises(PromptError, match=message) as caught:
        load_prompts(f"polyrefuse:{tmp_path}")
    assert "harmful_test_translated_de.json" in str(caught.value)


@needs_data
def test_the_whole_set():
    prompts = load_prompts(SHARED / "polyrefuse")
    assert len(prompts) == 14 * 1771 + 1271
    assert prompts.prompts == load_prompts(f"polyrefuse:{SHARED / 'polyrefuse'}").prompts
    sizes = {}
    for prompt in prompts:
        sizes[prompt.group_id] = sizes.get(prompt.group_id, 0) + 1
    assert {n for group, n in sizes.items() if "@" not in group and "harmful" in group} == {15}
    assert {n for group, n in sizes.items() if group.endswith("@a")} == {12}
    assert {n for group, n in sizes.items() if group.endswith("@b")} == {2}
    assert sum(group.endswith("@zh") for group in sizes) == 400
