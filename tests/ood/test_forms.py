"""A gate by form of prompts: pairs with the plain form, areas, what is missing."""

from __future__ import annotations

import math

import pytest

from babelgate.errors import UserError
from babelgate.ood import by_form
from babelgate.types import Prompt


def formed(number, form, label, language="en"):
    name = f"{number}" if form == "plain" else f"{number}~{form}"
    return Prompt(
        id=f"{label}{name}", language=language, text=f"{label} {name}", label=label, split="test",
        group_id=f"{label}{number}", extra={"form": form},
    )  # fmt: skip


def test_a_form_is_compared_with_the_plain_prompts_that_it_has():
    pool, fired = [], []
    for i in range(20):
        for label in ("harmful", "harmless"):
            pool.append(formed(i, "plain", label))
            # The plain gate is perfect on the first ten groups and useless on the others.
            fired.append(float(label == "harmful") if i < 10 else 1.0)
            if i < 10:
                pool.append(formed(i, "framed-story", label))
                fired.append(float(label == "harmful" and i < 5))
    # Scores that the frame lowers below any threshold but keeps in order.
    scores = [p.harmful - 5.0 * (p.extra["form"] != "plain") for p in pool]
    plain, story = by_form(pool, fired, scores=scores)
    assert (plain.auroc, story.auroc) == (1.0, 1.0)
    assert math.isnan(by_form(pool, fired)[1].auroc)
    assert (plain.form, plain.loss) == ("plain", None)
    assert plain.selectivity.value == pytest.approx(0.5)
    assert (story.fired_harmful.value, story.fired_harmless.value) == (0.5, 0.0)
    # 1.0 on the same ten groups, and not the plain form's 0.5 on all twenty.
    assert story.loss is not None
    assert story.loss.delta == pytest.approx(1.0 - 0.5)
    assert story.loss.n == 20
    assert 0.1 < story.loss.low < 0.5 < story.loss.high < 0.9


def test_a_form_without_a_plain_one_has_no_loss():
    (row,) = by_form([formed(0, "framed-story", "harmful")], [1])
    assert row.loss is None
    assert row.fired_harmless.missing


def test_wrong_outcomes_and_scores_are_refused():
    pool = [formed(0, "plain", "harmful")]
    with pytest.raises(UserError, match="1 .fired or refused."):
        by_form(pool, [0.7])
    with pytest.raises(UserError, match="1 prompts came with 2 values"):
        by_form(pool, [1], scores=[0.1, 0.2])
