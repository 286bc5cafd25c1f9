"""A guard in front: scores of the first answer token, and answers that begin alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from babelgate.comparing.guard_front import QUESTION, PromptGuard, guard_of_kind
from babelgate.errors import UserError
from babelgate.models import ChatModel
from judges.guards.models import LLAMA_GUARD, tokenizer
from tiny import TEXTS, raw_model


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


@pytest.mark.parametrize("written", ["", "\n\n"])
def test_llama_guards_word_is_read_after_its_two_newlines(written):
    """The newlines that its answers begin with are forced unless the template writes them."""
    words = tokenizer("llama-guard-3-8b")
    words.chat_template = LLAMA_GUARD + f"{{{{ {written!r} }}}}"
    model = ChatModel.wrap(raw_model("llama"), words)
    guard = guard_of_kind(model, "guard")
    assert guard.lead == ("" if written else "\n\n")
    for text, score in zip(TEXTS, guard.score(TEXTS, rows=3)):
        asked = model.template.render(text)
        assert asked.endswith("<|end_header_id|>" + written)
        ids = model.tokenizer(f"{asked.removesuffix(written)}\n\n", add_special_tokens=False)
        with torch.inference_mode():
            made = model.model(input_ids=torch.tensor([ids["input_ids"]]))
        p = torch.softmax(made.logits[0, -1].double(), -1)
        unsafe, safe = (sum(p[words(x)["input_ids"][-1]] for x in pair) for pair in ("uU", "sS"))
        assert score == pytest.approx(float(torch.log(unsafe / safe)), abs=1e-4)


def test_a_guard_whose_template_asks_gets_the_prompt_alone(llama):
    guard = guard_of_kind(llama, "guard")
    assert guard.question == "{prompt}"
    first = {llama.template.bare_tokens(x)[0] for x in "uUsS"}
    assert {int(i) for ids in guard._answers() for i in ids} == first


def test_braces_in_a_prompt_are_text(llama):
    assert np.isfinite(PromptGuard(llama).score(["{x} {prompt} {0}"])).all()


def test_answers_that_begin_alike_are_a_mistake(llama):
    with pytest.raises(UserError, match="'maybe' and 'more' begin with the same token"):
        PromptGuard(llama, unsafe="maybe", safe="more").score(["Hi"])
