"""Prompt files: what is read, what is refused and how, and that writing round-trips."""

import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prompt_makers import make, record

from babelgate.errors import PromptError
from babelgate.prompts.jsonl import FIELDS, read_csv, read_jsonl, write_prompts
from babelgate.types import LABELS, SPLITS, Prompt


def lines(*records) -> bytes:
    return "\n".join(json.dumps(r) for r in records).encode()


def test_reads_fields_and_keeps_unknown_keys():
    (prompt,) = read_jsonl(
        lines(record(7, "jw", id=7, group_id=12, pair_id="t1", frame="how", focus=[1, None])), "f"
    )
    assert (prompt.id, prompt.language, prompt.group_id, prompt.pair_id) == ("7", "jv", "12", "t1")
    assert dict(prompt.extra) == {"frame": "how", "focus": [1, None]}


def test_defaults():
    (prompt,) = read_jsonl(lines(record(category=None, group_id=None, pair_id="")), "f")
    assert (prompt.group_id, prompt.category, prompt.pair_id, prompt.source) == (
        "p0", None, None, "",
    )  # fmt: skip


def test_byte_order_mark_blank_lines_and_line_separators():
    first, second = (json.dumps(record(i, text=f"a\u2028b{i}"), ensure_ascii=False) for i in (1, 2))
    data = f"\ufeff{first}\r\n\n   \n{second}".encode()
    assert [p.text for p in read_jsonl(data, "f")] == ["a\u2028b1", "a\u2028b2"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"text": None}, "field 'text' is missing"),
        ({"text": "  \n"}, "field 'text' is empty"),
        ({"id": " "}, "field 'id' is empty"),
        ({"id": True}, "field 'id' should be text, not bool"),
        ({"id": 1.5}, "field 'id' should be text, not float"),
        ({"text": ["a"]}, "field 'text' should be text, not list"),
        ({"category": {}}, "field 'category' should be text, not dict"),
        ({"label": "harmfull"}, "'harmfull', not one of harmful, harmless. Did you mean 'harmful'"),
        ({"split": "dev"}, "field 'split' is 'dev', not one of train, val, test"),
        ({"language": "klingon"}, "field 'language': 'klingon' is not a language code"),
    ],
)
def test_a_bad_field_is_named_with_file_and_line(bad, message):
    with pytest.raises(PromptError) as caught:
        read_jsonl(lines(record(0), record(1, **bad)), "set.jsonl")
    assert str(caught.value).startswith("set.jsonl, line 2: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "not JSON"),
        (b"[1]", "expected an object"),
        (b"null", "expected an object"),
        (b'{"id": NaN}', "NaN is not a JSON number"),
        (b'{"id": -Infinity}', "-Infinity is not"),
        (b'{"id": 1e999}', "too large"),
        (b'{"id": 1, "id": 2}', "'id' is given twice"),
        (b'{"id": "\\ud800"}', "half a character"),
        (b"[" * 100_000, "not JSON"),
        (b'{"id": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"id": "\xff"}', "not UTF-8"),
    ],
)
def test_a_broken_line_is_named(line, message):
    with pytest.raises(PromptError) as caught:
        read_jsonl(lines(record(0)) + b"\n\n" + line, "set.jsonl")
    assert str(caught.value).startswith("set.jsonl, line 3: ")
    assert message in str(caught.value)


def test_utf16_is_refused():
    with pytest.raises(PromptError, match="not UTF-8"):
        read_jsonl(json.dumps(record()).encode("utf-16"), "f")


def test_same_id_in_one_language_is_refused_and_in_two_is_not():
    assert len(read_jsonl(lines(record(1), record(1, "de")), "f")) == 2
    with pytest.raises(PromptError, match="'p1'"):
        read_jsonl(lines(record(1, "zh-CN"), record(1, "zh")), "f")


def test_csv():
    data = (
        "\ufeffid,language,label,split,text,category,level\r\n"
        '1,en,harmful,test,"a, b\r\nc",,3\r\n'
        "\r\n"
        "2,en,harmless,val,d,x,\r\n"
    ).encode()
    first, second = read_csv(data, "f.csv")
    assert (first.text, first.category, dict(first.extra)) == ("a, b\r\nc", None, {"level": "3"})
    assert (second.category, dict(second.extra)) == ("x", {"level": None})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,id\n1,2\n", "equal names"),
        ("id,,text\n1,2,3\n", "empty"),
        ("id,text\n1,a,b\n", "line 2: 3 cells where the header has 2"),
        ("id,text\n1,a\n", "field 'language' is missing"),
        ('id,text\n1,"a\n', "not a CSV table"),
        ("id,text\n1," + "a" * 200_000, "not a CSV table"),
    ],
)
def test_broken_csv_is_named(text, message):
    with pytest.raises(PromptError, match=message):
        read_csv(text.encode(), "f.csv")


ANY_LINE = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=40).map(str.encode),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*FIELDS, "x"]), inner, max_size=9),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries(
        {"id": st.text(max_size=3), "language": st.sampled_from(["en", "jw", "??"]),
         "label": st.sampled_from([*LABELS, ""]), "split": st.sampled_from(SPLITS),
         "text": st.text(max_size=9)}
    ).map(lambda value: json.dumps(value).encode()),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(ANY_LINE, max_size=4))
def test_any_bytes_give_prompts_or_a_prompt_error(parts):
    for read in (read_jsonl, read_csv):
        message, prompts = "f", []
        try:
            prompts = read(b"\n".join(parts), "f")
        except PromptError as error:
            message = str(error)
        assert message.startswith("f")
        assert all(isinstance(p, Prompt) for p in prompts)


NAME = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6).filter(str.strip)
JSON_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | NAME,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAME, inner, max_size=2),
    max_leaves=4,
)  # fmt: skip
PROMPT = st.builds(
    Prompt,
    id=NAME,
    language=st.sampled_from(["en", "sw", "pt-br"]),
    text=NAME,
    label=st.sampled_from(LABELS),
    split=st.sampled_from(SPLITS),
    group_id=st.just("") | NAME,
    category=st.none() | NAME | st.just(""),
    source=st.just("") | NAME,
    pair_id=st.none() | NAME,
    extra=st.dictionaries(NAME.filter(lambda k: k not in FIELDS), JSON_VALUE, max_size=2),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(PROMPT, max_size=4, unique_by=lambda p: p.key))
def test_writing_round_trips(tmp_path_factory, prompts):
    path = tmp_path_factory.mktemp("written") / "set.jsonl"
    write_prompts(path, prompts)
    assert read_jsonl(path.read_bytes(), "set") == prompts


def test_writing_is_atomic(tmp_path):
    path = tmp_path / "new" / "set.jsonl"
    write_prompts(path, [make(number=1)])
    before = path.read_bytes()
    for bad in (
        make(extra={"x": float("nan")}),
        make(extra={"x": object()}),
        make(extra={"text": "y"}),
        make(text="\ud800"),
    ):
        with pytest.raises(PromptError):
            write_prompts(path, [make(number=2), bad])
        assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["set.jsonl"]


def test_writing_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PromptError, match="cannot write"):
        write_prompts(tmp_path / "file" / "set.jsonl", [make()])
