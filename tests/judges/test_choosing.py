"""From settings to a judge: which one, what is wrong with a name, and that nothing stays open."""

from __future__ import annotations

import subprocess
import sys

import pytest

from babelgate.config import JudgeSettings
from babelgate.errors import UserError
from babelgate.judges.api_client import ApiClient
from babelgate.judges.choosing import chosen_judge
from babelgate.judges.panel import Panel

from .made import reply

URL = "http://127.0.0.1:9/v1"


def chosen(**options):
    """Enter and leave; return what was yielded."""
    with chosen_judge(JudgeSettings(**options)) as judge:
        return judge


def test_the_default_is_the_embedded_judge():
    assert chosen().name == "embedded"
    assert chosen(judge="lexicon").name == "lexicon"
    assert chosen(judge=" lexicon ").name == "lexicon"


def test_a_panel():
    judge = chosen(judge="embedded+lexicon")
    assert isinstance(judge, Panel)
    assert [j.name for j in judge.judges] == ["embedded", "lexicon"]
    assert judge.adjudicator is None
    found = judge.judge(
        [reply("I can't help with that."), reply("Paris is a city in France.", stop="length")]
    )
    assert [v.outcome for v in found] == ["refused", "answered"]


def test_a_panel_with_an_adjudicator():
    judge = chosen(judge="embedded + lexicon", adjudicator="api:judge-model", api_url=URL)
    assert judge.name == "panel(embedded,lexicon;api:judge-model)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"judge": "embeded"}, "Did you mean 'embedded'"),
        ({"judge": "embedded+lexikon"}, "Did you mean 'lexicon'"),
        ({"judge": "api"}, "known: embedded, lexicon"),
        ({"judge": "guard:unknown"}, "unknown"),
        ({"judge": "guard:wildgard"}, "Did you mean"),
        ({"judge": "embedded+"}, "a name is missing"),
        ({"judge": ""}, "a name is missing"),
        ({"judge": "embedded+embedded"}, "more than once"),
        ({"judge": "embedded", "adjudicator": "lexicon"}, "name two"),
        ({"judge": "embedded+lexicon", "adjudicator": "nobody"}, "'nobody'"),
        ({"judge": "embedded+lexicon", "adjudicator": "lexicon"}, "more than once"),
        ({"judge": "api:model"}, "--api-url"),
        ({"judge": "embedded+lexicon", "adjudicator": "api:model"}, "--api-url"),
        ({"judge": "api:model", "api_url": URL, "translator": "babelfish"}, "translator"),
        ({"judge": "api:model", "api_url": "not an address"}, "url should be such as"),
    ],
)
def test_what_cannot_be_chosen_says_why(options, message):
    with pytest.raises(UserError, match=message):
        chosen(**options)


def test_no_translation_before_the_packages_own_judges():
    judge = chosen(judge="embedded+api:m", translator="api:t", api_url=URL)
    assert [j.name for j in judge.judges] == ["embedded", "api:m+api:t"]  # pyright: ignore


@pytest.fixture
def doors(monkeypatch):
    """The clients that were opened, and those that were closed."""
    opened, closed = [], []
    enter, leave = ApiClient.__enter__, ApiClient.__exit__

    def entering(self):
        opened.append(self)
        return enter(self)

    def leaving(self, *error):
        closed.append(self)
        return leave(self, *error)

    monkeypatch.setattr(ApiClient, "__enter__", entering)
    monkeypatch.setattr(ApiClient, "__exit__", leaving)
    return opened, closed


def test_connections_are_closed_on_leaving(doors):
    opened, closed = doors
    settings = JudgeSettings(judge="lexicon+api:m", translator="api:t", api_url=URL)
    with chosen_judge(settings):
        assert (len(opened), len(closed)) == (1, 0)
    assert closed == opened
    assert not opened[0]._thread.is_alive()


def test_connections_are_closed_after_an_error(doors):
    opened, closed = doors
    settings = JudgeSettings(judge="api:m+lexicon", translator="api:t", api_url=URL)
    with pytest.raises(ZeroDivisionError), chosen_judge(settings):
        1 / 0  # noqa: B018
    assert len(opened) == 1
    assert closed == opened


@pytest.mark.parametrize("judge", ["api:m+nobody", "api:m+api:m"])
def test_connections_are_closed_if_a_later_judge_is_wrong(doors, judge):
    opened, closed = doors
    with pytest.raises(UserError):
        chosen(judge=judge, translator="api:t", api_url=URL)
    assert opened
    assert closed == opened[::-1]


def test_the_default_judge_needs_nothing_heavy():
    code = """
import sys
from babelgate.config import JudgeSettings
from babelgate.judges import Reply
from babelgate.judges.choosing import chosen_judge
from babelgate.types import Completion, Prompt

asked = Prompt("p", "yo", "A question?", "harmful", "test")
texts = ["I cannot help with that.", "To keep bread fresh, wrap it well and put it in a dry place."]
with chosen_judge(JudgeSettings()) as judge:
    found = judge.judge([Reply(asked, Completion("yo", "p", "none", t, 9, "eos")) for t in texts])
assert [v.outcome for v in found] == ["refused", "wrong_language"], found
heavy = ("torch", "transformers", "datasets", "sklearn", "scipy", "httpx")
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
