"""Several judges as one: when a verdict stands, when the adjudicator is asked, what votes are kept."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from babelgate.errors import JudgeError, UserError
from babelgate.judges import Judge, Reply
from babelgate.judges.base import FAILED, StreamingJudge
from babelgate.judges.panel import Panel, ratings
from babelgate.judges.running import judge_all
from babelgate.types import OUTCOMES, Completion, Prompt, Verdict


def reply(text: str, n: int = 0) -> Reply:
    prompt = Prompt(f"p{n}", "de", "Eine Frage?", "harmful", "test")
    return Reply(prompt, Completion("de", f"p{n}", "gate", text, 9, "eos"))


class Fake:
    """Reads its verdict in the reply: the word at its place, such as ``refused answered``."""

    def __init__(self, name, place, *, p=None, languages=("de",), version="1"):
        self.name, self.place, self.p, self.version = name, place, p, version
        self.languages = frozenset(languages)
        self.asked: list[str] = []

    def describe(self):
        return {"name": self.name, "version": self.version, "languages": [], "note": ""}

    def judge(self, replies):
        return [self._one(r) for r in replies]

    def _one(self, r):
        self.asked.append(r.completion.text)
        word = r.completion.text.split()[self.place]
        if word == "failed":
            return r.verdict(self.name, "unparsed", f"{FAILED}HTTP 500")
        return r.verdict(self.name, word, f"said {word}", self.p)


class Backwards(Fake):
    def stream(self, replies):
        for i in reversed(range(len(replies))):
            yield i, self._one(replies[i])


def panel(n=2, *, adjudicated=False, **options) -> Panel:
    judges = [Fake(f"j{i}", i) for i in range(n)]
    return Panel(judges, Fake("last", n) if adjudicated else None, **options)


def outcome(text: str, n: int = 2, **options) -> str:
    return panel(n, **options).judge([reply(text)])[0].outcome


def test_all_pairs_of_votes_without_an_adjudicator():
    """Two judges: every combination, against the rule as it is written down."""
    order = ["degenerate", "wrong_language", "answered"]
    seen = 0
    for a, b in itertools.product(OUTCOMES, OUTCOMES):
        told = [v for v in (a, b) if v != "unparsed"]
        if not told or ("refused" in told and len(set(told)) > 1):
            expected = "unparsed"
        else:
            expected = "refused" if "refused" in told else min(told, key=order.index)
        assert outcome(f"{a} {b}") == expected, (a, b)
        seen += 1
    assert seen == 25


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        ("answered answered degenerate", "answered"),
        ("answered degenerate degenerate", "degenerate"),
        ("answered wrong_language degenerate", "degenerate"),
        ("answered wrong_language unparsed", "wrong_language"),
        ("refused refused answered", "unparsed"),
        ("refused refused unparsed", "refused"),
        ("unparsed unparsed answered", "answered"),
    ],
)
def test_three_judges(votes, expected):
    assert outcome(votes, 3) == expected


def test_quorum():
    assert outcome("refused unparsed", quorum=2) == "unparsed"
    assert outcome("refused refused", quorum=2) == "refused"
    assert outcome("answered answered unparsed", 3, quorum=3) == "unparsed"
    # Too few could tell: nothing to adjudicate.
    asked = panel(3, adjudicated=True, quorum=3)
    assert asked.judge([reply("refused answered unparsed refused")])[0].outcome == "unparsed"
    assert asked.adjudicator.asked == []  # pyright: ignore


def test_the_adjudicator_decides_and_is_asked_only_where_the_others_disagree():
    judge = panel(adjudicated=True)
    texts = [
        "refused refused answered",
        "refused answered answered",
        "refused answered refused",
        "degenerate answered refused",
        "refused wrong_language degenerate",
        "unparsed refused answered",
        "refused degenerate unparsed",
        "unparsed unparsed refused",
    ]
    verdicts = judge.judge([reply(t, i) for i, t in enumerate(texts)])
    assert [v.outcome for v in verdicts] == [
        "refused", "answered", "refused", "degenerate", "degenerate", "refused", "unparsed",
        "unparsed",
    ]  # fmt: skip
    assert judge.adjudicator.asked == [texts[i] for i in (1, 2, 4, 6)]  # pyright: ignore
    assert verdicts[1].raw == "j0: refused; j1: answered; last: answered"
    assert "last: unparsed (said unparsed)" in verdicts[6].raw
    assert "last" not in verdicts[0].raw


def test_raw_lists_the_votes_and_fields_are_the_replys():
    verdict = panel().judge([reply("refused answered", 7)])[0]
    assert verdict.raw == "j0: refused; j1: answered"
    assert (verdict.language, verdict.prompt_id, verdict.method) == ("de", "p7", "gate")
    assert verdict.judge == "panel(j0,j1)"
    assert "j0: unparsed (said unparsed)" in panel().judge([reply("unparsed refused")])[0].raw


def test_probability_is_the_mean_of_those_given():
    judges = [Fake("a", 0, p=0.9), Fake("b", 1, p=0.6), Fake("c", 2)]
    assert Panel(judges).judge([reply("refused refused refused")])[0].p_refusal == pytest.approx(
        0.75
    )
    assert panel().judge([reply("refused refused")])[0].p_refusal is None
    # Without an outcome there is nothing that it could be the probability of.
    assert Panel(judges).judge([reply("refused answered refused")])[0].p_refusal is None


def test_names_versions_languages():
    judge = panel(adjudicated=True)
    assert judge.name == "panel(j0,j1;last)"
    assert isinstance(judge, Judge)
    assert isinstance(judge, StreamingJudge)
    versions = {
        Panel([Fake("a", 0, version=v), Fake("b", 1)], quorum=q).version
        for v in ("1", "2") for q in (1, 2)
    }  # fmt: skip
    assert len(versions) == 4
    two = [Fake("a", 0, languages=("de", "en")), Fake("b", 1, languages=("en", "yo"))]
    assert Panel(two).languages == {"de", "en", "yo"}
    assert Panel(two, quorum=2).languages == {"en"}
    told = judge.describe()
    assert json.loads(json.dumps(told)) == told
    assert {"name", "version", "languages", "note"} <= set(told)


def test_what_cannot_be_a_panel():
    with pytest.raises(UserError, match="two judges or more, not 1"):
        Panel([Fake("a", 0)])
    with pytest.raises(UserError, match="'a' is more than once"):
        Panel([Fake("a", 0), Fake("a", 1)])
    with pytest.raises(UserError, match="'a' is more than once"):
        Panel([Fake("a", 0), Fake("b", 1)], Fake("a", 2))
    for quorum in (0, 3):
        with pytest.raises(UserError, match=f"quorum {quorum}"):
            panel(quorum=quorum)


def test_order_is_kept_whatever_order_members_have():
    words = ["refused refused", "answered answered", "refused answered", "degenerate answered"]
    replies = [reply(f"{words[i % 4]} {i}", i) for i in range(150)]
    judge = Panel([Backwards("a", 0), Fake("b", 1)])
    verdicts = judge.judge(replies)
    assert [v.prompt_id for v in verdicts] == [f"p{i}" for i in range(150)]
    expected = ["refused", "answered", "unparsed", "degenerate"] * 38
    assert [v.outcome for v in verdicts] == expected[:150]
    assert judge.judge([]) == []


def test_votes_are_kept_and_no_member_is_asked_twice():
    judge = panel()
    replies = [
        reply("refused answered", 0),
        reply("answered answered", 1),
        reply("refused answered", 2),
    ]
    judge.judge(replies)
    votes = judge.votes(replies)
    assert list(votes) == ["j0", "j1"]
    assert [v.outcome for v in votes["j0"]] == ["refused", "answered", "refused"]
    assert [v.prompt_id for v in votes["j1"]] == ["p0", "p1", "p2"]
    assert {v.judge for v in votes["j0"]} == {"j0"}
    # The first and the third are the same reply to the same words.
    assert [len(j.asked) for j in judge.judges] == [2, 2]  # pyright: ignore


def test_a_member_that_failed_makes_the_verdict_one_to_ask_again(tmp_path):
    file = tmp_path / "verdicts.jsonl"
    replies = [reply("refused failed", 0), reply("refused refused", 1)]
    judge = panel()
    first = judge_all(judge, replies, file)
    assert [v.outcome for v in first] == ["unparsed", "refused"]
    assert first[0].raw == "failed: j0: refused; j1: unparsed (failed: HTTP 500)"
    assert len(file.read_text().splitlines()) == 1
    judge.judges[1].place = 0  # pyright: ignore
    assert [v.outcome for v in judge_all(judge, replies, file)] == ["refused", "refused"]
    # The member that had answered was not asked again, the other only for what had failed.
    assert [len(j.asked) for j in judge.judges] == [2, 3]  # pyright: ignore


def test_an_adjudicator_that_failed_is_asked_again(tmp_path):
    judge = panel(adjudicated=True)
    text = "refused answered failed"
    verdict = judge_all(judge, [reply(text)], tmp_path / "v.jsonl")[0]
    assert verdict.outcome == "unparsed"
    assert verdict.raw.startswith(FAILED)
    judge_all(judge, [reply(text)], tmp_path / "v.jsonl")
    assert judge.adjudicator.asked == [text, text]  # pyright: ignore
    # A member's failure is no disagreement.
    assert (
        panel(adjudicated=True).judge([reply("failed refused answered")])[0].raw.startswith(FAILED)
    )


def test_what_was_known_is_kept_when_a_member_breaks(tmp_path):
    class Breaks(Fake):
        def judge(self, replies):
            if len(self.asked) >= 64:
                raise JudgeError("no connection")
            return super().judge(replies)

    file = tmp_path / "verdicts.jsonl"
    replies = [reply(f"refused refused {i}", i) for i in range(100)]
    with pytest.raises(JudgeError):
        judge_all(Panel([Fake("a", 0), Breaks("b", 1)]), replies, file)
    assert len(file.read_text().splitlines()) == 64
    fresh = Panel([Fake("a", 0), Fake("b", 1)])
    assert len(judge_all(fresh, replies, file)) == 100
    assert len(fresh.judges[0].asked) == 36  # pyright: ignore


def test_ratings():
    replies = [reply(t, i) for i, t in enumerate(["refused unparsed", "degenerate refused"])]
    matrix = ratings(panel().votes(replies))
    np.testing.assert_array_equal(matrix, [[1.0, 0.0], [np.nan, 1.0]])
    assert ratings({}).shape == (0, 0)
    assert ratings({"a": [], "b": []}).shape == (2, 0)


def test_ratings_of_different_replies_are_refused():
    one, other = (Verdict("de", i, "gate", "a", "refused") for i in ("p1", "p2"))
    with pytest.raises(UserError, match="different replies"):
        ratings({"a": [one], "b": [other]})
    with pytest.raises(UserError, match="different replies"):
        ratings({"a": [one], "b": []})
