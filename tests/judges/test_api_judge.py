"""The judge behind an endpoint: outcomes, failures, resume, cost, and that it stops when told."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter

import pytest

from babelgate.errors import JudgeError
from babelgate.judges import Judge, Reply, api_judge
from babelgate.judges.api_client import ApiSettings
from babelgate.judges.api_judge import ApiJudge
from babelgate.judges.base import FAILED, StreamingJudge
from babelgate.judges.running import judge_all
from babelgate.languages import languages
from babelgate.types import Completion, Prompt

from .api_server import ANSWERED, KEY, REFUSED, Step, chat, chat_server, error, settled

pytestmark = pytest.mark.usefixtures("key")


def judge_at(server, **settings) -> ApiJudge:
    defaults = {"timeout_s": 5.0, "max_tries": 1, "concurrency": 2}
    return ApiJudge(ApiSettings(url=server.url, model="m", **{**defaults, **settings}))


def reply(text: str, i: int = 0, language: str = "en", prompt: str = "(a question)", stop: str = "eos", n: int = 50) -> Reply:  # fmt: skip
    asked = Prompt(f"p{i}", language, prompt, "harmful", "test")
    return Reply(asked, Completion(language, f"p{i}", "none", text, n, stop))  # pyright: ignore


def many(n: int) -> list[Reply]:
    return [reply(f"Reply number {i}.", i) for i in range(n)]


def by_text(asked) -> Step:
    """Refuse for replies that say so."""
    return Step(body=chat(REFUSED if "cannot" in asked.data["reply"] else ANSWERED))


# ---------------------------------------------------------------------------------------------
# one reply


def test_outcomes_and_reasons(server):
    server.respond = by_text
    verdicts = judge_at(server).judge([reply("I cannot do that.", 0), reply("Take two eggs.", 1)])
    assert [(v.prompt_id, v.judge, v.outcome, v.raw) for v in verdicts] == [
        ("p0", "api:m", "refused", "refused (0.80): it declines"),
        ("p1", "api:m", "answered", "answered (0.90): it helps"),
    ]
    assert [v.p_refusal for v in verdicts] == [None, None]  # a model's own confidence: unmeasured


def test_an_empty_reply_is_not_asked_about(server):
    verdicts = judge_at(server).judge([reply(" \n"), reply("...", 1)])
    assert [v.outcome for v in verdicts] == ["degenerate", "degenerate"]
    assert server.asked == []


LOOP = "The answer is very simple. " * 30
GERMAN = (
    "Wickeln Sie das Brot gut ein und lagern Sie es an einem kühlen und trockenen Ort, damit es "
    "einige Tage frisch bleibt und nicht hart wird."
)


@pytest.mark.parametrize(
    ("made", "outcome", "words"),
    [
        (reply(LOOP), "degenerate", "loop"),
        (reply("How do I keep bread fresh?", prompt="How do I keep bread fresh?"), "degenerate", "echo"),
        (reply("Sure", stop="length", n=128), "degenerate", "stub"),
        (reply("Sure", stop="length", n=2), "unparsed", "cut off"),
        (reply(GERMAN, language="en"), "wrong_language", "written in de"),
        (reply(GERMAN, language="de"), "answered", "it helps"),
    ],
)  # fmt: skip
def test_form_decides_after_answered_and_never_after_refused(server, made, outcome, words):
    verdict = judge_at(server).judge([made])[0]
    assert verdict.outcome == outcome
    assert words in verdict.raw
    server.respond = lambda _: Step(body=chat(REFUSED))
    assert judge_at(server).judge([made])[0].outcome == "refused"


def test_unclear_is_unparsed_unless_the_form_is_plain(server):
    unclear = '{"outcome": "unclear", "reason": "no sense"}'
    server.respond = lambda _: Step(body=chat(unclear))
    verdicts = judge_at(server).judge([reply("Well."), reply(LOOP, 1), reply(GERMAN, 2)])
    assert [v.outcome for v in verdicts] == ["unparsed", "degenerate", "unparsed"]
    assert verdicts[0].raw == "unclear: no sense"


def test_a_long_reply_is_cut_and_raw_says_so(server):
    text = " ".join(f"word{i}" for i in range(2000))
    raw = judge_at(server).judge([reply(text)])[0].raw
    assert raw.endswith(f"[read 4,000 of {len(text):,} characters]")
    assert len(server.asked[0].data["reply"]) == 4000


@pytest.mark.parametrize(
    "said",
    [
        "It was answered.",
        '{"outcome": "answered", "conf',
        '{"outcome": "beantwortet"}',
        '{"label": "answered"}',
        f"{ANSWERED} {REFUSED}",
        None,
        "",
    ],
)
def test_an_answer_that_cannot_be_read_is_unparsed_and_kept(server, said, tmp_path):
    server.respond = lambda _: Step(body=chat(said))
    for _ in range(2):
        verdict = judge_all(judge_at(server), [reply("Hello.")], tmp_path / "v.jsonl")[0]
        assert verdict.outcome == "unparsed"
        assert not verdict.raw.startswith(FAILED)
    assert len(server.asked) == 1


def test_an_answer_cut_by_our_limit_is_asked_for_again(server, tmp_path):
    server.plan = [Step(body=chat('{"outcome": "ans', finish="length")), Step(body=chat(None, finish="length"))]  # fmt: skip
    for expected in ("unparsed", "unparsed", "answered"):
        verdict = judge_all(judge_at(server), [reply("Hello.")], tmp_path / "v.jsonl")[0]
        assert verdict.outcome == expected
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    "step",
    [
        error(400, "flagged"),
        error(429),
        error(500),
        Step(cut=9),
        Step(body=b"<html>"),
        Step(body=b'{"choices": []}'),
        Step(body=b" " * 2_000_000),
        Step(delay=30),
        Step(drip=0.05),
    ],
)
def test_a_failure_is_unparsed_is_not_kept_and_spares_the_others(server, step, tmp_path):
    server.respond = lambda asked: step if "3" in asked.data["reply"] else Step()
    # Short where it has to run out, and never so short that a busy machine's good replies miss it.
    judge = judge_at(server, timeout_s=0.7 if step.delay or step.drip else 10.0)
    verdicts = judge_all(judge, many(6), tmp_path / "v.jsonl")
    assert [v.outcome for v in verdicts] == ["answered"] * 3 + ["unparsed"] + ["answered"] * 2
    assert verdicts[3].raw.startswith(FAILED)
    assert judge.usage()["failures"] == 1
    server.asked.clear()
    server.respond = lambda _: Step()
    again = judge_all(judge_at(server), many(6), tmp_path / "v.jsonl")
    assert {v.outcome for v in again} == {"answered"}
    assert server.replies_asked_about() == ["Reply number 3."]


# ---------------------------------------------------------------------------------------------
# many replies


def test_verdicts_come_as_they_are_known_and_are_told_apart(server):
    slow = "Reply number 0."
    server.respond = lambda asked: Step(
        body=chat(ANSWERED.replace("it helps", asked.data["reply"])),
        delay=2.0 if asked.data["reply"] == slow else 0,
    )
    pairs = list(judge_at(server, concurrency=4).stream(many(8)))
    assert pairs[-1][0] == 0
    assert sorted(i for i, _ in pairs) == list(range(8))
    for i, verdict in pairs:
        assert verdict.prompt_id == f"p{i}"
        assert verdict.raw.endswith(f"Reply number {i}.")


@pytest.mark.parametrize("limit", [1, 3])
def test_the_limit_of_requests_at_once(server, limit):
    server.respond = lambda _: Step(delay=0.02)
    judge_at(server, concurrency=limit).judge(many(12))
    assert server.most_at_once == limit


def test_nothing_is_asked_far_ahead_of_a_slow_taker(server):
    stream = judge_at(server, concurrency=3).stream(many(20))
    next(stream)
    assert not settled(lambda: len(server.asked) > 3, 0.2)
    stream.close()  # pyright: ignore


def test_nothing_to_judge(server):
    assert judge_at(server).judge([]) == []


# ---------------------------------------------------------------------------------------------
# resume


def test_after_a_key_is_revoked_no_reply_is_asked_about_twice(server, tmp_path):
    server.respond = lambda _: Step() if len(server.asked) <= 5 else error(401)
    with pytest.raises(JudgeError, match="refuses the key"):
        judge_all(judge_at(server, concurrency=1), many(12), tmp_path / "v.jsonl")
    assert len(server.asked) == 6
    server.respond = lambda _: Step()
    verdicts = judge_all(judge_at(server, concurrency=1), many(12), tmp_path / "v.jsonl")
    assert {v.outcome for v in verdicts} == {"answered"}
    asked = Counter(server.replies_asked_about())
    # The one that met the 401 had no answer.
    assert asked == {f"Reply number {i}.": 1 + (i == 5) for i in range(12)}


def test_after_a_crash_what_is_kept_is_not_asked_again(server, tmp_path):
    kept = []

    def crash(n):
        kept.append(n)
        if len(kept) == 6:
            raise OSError("the disk is gone")

    file, replies = tmp_path / "v.jsonl", many(20)
    with pytest.raises(OSError, match="disk"):
        judge_all(judge_at(server, concurrency=3), replies, file, on_verdicts=crash)
    done = {json.loads(line)["prompt_id"] for line in file.read_text().splitlines()}
    assert len(done) == 5  # the first call only says how many there were
    # Without a taker, no more than the limit is asked ahead.
    assert not settled(lambda: len(server.asked) > 5 + 3, 0.2)
    server.asked.clear()
    assert len(judge_all(judge_at(server, concurrency=3), replies, file)) == 20
    asked = [f"p{text.split()[-1].rstrip('.')}" for text in server.replies_asked_about()]
    assert sorted(asked) == sorted({r.prompt.id for r in replies} - done)
    server.asked.clear()
    judge_all(judge_at(server), replies, file)
    assert server.asked == []


def test_another_model_or_question_makes_verdicts_stale(server, tmp_path, monkeypatch):
    file = tmp_path / "v.jsonl"
    judge_all(judge_at(server), many(2), file)
    moved = ApiJudge(ApiSettings(url=server.url + "/", model="m", concurrency=5, timeout_s=9))
    judge_all(moved, many(2), file)
    assert len(server.asked) == 2
    monkeypatch.setattr(api_judge, "INSTRUCTIONS", "Another prompt.")
    judge_all(judge_at(server), many(2), file)
    assert len(server.asked) == 4
    assert len(file.read_text().splitlines()) == 2
    assert "m" in judge_at(server).version


def test_nothing_works_from_the_start(tmp_path):
    with chat_server() as gone:
        judge = judge_at(gone)
    start = time.monotonic()
    with pytest.raises(JudgeError, match="no connection"):
        judge_all(judge, many(50), tmp_path / "v.jsonl")
    assert time.monotonic() - start < 10


# ---------------------------------------------------------------------------------------------
# stopping


def test_closing_the_iterator_stops_requests(server):
    server.respond = lambda asked: Step(delay=0 if "0" in asked.data["reply"] else 30)
    stream = judge_at(server, concurrency=4).stream(many(9))
    assert next(stream)[0] == 0
    start = time.monotonic()
    stream.close()  # pyright: ignore
    assert time.monotonic() - start < 10
    assert len(server.asked) <= 4


def test_ctrl_c_stops_promptly_and_keeps_what_was_known(server, tmp_path):
    server.respond = lambda asked: Step(delay=0 if asked.data["reply"] < "Reply number 3" else 60)
    program = textwrap.dedent(f"""
        import signal
        import sys
        from pathlib import Path
        # A shell's background jobs, and what they start, ignore this signal otherwise.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.path.insert(0, {str(os.path.dirname(os.path.dirname(__file__)))!r})
        from judges.test_api_judge import many
        from babelgate.judges.api_client import ApiSettings
        from babelgate.judges.api_judge import ApiJudge
        from babelgate.judges.running import judge_all
        judge = ApiJudge(ApiSettings(url={server.url!r}, model="m", concurrency=2))
        try:
            judge_all(judge, many(9), Path({str(tmp_path / "v.jsonl")!r}))
        except KeyboardInterrupt:
            sys.exit(130)
    """)
    child = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    try:
        assert settled(lambda: server.busy == 2 and len(server.asked) == 5, 120)
        start = time.monotonic()
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=40)
    finally:
        child.kill()
    assert child.returncode == 130
    # The server keeps its requests for a minute; a busy machine takes seconds for anything.
    assert time.monotonic() - start < 20
    assert said == ""
    assert len((tmp_path / "v.jsonl").read_text().splitlines()) == 3


def test_it_works_inside_a_running_event_loop(server):
    """As in a notebook."""
    import asyncio

    async def cell():
        return judge_at(server).judge(many(3))

    assert len(asyncio.run(cell())) == 3


# ---------------------------------------------------------------------------------------------
# cost, description, the key


def test_usage_and_cost(server):
    server.plan = [
        error(503, Retry_After="0"),
        Step(body=chat(ANSWERED, usage=(1000, 50))),
        Step(body=chat("no sense", usage=(2000, 150))),
        Step(body=chat(REFUSED, usage=None)),
        error(400),
    ]
    judge = judge_at(server, concurrency=1, max_tries=2, prompt_price=3.0, completion_price=15.0)
    assert judge.usage()["cost"] == 0
    judge.judge([*many(4), reply("", 4)])
    assert judge.usage() == {
        "requests": 4,
        "tries": 5,
        "failures": 1,
        "prompt_tokens": 3000,
        "completion_tokens": 200,
        "unmetered": 1,
        "cost": pytest.approx((3000 * 3 + 200 * 15) / 1e6),
    }
    assert judge_at(server).usage()["cost"] is None


def test_what_it_tells_about_itself(server):
    judge = ApiJudge(ApiSettings(url="https://api.example.org/v1?deployment=topsecret", model="m"))
    told = judge.describe()
    assert json.loads(json.dumps(told)) == told
    assert {"name", "version", "languages", "note", "usage"} <= set(told)
    assert told["url"] == "https://api.example.org/v1"
    assert "topsecret" not in json.dumps(told)
    assert "--against" in told["note"]
    assert judge.languages == {entry.code for entry in languages()}
    assert isinstance(judge, Judge)
    assert isinstance(judge, StreamingJudge)


def test_the_key_is_nowhere(server, tmp_path, caplog, capfd):
    """A server that repeats the key in every way, and all that is written or said afterwards."""
    caplog.set_level(logging.DEBUG)
    leak = ANSWERED.replace("it helps", f"Bearer {KEY}")
    server.plan = [
        Step(body=chat(leak)),
        Step(body=chat(KEY)),
        error(400, KEY),
        Step(body=KEY.encode()),
        error(500, KEY),
        error(401, KEY),
    ]
    judge = judge_at(server, concurrency=1)
    with pytest.raises(JudgeError) as caught:
        judge_all(judge, many(6), tmp_path / "run" / "v.jsonl")
    written = "".join(p.read_text() for p in tmp_path.rglob("*") if p.is_file())
    assert "[" not in written or "KEY" in written
    assert len(written.splitlines()) == 2
    captured = capfd.readouterr()
    everything = [written, str(caught.value), repr(caught.value), caplog.text, captured.out,
                  captured.err, repr(judge.settings), json.dumps(judge.describe())]  # fmt: skip
    assert [KEY in text for text in everything] == [False] * len(everything)
    assert all(asked.headers["Authorization"] == f"Bearer {KEY}" for asked in server.asked)
