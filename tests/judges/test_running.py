"""Judging that survives a kill: what is asked, what is kept, what is stale."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from babelgate.errors import JudgeError, StoreError
from babelgate.judges import Reply, get_judge, running
from babelgate.judges.base import FAILED, StreamingJudge
from babelgate.judges.running import judge_all, reply_key, stream

from .made import reply


def replies(n: int, start: int = 0) -> list[Reply]:
    return [reply(f"text {i}", id=f"p{i}") for i in range(start, start + n)]


class Plain:
    """Judges by parity of the text's number; remembers what it was asked; breaks as told."""

    languages = frozenset({"en"})

    def __init__(self, name="plain", version="1", *, breaks_after=None, fails=()):
        self.name, self.version = name, version
        self.breaks_after, self.fails = breaks_after, set(fails)
        self.asked: list[str] = []

    def describe(self):
        return {"name": self.name, "version": self.version, "languages": ["en"], "note": ""}

    def judge(self, replies):
        return [self.one(r) for r in replies]

    def one(self, r):
        if len(self.asked) == self.breaks_after:
            raise JudgeError("no connection")
        text = r.completion.text
        self.asked.append(text)
        if text in self.fails:
            return r.verdict(self.name, "unparsed", f"{FAILED}HTTP 500")
        odd = int(text.split()[1]) % 2
        return r.verdict(self.name, "refused" if odd else "answered", f"said {text}", odd / 2)


class Streaming(Plain):
    def stream(self, replies):
        for i in reversed(range(len(replies))):
            yield i, self.one(replies[i])


KINDS = [Plain, Streaming]


@pytest.fixture(autouse=True)
def _small_portions(monkeypatch):
    monkeypatch.setattr(running, "_CHUNK", 4)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "run" / "verdicts.jsonl"


def lines(file) -> list[dict]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


@pytest.mark.parametrize("kind", KINDS)
def test_verdicts_in_order_and_on_disk(kind, file):
    judge, given = kind(), replies(11)
    found = judge_all(judge, given, file)
    assert [v.prompt_id for v in found] == [f"p{i}" for i in range(11)]
    assert [v.outcome for v in found] == ["answered", "refused"] * 5 + ["answered"]
    assert [v.raw for v in found] == [f"said text {i}" for i in range(11)]
    assert [v.p_refusal for v in found] == [0.0, 0.5] * 5 + [0.0]
    kept = lines(file)
    assert {line["key"] for line in kept} == {reply_key(judge, r) for r in given}
    assert len(kept) == 11


def test_streaming_and_plain_judges_give_the_same(tmp_path):
    given = replies(10)
    plain = judge_all(Plain(), given, tmp_path / "a.jsonl")
    streamed = judge_all(Streaming("plain"), given, tmp_path / "b.jsonl")
    assert isinstance(Streaming(), StreamingJudge)
    assert not isinstance(Plain(), StreamingJudge)
    assert plain == streamed
    by_key = lambda rows: sorted(rows, key=lambda row: row["key"])  # noqa: E731
    assert by_key(lines(tmp_path / "a.jsonl")) == by_key(lines(tmp_path / "b.jsonl"))


def test_portions(file):
    sizes = [len(portion) for portion in stream(Plain(), replies(10))]
    assert sizes == [4, 4, 2]
    indices = [i for portion in stream(Plain(), replies(10)) for i, _ in portion]
    assert indices == list(range(10))
    assert list(stream(Plain(), [])) == []
    assert judge_all(Plain(), [], file) == []


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_finished_is_not_asked_again(kind, file):
    first = judge_all(kind(), replies(6), file)
    again = kind()
    assert judge_all(again, replies(6), file) == first
    assert again.asked == []
    more = kind()
    assert judge_all(more, replies(9), file)[:6] == first
    assert sorted(more.asked) == ["text 6", "text 7", "text 8"]
    # Fewer, and in another order: still nothing to ask, and nothing is lost.
    fewer = kind()
    found = judge_all(fewer, replies(9)[::-2], file)
    assert [v.prompt_id for v in found] == ["p8", "p6", "p4", "p2", "p0"]
    assert fewer.asked == []
    aside = {line["prompt_id"]: line.get("set_aside", False) for line in lines(file)}
    assert aside == {f"p{i}": i % 2 == 1 for i in range(9)}
    everything = kind()
    assert judge_all(everything, replies(9), file)[:6] == first
    assert everything.asked == []
    assert len(lines(file)) == 9
    assert not any("set_aside" in line for line in lines(file))


def test_fewer_methods_lose_no_verdicts(file):
    """A method that is left out once is not judged again when it comes back."""
    both = [
        reply(f"text {i}{j}", id=f"p{i}", method=method)
        for i in range(4)
        for j, method in enumerate(("base", "gate"))
    ]
    first = judge_all(Plain(), both, file)
    base = judge_all(Plain(), both[::2], file)
    assert base == first[::2]
    again = Plain()
    assert judge_all(again, both, file) == first
    assert again.asked == []


@pytest.mark.parametrize(("kind", "kept"), [(Plain, 4), (Streaming, 6)])
def test_what_was_made_before_it_broke_is_kept(kind, kept, file):
    with pytest.raises(JudgeError):
        judge_all(kind(breaks_after=6), replies(10), file)
    assert len(lines(file)) == kept
    again = kind()
    found = judge_all(again, replies(10), file)
    assert len(again.asked) == 10 - kept
    assert found == judge_all(kind(), replies(10), file.with_name("fresh.jsonl"))


def test_another_version_makes_all_verdicts_stale(file):
    judge_all(Plain(), replies(5), file)
    newer = Plain(version="2")
    judge_all(newer, replies(5), file)
    assert len(newer.asked) == 5
    assert {line["key"] for line in lines(file)} == {reply_key(newer, r) for r in replies(5)}
    assert len(lines(file)) == 5


@pytest.mark.parametrize(
    "change", [{"text": "text 70"}, {"stop_reason": "length"}, {"n_tokens": 49}]
)
def test_a_changed_reply_is_judged_again(file, change):
    before = replies(5)
    judge_all(Plain(), before, file)
    changed = Reply(before[2].prompt, replace(before[2].completion, **change))
    judge = Plain()
    judge_all(judge, [*before[:2], changed, *before[3:]], file)
    assert judge.asked == [changed.completion.text]
    assert len(lines(file)) == 5
    assert {line["key"] for line in lines(file)} == {
        reply_key(judge, r) for r in [*before[:2], changed, *before[3:]]
    }


def test_a_changed_prompt_is_judged_again(file):
    judge_all(Plain(), [reply("text 1", prompt="one")], file)
    judge = Plain()
    judge_all(judge, [reply("text 1", prompt="other")], file)
    assert judge.asked == ["text 1"]


def test_other_judges_lines_stay(file):
    judge_all(Plain("one"), replies(3), file)
    ones = file.read_bytes()
    judge_all(Plain("two"), replies(4), file)
    assert file.read_bytes().startswith(ones)
    judge_all(Plain("two", version="2"), replies(2), file)
    assert [line for line in lines(file) if line["judge"] == "one"] == [
        json.loads(line) for line in ones.splitlines()
    ]
    one = Plain("one")
    judge_all(one, replies(3), file)
    assert one.asked == []
    # Two of version 2, and two of version 1 that nobody asked about.
    twos = [line for line in lines(file) if line["judge"] == "two"]
    assert [line.get("set_aside", False) for line in twos] == [True, True, False, False]


@pytest.mark.parametrize("kind", KINDS)
def test_what_failed_is_returned_and_asked_again(kind, file):
    judge = kind(fails=["text 1", "text 3"])
    found = judge_all(judge, replies(5), file)
    assert [v.outcome for v in found] == [
        "answered", "unparsed", "answered", "unparsed", "answered",
    ]  # fmt: skip
    assert found[1].raw == "failed: HTTP 500"
    assert len(lines(file)) == 3
    assert not any(line["raw"].startswith(FAILED) for line in lines(file))
    again = kind()
    found = judge_all(again, replies(5), file)
    assert sorted(again.asked) == ["text 1", "text 3"]
    assert found[1].outcome == "refused"


def test_equal_replies_are_asked_about_once(file):
    """Several methods often leave a reply unchanged."""
    given = [reply("text 1", id="p1", method=m) for m in ("none", "gate")] + [
        reply("text 1", id="p2"), reply("text 2", id="p3"),
    ]  # fmt: skip
    judge = Plain()
    found = judge_all(judge, given, file)
    assert judge.asked == ["text 1", "text 2"]
    assert [(v.prompt_id, v.method) for v in found] == [
        ("p1", "none"), ("p1", "gate"), ("p2", "none"), ("p3", "none"),
    ]  # fmt: skip
    assert [v.outcome for v in found] == ["refused", "refused", "refused", "answered"]
    assert len(lines(file)) == 2
    assert judge_all(Plain(), given, file) == found


@pytest.mark.parametrize("kind", KINDS)
def test_progress_adds_up_to_the_number_of_replies(kind, file):
    given = [reply(f"text {i % 5}", id=f"p{i}") for i in range(17)]
    steps: list[int] = []
    judge_all(kind(), given, file, on_verdicts=steps.append)
    assert sum(steps) == 17
    assert steps[0] == 0
    again: list[int] = []
    judge_all(kind(), given, file, on_verdicts=again.append)
    assert again == [17]
    # Half of it known, with copies on both sides.
    half: list[int] = []
    more = [*given, *(reply(f"text {i % 3 + 7}", id=f"q{i}") for i in range(8))]
    judge_all(kind(), more, file, on_verdicts=half.append)
    assert half[0] == 17
    assert sum(half) == 25


def test_progress_counts_what_failed(file):
    steps: list[int] = []
    judge_all(Plain(fails=["text 1"]), replies(3), file, on_verdicts=steps.append)
    assert sum(steps) == 3


@pytest.mark.parametrize("torn", [b'{"language": "en", "prom', b"{", b"\xff\xfe", b'{"a": "\xc3'])
def test_a_torn_last_line_is_dropped(file, torn):
    first = judge_all(Plain(), replies(4), file)
    content = file.read_bytes()
    file.write_bytes(content + torn)
    judge = Plain()
    assert judge_all(judge, replies(4), file) == first
    assert judge.asked == []
    more = Plain()
    judge_all(more, replies(6), file)
    assert more.asked == ["text 4", "text 5"]
    assert file.read_bytes().startswith(content)
    assert len(lines(file)) == 6


def test_a_line_torn_in_the_middle_of_a_verdict_is_judged_again(file):
    first = judge_all(Plain(), replies(4), file)
    file.write_bytes(file.read_bytes()[:-20])
    judge = Plain()
    assert judge_all(judge, replies(4), file) == first
    assert judge.asked == ["text 3"]
    assert len(lines(file)) == 4


def test_a_whole_last_line_without_its_newline_is_kept(file):
    first = judge_all(Plain(), replies(4), file)
    file.write_bytes(file.read_bytes()[:-1])
    judge = Plain()
    assert judge_all(judge, replies(5), file)[:4] == first
    assert judge.asked == ["text 4"]
    assert len(lines(file)) == 5


@pytest.mark.parametrize(
    "damage",
    [b"garbage\n", b'{"no": "verdict"}\n', b"[1]\n", b"\xff\xfe\n", b'{"judge": "plain"}\n'],
)
def test_a_damaged_line_names_the_file_and_the_line(file, damage):
    judge_all(Plain(), replies(3), file)
    content = file.read_bytes()
    file.write_bytes(content[: content.index(b"\n") + 1] + damage + content)
    with pytest.raises(StoreError, match=r"verdicts\.jsonl, line 2"):
        judge_all(Plain(), replies(3), file)


def test_a_verdict_twice_in_the_file_counts_once(file):
    first = judge_all(Plain(), replies(3), file)
    file.write_bytes(file.read_bytes() * 2)
    steps: list[int] = []
    assert judge_all(Plain(), replies(3), file, on_verdicts=steps.append) == first
    assert steps == [3]
    assert len(lines(file)) == 3


@pytest.mark.parametrize("name", ["embedded", "lexicon"])
def test_the_packages_own_judges_resume_to_the_same(name, file):
    given = [
        reply(t, id=f"p{i}") for i, t in enumerate(["I can't help with that.", "", "Paris."] * 4)
    ]
    first = judge_all(get_judge(name), given, file)
    assert judge_all(get_judge(name), given, file) == first
    assert [v.outcome for v in first[:2]] == ["refused", "degenerate"]
    assert first[1].p_refusal is None
