"""Prompt sets by name: files, folders, joins, selections, and what is said when they do not fit."""

import json
from importlib import resources

import pytest
from prompt_makers import record

from babelgate.errors import LanguageError, PromptError
from babelgate.prompts import load_prompts


@pytest.fixture
def folder(write, tmp_path):
    write("set/en.jsonl", [record(1), record(2, split="val")])
    write("set/zz.jsonl", [record(3, "pt-BR")])
    write("set/ar.jsonl", [record(1, "ar")])
    write("set/README.md", "not prompts")
    return tmp_path / "set"


def test_a_file_a_folder_and_a_selection(folder):
    one = load_prompts(folder / "en.jsonl")
    assert (one.name, [p.id for p in one]) == ("en", ["p1", "p2"])
    whole = load_prompts(str(folder))
    # Registry languages come first, in its order.
    assert (whole.name, whole.languages) == ("set", ("en", "ar", "pt-br"))
    assert load_prompts(folder, languages=["AR", "en"]).languages == ("en", "ar")
    assert load_prompts(folder, languages="en", splits="val").prompts == (one.prompts[1],)


def test_csv_in_a_folder(write, tmp_path):
    write("c/en.csv", "id,language,label,split,text\n1,en,harmful,test,a\n")
    assert [p.text for p in load_prompts(tmp_path / "c")] == ["a"]


def test_several_sources(folder, write, tmp_path):
    other = write("a+b.jsonl", [record(9)])
    assert load_prompts(other).name == "a+b"
    joined = load_prompts(f"{folder / 'en.jsonl'} + {folder / 'ar.jsonl'}")
    assert (joined.name, len(joined)) == ("en+ar", 3)
    assert len(load_prompts([folder, other])) == 5
    with pytest.raises(PromptError, match=r"id 'p1' is both in .*en\.jsonl' and in .*set'"):
        load_prompts([folder / "en.jsonl", folder])


def test_what_is_missing_is_named(folder, tmp_path):
    with pytest.raises(LanguageError, match="no prompts in sw; it has en, ar, pt-br"):
        load_prompts(folder, languages="en,sw")
    with pytest.raises(LanguageError, match="no prompts in ar in the splits val; it has en"):
        load_prompts(folder, languages=["ar"], splits=["val"])
    with pytest.raises(PromptError, match="no prompts in the split train"):
        load_prompts(folder, splits=["train", "test"])
    with pytest.raises(PromptError, match="'dev' is not one of train, val, test"):
        load_prompts(folder, splits="dev")
    with pytest.raises(LanguageError, match="Did you mean 'de'"):
        load_prompts(folder, languages="germna")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("startr", "Did you mean 'starter'"),
        ("polyrefus:/x", "Did you mean 'polyrefuse'"),
        ("", "names no prompt source"),
        ("starter+", "names no prompt source"),
        ([], "names no prompt source"),
        ("polyrefuse:", "no file or folder"),
        ("multijail:/does/not/exist", "no file or folder"),
        ("\0", "there is no prompt source"),
        ("x" * 5000, "there is no prompt source"),
    ],
)
def test_sources_that_do_not_exist(spec, message):
    with pytest.raises(PromptError, match=message):
        load_prompts(spec)


def test_files_that_are_not_prompts(write, tmp_path):
    with pytest.raises(PromptError, match=r"\.jsonl or \.csv"):
        load_prompts(write("x.txt", "hello"))
    with pytest.raises(PromptError, match="holds no prompts"):
        load_prompts(write("empty.jsonl", ""))
    (tmp_path / "bare").mkdir()
    with pytest.raises(PromptError, match="not a checkout"):
        load_prompts(tmp_path / "bare")


def test_a_file_named_after_another_language(write, tmp_path):
    write("wrong/de.jsonl", [record(1, "en")])
    with pytest.raises(PromptError, match="named after 'de' but prompt 'p1' is in 'en'"):
        load_prompts(tmp_path / "wrong")


def test_a_duplicate_over_two_files_of_a_folder(write, tmp_path):
    write("twice/one.jsonl", [record(1)])
    write("twice/two.jsonl", [record(1)])
    with pytest.raises(PromptError, match="twice: two prompts have language 'en' and id 'p1'"):
        load_prompts(tmp_path / "twice")


STARTER = resources.files("babelgate.prompts").joinpath("data", "starter")


@pytest.mark.skipif(not STARTER.is_dir(), reason="the starter set is not built yet")
def test_the_bundled_set_loads():
    starter = load_prompts("starter")
    assert starter.name == "starter"
    assert "en" in starter.languages
    assert load_prompts("starter", languages="en").languages == ("en",)
    raw = [json.loads(line) for line in STARTER.joinpath("en.jsonl").read_text().splitlines()]
    assert len(raw) == len(starter.select(languages=["en"]))
