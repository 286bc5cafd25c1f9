import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from babelgate.errors import UserError
from babelgate.judges.reply_files import UNKNOWN_PROMPT, read_reply_files


def write(path, *rows):
    path.write_bytes(
        b"".join(
            (r if isinstance(r, bytes) else json.dumps(r, ensure_ascii=False).encode()) + b"\n"
            for r in rows
        )
    )
    return path


def row(**changes):
    return {"id": "1", "language": "de", "response": "Das kann ich nicht.", **changes}


def test_every_field_is_read(tmp_path):
    full = row(prompt="Wie?", model="m", stop_reason="length", n_tokens=7, refusal=1)
    found = read_reply_files([write(tmp_path / "a.jsonl", full)], against="refusal")
    (reply,) = found.replies
    assert (reply.prompt.key, reply.prompt.text) == ("de/1", "Wie?")
    made = reply.completion
    assert (made.text, made.method, made.stop_reason) == ("Das kann ich nicht.", "m", "length")
    assert made.n_tokens == 7
    assert found.labels == (1,)
    assert found.where == (f"{tmp_path / 'a.jsonl'}, line 1",)
    assert found.notes == ()


def test_a_run_folders_completions_are_read(tmp_path):
    line = {"language": "sw", "prompt_id": "p", "method": "gate", "text": "Ndiyo.", "n_tokens": 3,
            "stop_reason": "eos", "fired": True}  # fmt: skip
    (reply,) = read_reply_files([write(tmp_path / "c.jsonl", line)]).replies
    assert (reply.completion.key, reply.completion.method) == ("sw/p", "gate")
    assert reply.prompt.text == UNKNOWN_PROMPT


def test_prompts_are_looked_up_by_language_and_id(tmp_path):
    file = write(tmp_path / "a.jsonl", row(), row(id="2"), row(prompt="given"))
    texts = {("de", "1"): "found"}
    found = read_reply_files([file], prompt_text=lambda language, id_: texts.get((language, id_)))
    assert [r.prompt.text for r in found.replies] == ["found", UNKNOWN_PROMPT, "given"]


def test_language_comes_from_the_line_then_the_option_then_the_texts(tmp_path):
    swahili = "Habari za asubuhi, ninaomba msaada wako kuhusu kazi hii ya nyumbani leo."
    lines = [row(), row(language=None), row(language=None, prompt=swahili, response="ok")]
    file = write(tmp_path / "a.jsonl", *lines)
    assert [r.prompt.language for r in read_reply_files([file]).replies][::2] == ["de", "sw"]
    given = read_reply_files([file], language="pl")
    assert [r.prompt.language for r in given.replies] == ["de", "pl", "pl"]
    assert "the language of 2 replies was identified" in read_reply_files([file]).notes[0]
    assert given.notes[0].startswith("1 replies repeat an id")


def test_a_language_nobody_knows_stays_and_one_nobody_can_tell_is_und(tmp_path):
    lines = [row(language="klingon"), row(language=None, response="12345", id="2")]
    found = read_reply_files([write(tmp_path / "a.jsonl", *lines)]).replies
    assert [r.prompt.language for r in found] == ["klingon", "und"]


def test_not_utf8_is_replaced_and_counted(tmp_path):
    bad = b'{"language": "de", "response": "Entschuldigung, \xff nein"}'
    found = read_reply_files([write(tmp_path / "a.jsonl", bad)])
    assert "�" in found.replies[0].completion.text
    assert found.notes[0].startswith("1 lines are not UTF-8")


def test_lone_surrogates_and_empty_replies_are_replies(tmp_path):
    lines = [b'{"language": "en", "response": "\\ud800 hi"}', row(response="")]
    found = read_reply_files([write(tmp_path / "a.jsonl", *lines)]).replies
    assert [r.completion.text for r in found] == ["\ud800 hi", ""]


@pytest.mark.parametrize("value", [1, 0, True, False, 1.0, "1", "0", "true", "No"])
def test_labels(tmp_path, value):
    found = read_reply_files([write(tmp_path / "a.jsonl", row(y=value))], against="y")
    assert found.labels == (int(value in (1, True, "1", "true")),)


@pytest.mark.parametrize("value", [2, -1, 0.5, "maybe", [1], {"a": 1}])
def test_labels_outside_0_and_1_are_one_error(tmp_path, value):
    file = write(tmp_path / "a.jsonl", row(y=1), row(y=value))
    with pytest.raises(UserError, match=r"a\.jsonl, line 2: field 'y' is .* not 0 or 1"):
        read_reply_files([file], against="y")


def test_missing_labels_are_counted_and_none_at_all_is_an_error(tmp_path):
    file = write(tmp_path / "a.jsonl", row(y=1), row(id="2"), row(id="3", y=None))
    found = read_reply_files([file], against="y")
    assert found.labels == (1, None, None)
    assert found.notes == ("2 replies have no 'y'; they are in no agreement",)
    with pytest.raises(UserError, match="no line has the field 'z'"):
        read_reply_files([file], against="z")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "line 2 is not JSON"),
        (b"[1]", "should be a JSON object, not list"),
        (b'{"language": "de"}', "none of the fields response, text, completion"),
        (b'{"response": 3}', "field 'response' should be text, not int"),
        (b'{"response": null}', "field 'response' should be text, not NoneType"),
        (b'{"response": "a", "language": 4}', "field 'language' should be text"),
        (b'{"response": "a", "prompt": ["x"]}', "field 'prompt' should be text"),
        (b"[" * 100000, "is not JSON"),
    ],
)
def test_a_bad_line_names_file_line_and_field(tmp_path, line, said):
    file = write(tmp_path / "a.jsonl", row(), line)
    with pytest.raises(UserError, match=r"a\.jsonl, line 2") as error:
        read_reply_files([file])
    assert said in str(error.value)


def test_files_that_are_missing_or_empty(tmp_path):
    with pytest.raises(UserError, match=r"gone\.jsonl"):
        read_reply_files([tmp_path / "gone.jsonl"])
    with pytest.raises(UserError, match="has no replies"):
        read_reply_files([write(tmp_path / "a.jsonl", row()), write(tmp_path / "b.jsonl", b" ")])


def outcome_of(files, **options):
    """Return (what the error says, None) or (None, the replies)."""
    try:
        return None, read_reply_files(files, **options)
    except UserError as error:
        return str(error), None


@given(st.binary(max_size=80))
def test_any_bytes_are_replies_or_a_user_error(tmp_path_factory, data):
    file = tmp_path_factory.getbasetemp() / "fuzz.jsonl"
    file.write_bytes(data)
    error, found = outcome_of([file], against="y")
    assert error is None or "fuzz.jsonl" in error or "field 'y'" in error
    assert error is not None or found.replies


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=3,
)
names = st.sampled_from(
    [
        "response",
        "text",
        "language",
        "prompt",
        "id",
        "model",
        "label",
        "stop_reason",
        "n_tokens",
        "y",
    ]
)


@given(st.dictionaries(names, values))
def test_any_object_is_a_reply_or_a_user_error(tmp_path_factory, line):
    file = tmp_path_factory.getbasetemp() / "fuzz2.jsonl"
    file.write_text(json.dumps(line) + "\n")
    error, found = outcome_of([file])
    assert error is None or "line 1" in error
    if found is not None:
        assert found.replies[0].completion.text == line.get("response", line.get("text"))
