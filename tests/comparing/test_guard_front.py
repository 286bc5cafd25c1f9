"""A guard in front: scores of the first answer token, and answers that begin alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from babelgate.comparing.guard_front import QUESTION, PromptGuard, guard_of_kind
from babelgate.errors import UserError
from tiny import TEXTS


def test_scores_equal_a_direct_computation(llama):
    guard = PromptGuard(llama)
    found = guard.score(TEXTS, rows=3)
    for text, score in zip(TEXTS, found):
        ids = torch.tensor([llama.encode([QUESTION.replace("{prompt}", text)]).ids[0]])
        with torch.inference_mode():
            p = torch.softmax(llama.model(input_ids=ids).logits[0, -1].double(), -1)
        # One byte is one token; the space that begins both " Yes" and " No" tells nothing.
        yes = float(p[llama.template.bare_tokens("Y")[0]] + p[llama.template.bare_tokens("y")[0]])
        no = float(p[llama.template.bare_tokens("N")[0]] + p[llama.template.bare_tokens("n")[0]])
        assert score == pytest.approx(np.log(yes / no), abs=1e-4)


def test_a_guard_whose_template_asks_gets_the_prompt_alone(llama):
    guard = guard_of_kind(llama, "guard")
    assert guard.question == "{prompt}"
    first = {llama.template.bare_tokens(x)[0] for x in "us"}
    assert {int(i) for ids in guard._answers() for i in ids} == first


def test_braces_in_a_prompt_are_text(llama):
    assert np.isfinite(PromptGuard(llama).score(["{x} {prompt} {0}"])).all()


def test_answers_that_begin_alike_are_a_mistake(llama):
    with pytest.raises(UserError, match="'maybe' and 'more' begin with the same token"):
        PromptGuard(llama, unsafe=("maybe",), safe=("more",)).score(["Hi"])
