"""Treatments, who decides between them, and which prompts need whose reply."""

from __future__ import annotations

import numpy as np
import pytest

from babelgate.comparing.contenders import UNTOUCHED, Contender, Routes, Treatment, needed
from babelgate.interventions.actions import Nothing, Say

A = Treatment("a", Nothing("a", "key a"))
B = Treatment("b", Nothing("b", "key b"))


def routed(scores, thresholds, fired=A, silent=B):
    routes = Routes(np.array(scores), np.array(thresholds))
    return Contender("x", "gate", "", fired, silent, routes)


def test_a_score_at_its_threshold_fires():
    routes = Routes(np.array([1.0, 2.0]), np.array([[1.0, 2.1], [0.9, 2.0]]))
    assert routes.fired.tolist() == [[True, False], [True, True]]


def test_thresholds_must_fit_the_scores():
    with pytest.raises(ValueError, match="3 scores"):
        Routes(np.zeros(3), np.zeros((1, 2)))
    with pytest.raises(ValueError, match="2 scores"):
        Routes(np.zeros(2), np.zeros(2))


def test_a_reply_is_needed_where_any_seed_of_any_method_gives_it():
    first = routed([0, 1, 2, 3], [[2, 2, 2, 2], [3, 3, 3, 3]])
    second = Contender("y", "rival", "", B)
    assert first.n_seeds == 2
    found = needed([first], 4)
    assert {n: w.tolist() for n, (_, w) in found.items()} == {
        "base": [True] * 4,
        "a": [False, False, True, True],
        "b": [True, True, True, False],
    }
    assert needed([first, second], 4)["b"][1].all()


def test_a_side_that_nobody_is_on_is_not_needed():
    assert set(needed([routed([1, 1], [[0, 0]])], 2)) == {"base", "a"}
    assert set(needed([Contender("base", "base", "", UNTOUCHED)], 2)) == {"base"}


def test_one_name_for_two_treatments_is_a_mistake():
    other = Treatment("a", Nothing("a", "another key"))
    with pytest.raises(ValueError, match="'a'"):
        needed([routed([0, 1], [[1, 1]]), Contender("z", "rival", "", other)], 2)


def test_only_words_that_are_all_of_a_reply_are_fixed():
    words = {"en": "No.", "sw": "Hapana."}
    assert Treatment("f", Say("f", texts=words, final=True)).fixed
    assert not Treatment("o", Say("o", texts=words)).fixed
    assert not UNTOUCHED.fixed
    assert not Treatment("s", systems={"en": "Be careful."}).fixed


def test_the_deployed_method_of_an_ungated_one_is_its_treatment():
    assert Contender("base", "base", "", UNTOUCHED).intervention() is None
    made = Contender("x", "rival", "", A).intervention()
    assert made is not None
    assert made.name == "a"
    assert Contender("x", "rival", "", A).sides(3).tolist() == [[True] * 3]
