"""Asking a guard about one reply: its prompt as tokens, with texts that cannot act as control."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ...errors import ModelError
from .spec import PromptForm

# An added token that is no declared control token but looks like a mark, as Qwen's <tool_call>.
_MARK = re.compile(r"[<\[].*[>\]]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Question:
    """The tokens of one question, and what was changed in the texts to ask it."""

    ids: tuple[int, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prompter:
    """Writes a guard's prompt with a tokenizer; ``limit`` is the most tokens that it may have.

    The prompt is tokenised as a whole, as the model cards do it: tokens may span the borders of the
    texts. So that nothing in the texts acts as a control token, such marks are broken by a space
    first, and a question that still has more control tokens than its form is not asked.
    """

    form: PromptForm
    tokenizer: Any
    limit: int

    def render(self, prompt: str, response: str) -> str:
        """Return the whole prompt as text, exactly as the guard's card writes it."""
        texts = {"{prompt}": prompt, "{response}": response}
        # All at once: a text that holds "{response}" itself stays as it is.
        fill = lambda form: re.sub(r"\{prompt\}|\{response\}", lambda m: texts[m[0]], form)  # noqa: E731
        if self.form.text is not None:
            return fill(self.form.text)
        return self.tokenizer.apply_chat_template(
            [{"role": role, "content": fill(content)} for role, content in self.form.messages],
            tokenize=False,
            add_generation_prompt=self.form.generation_prompt,
        )

    def check(self) -> None:
        """Check that the model's chat template shows the guard both texts.

        Raises:
            ModelError: if it does not, as templates of models that are no guards may.
        """
        marks = ("qzprompt", "qzresponse")
        text = self.render(*marks)
        if lost := [mark[2:] for mark in marks if text.count(mark) != 1]:
            raise ModelError(
                f"the model's chat template leaves out or repeats the {' and the '.join(lost)}; "
                "it is not the template of this guard"
            )

    def ask(self, prompt: str, response: str) -> Question | str:
        """Return the question about a reply, or why it cannot be asked.

        A response that makes it too long is cut at its end; the rest is always whole.
        """
        notes = []
        asked, told = self._harmless(prompt), self._harmless(response)
        if (asked, told) != (prompt, response):
            notes.append("control marks in the texts were broken up")
        ids = self._tokens(asked, told)
        if len(ids) > self.limit:
            low, high = 0, len(told)  # the longest beginning of the response that fits
            while high - low > 1:
                middle = (low + high) // 2
                fits = len(self._tokens(asked, told[:middle])) <= self.limit
                low, high = (middle, high) if fits else (low, middle)
            ids = self._tokens(asked, told[:low])
            if not low or len(ids) > self.limit:
                return f"the prompt alone fills the guard's context of {self.limit} tokens"
            notes.append(f"the guard saw {low} of the reply's {len(told)} characters")
        if self._count(ids) != self._expected:
            return "the texts hold control tokens of the guard that cannot be broken up"
        return Question(tuple(ids), tuple(notes))

    def _tokens(self, prompt: str, response: str) -> list[int]:
        # The form writes its own BOS: a second one is not what the guard was trained on.
        return self.tokenizer(self.render(prompt, response), add_special_tokens=False)["input_ids"]

    def _harmless(self, text: str) -> str:
        """Return a text in which no control mark is whole any more."""
        text = text.encode("utf-8", "replace").decode("utf-8")  # lone surrogates have no tokens
        if self._marks is None:
            return text
        while (broken := self._marks.sub(lambda m: f"{m[0][0]} {m[0][1:]}", text)) != text:
            text = broken
        return text

    @cached_property
    def _marks(self) -> re.Pattern[str] | None:
        added = getattr(self.tokenizer, "added_tokens_decoder", {}).values()
        found = {t.content for t in added if t.special or _MARK.fullmatch(t.content)}
        found |= {*self.form.control, *getattr(self.tokenizer, "all_special_tokens", ())}
        # A space must go between two characters that are none, or the loop would never end.
        found = {mark for mark in found if len(mark[:2].strip()) == 2}
        return re.compile("|".join(map(re.escape, sorted(found, key=len)[::-1]))) if found else None

    @cached_property
    def _control(self) -> frozenset[int]:
        added = getattr(self.tokenizer, "added_tokens_decoder", {})
        found = {i for i, token in added.items() if token.special}
        # A character outside the vocabulary is no control token.
        return frozenset(found - {getattr(self.tokenizer, "unk_token_id", None)})

    @cached_property
    def _expected(self) -> Counter[int]:
        return self._count(self._tokens("x", "x"))

    def _count(self, ids: list[int]) -> Counter[int]:
        return Counter(i for i in ids if i in self._control)
