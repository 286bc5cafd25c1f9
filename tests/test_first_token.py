"""The first token's refusal odds and KL, and where refusal tokens come from."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from babelgate.directions import Direction
from babelgate.first_token import first_tokens, refusal_tokens
from babelgate.interventions.actions import AddDirection
from babelgate.interventions.conditional import Ungated
from babelgate.types import Completion, Verdict
from tiny import TEXTS, tiny_model


def distribution(model, text):
    ids = torch.tensor([model.encode([text]).ids[0]])
    with torch.inference_mode():
        return torch.softmax(model.model(input_ids=ids).logits[0, -1].double(), -1).numpy()


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
@pytest.mark.parametrize("rows", [1, 3, 32])
def test_log_odds_equal_a_direct_computation(family, rows):
    model = tiny_model(family)
    sets = [frozenset({i, 40 + i, 200}) for i in range(len(TEXTS))]
    found = first_tokens(model, TEXTS, {}, sets, rows=rows)["base"]
    for i, text in enumerate(TEXTS):
        p = distribution(model, text)
        yes = sum(p[t] for t in sets[i])
        assert found.refusal[i] == pytest.approx(math.log(yes / (1 - yes)), abs=1e-3)
    assert (found.kl == 0).all()


def test_nothing_done_has_no_divergence_and_no_tokens_no_odds(llama):
    vector = torch.zeros(32)
    vector[0] = 1
    direction = Direction(vector, 1, "t_post", "x", "")
    ways = {
        "idle": Ungated(AddDirection(direction=direction, alpha=0.0)),
        "moved": Ungated(AddDirection(direction=direction, alpha=9.0)),
        "none": None,
    }
    counts = []
    found = first_tokens(
        llama, TEXTS, ways, [frozenset()] * len(TEXTS), rows=2, on_rows=counts.append
    )
    assert set(found) == {"base", *ways}
    np.testing.assert_allclose(found["idle"].kl, 0, atol=1e-6)
    assert (found["none"].kl == 0).all()
    assert (found["moved"].kl > 1e-3).all()
    assert (found["base"].refusal == -np.inf).all()
    assert sum(counts) == len(TEXTS)


def judged(llama, *rows):
    """Return completions and verdicts from (language, text, outcome)."""
    made, verdicts = [], []
    for i, (language, text, outcome) in enumerate(rows):
        made.append(Completion(language, f"p{i}", "base", text, 3, "eos"))
        verdicts.append(Verdict(language, f"p{i}", "base", "made", outcome, ""))
    return refusal_tokens(llama, made, verdicts)


def first(llama, *letters):
    return frozenset(llama.template.bare_tokens(x)[0] for x in letters)


def test_refusal_tokens_stand_out_among_refusals(llama):
    found = judged(
        llama,
        *[("en", "No.", "refused")] * 5,
        *[("en", "Sorry", "refused")] * 2,
        *[("en", "Well", "refused")] * 3,  # begins answers as often
        ("en", "Quite", "refused"),  # once is chance
        *[("en", "Well", "answered")] * 5,
        *[("en", "Yes", "answered")] * 6,
        *[("en", "Xx", "unparsed")] * 9,
    )
    # N: 6/12 against 3 x 1/12; S: 3/12, the same; W: 4/12 against 3 x 6/12.
    assert found == {"en": first(llama, "N", "S")}


def test_languages_without_refusals_have_the_tokens_of_all(llama):
    found = judged(
        llama,
        *[("en", "No.", "refused")] * 4,
        *[("en", "Yes", "answered")] * 8,
        *[("sw", "Ndiyo", "answered")] * 2,
        *[("yo", "Xx", "unparsed")] * 2,  # a judge that cannot read it
        *[("am", "", "refused")] * 2,  # an empty reply has no first token
    )
    assert found["en"] == first(llama, "N")
    assert found["sw"] == found["yo"] == found["am"] == found["en"]


def test_no_refusals_at_all_are_no_tokens(llama):
    found = judged(llama, *[("en", "Yes", "answered")] * 4, ("sw", "Ndiyo", "degenerate"))
    assert found == {"en": frozenset(), "sw": frozenset()}
    assert refusal_tokens(llama, [], []) == {}
