"""Judged replies per treatment: shares, fixed words, names of folders."""

from __future__ import annotations

import numpy as np
import pytest

from babelgate.artifacts import JsonLines
from babelgate.comparing.contenders import UNTOUCHED, Treatment
from babelgate.comparing.replies import Outcomes, file_name, fixed_replies, reply
from babelgate.interventions.actions import Say

from .made import MadeJudge, prompt_set

PROMPTS = [p for p in prompt_set(("en", "sw")) if p.split == "test"]
FIXED = Treatment("fixed", Say("fixed", texts={"en": "No.", "sw": "Hapana."}, final=True))


def test_shares_leave_out_what_is_unknown():
    found = Outcomes("x", ("refused", "answered", "unparsed", None, "degenerate"), (None,) * 5)
    np.testing.assert_array_equal(found.share("refused"), [1, 0, np.nan, np.nan, 0])
    np.testing.assert_array_equal(found.share("degenerate"), [0, 0, np.nan, np.nan, 1])


def test_fixed_replies_are_in_the_prompts_language():
    made = fixed_replies(FIXED, PROMPTS)
    assert [c.key for c in made] == [p.key for p in PROMPTS]
    assert {c.language: c.text for c in made} == {"en": "No.", "sw": "Hapana."}
    assert {(c.stop_reason, c.n_tokens, c.method) for c in made} == {("fixed", 0, "fixed")}


def test_replies_are_judged_and_kept_where_they_are_needed(llama, tmp_path):
    where = np.arange(len(PROMPTS)) % 3 == 0
    treatments = {
        "base": (UNTOUCHED, np.ones(len(PROMPTS), dtype=bool)),
        "fixed": (FIXED, where),
    }
    judge = MadeJudge()
    limits = {"en": 3, "sw": 3}
    found = reply(llama, PROMPTS, treatments, judge, tmp_path, limits=limits)
    assert set(found) == set(treatments)
    assert all(c is not None and c.method == "base" for c in found["base"].completions)
    assert [c is not None for c in found["fixed"].completions] == where.tolist()
    assert [o is not None for o in found["fixed"].outcomes] == where.tolist()
    asked = judge.asked
    assert asked > 0
    again = reply(llama, PROMPTS, treatments, judge, tmp_path, limits=limits)
    assert again == found
    assert judge.asked == asked
    lines = JsonLines(tmp_path / "base" / "completions.jsonl").read()
    assert len(lines) == len(PROMPTS)


@pytest.mark.parametrize(
    ("name", "folder"),
    [("add-x2", "add-x2"), ("a b/c", "a_b_c"), ("../x", ".._x"), ("gate | none", "gate_none")],
)
def test_names_of_folders(name, folder):
    assert file_name(name) == folder
