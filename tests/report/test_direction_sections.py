"""Matrices of transfer: which numbers are marked, which rows are shown, what they are called."""

from __future__ import annotations

import math

import pytest

from babelgate.report.direction_sections import transfer_matrices
from babelgate.transfer.results import Cell, Transfer
from babelgate.types import Estimate

NONE = Estimate(math.nan, math.nan, math.nan, 0, 0, 0, "none")


def cell(source, target, change, low, high, *, exceeds=True, evidence="replies"):
    estimate = Estimate(change, low, high, 16, 16, 0, "bootstrap by group")
    return Cell(source, target, "ablate_harmful", evidence, estimate, NONE, exceeds=exceeds)


def missing(source, target):
    return Cell(source, target, "ablate_harmful", "replies", NONE, NONE, reason="not asked for")


def matrix(*cells):
    made = Transfer({}, None, (), tuple(dict.fromkeys(c.target for c in cells)), cells, ())
    (found,) = transfer_matrices(made)
    return found


@pytest.mark.parametrize(
    ("low", "high", "exceeds", "marked"),
    [
        (-0.7, -0.2, True, True),
        (-0.7, -0.2, False, False),
        (-0.7, -0.2, None, False),
        (-0.4, 0.0, True, False),  # one reply of sixteen, where no control changes any
        (-0.4, 0.1, True, False),
    ],
)
def test_a_number_is_marked_beyond_controls_and_chance(low, high, exceeds, marked):
    found = matrix(cell("en", "en", -0.3, low, high, exceeds=exceeds), cell("en", "yo", 0, 0, 0))
    assert found.is_marked(0, 0) is marked
    assert not found.is_marked(0, 1)


def test_a_mean_direction_without_any_number_has_no_row():
    own = [cell(a, b, -0.3, -0.5, -0.1) for a in ("en", "yo") for b in ("en", "yo")]
    found = matrix(*own, missing("mean", "en"), missing("mean", "yo"))
    assert found.row_codes == ("en", "yo")
    assert found.missing == ""
    shown = matrix(*own, missing("mean", "en"), cell("mean", "yo", -0.1, -0.2, 0.0))
    assert shown.row_codes == ("en", "yo", "mean")
    assert shown.missing == "not asked for"


def test_titles_tell_the_evidence():
    both = (
        cell("en", "en", -0.3, -0.5, -0.1),
        cell("en", "en", -1.3, -1.5, -1.1, evidence="first_token"),
    )
    titles = [m.title for m in transfer_matrices(Transfer({}, None, (), ("en",), both, ()))]
    assert [t.rsplit("(")[-1] for t in titles] == ["replies)", "first token)"]
