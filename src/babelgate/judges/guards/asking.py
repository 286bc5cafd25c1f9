"""Generating guards' answers: left-padded greedy batches, and the probability of a yes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from ...errors import JudgeError
from ...models.chat import ChatModel
from ...models.template import Tokens

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a guard wrote; ``cut`` if the limit of tokens ended it.

    ``p_yes`` is the probability (0..1) of a yes where the answer tells yes or no, normalised over
    the tokens that begin either; ``None`` if there was no such place.
    """

    text: str
    cut: bool
    p_yes: float | None


class _Columns(LogitsProcessor):
    """Keeps the logits of a few tokens at every step; whole ones would fill the memory."""

    def __init__(self, columns: list[int]) -> None:
        self.columns = columns
        self.steps: list[torch.Tensor] = []

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        self.steps.append(scores[:, self.columns].float().cpu())
        return scores


def ask(
    model: ChatModel,
    questions: Sequence[Sequence[int]],
    max_new_tokens: int,
    label: str | None = None,
) -> list[Answer]:
    """Return the model's answers to questions of token ids, in order, all in one batch.

    ``label`` names the line whose yes or no ``p_yes`` is about. A batch that does not fit into
    memory is halved.

    Raises:
        JudgeError: if the memory does not suffice for a single question.
    """
    return _halving(lambda some: _batch(model, some, max_new_tokens, label), questions)


def next_logits(model: ChatModel, questions: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """Return the logits ``[V]`` (float32, on the CPU) of what follows each question's tokens.

    In one batch, halved where it does not fit into memory.

    Raises:
        JudgeError: if the memory does not suffice for a single question.
    """

    def one_step(some: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        made = _generate(model, some, 1, return_dict_in_generate=True, output_logits=True)
        return list(made.logits[0].float().cpu())

    return _halving(one_step, questions)


@torch.inference_mode()
def _halving(
    run: Callable[[Sequence[Sequence[int]]], list[T]], questions: Sequence[Sequence[int]]
) -> list[T]:
    try:
        return run(questions)
    except torch.OutOfMemoryError as error:
        if len(questions) == 1:
            raise JudgeError(
                f"the guard has no memory for a question of {len(questions[0])} tokens; use a "
                "smaller guard or another device"
            ) from error
    # Outside the handler, whose traceback would keep the failed batch alive.
    half = len(questions) // 2
    return [found for part in (questions[:half], questions[half:]) for found in _halving(run, part)]


def _generate(
    model: ChatModel, questions: Sequence[Sequence[int]], max_new_tokens: int, **options: Any
) -> Any:
    rows = Tokens(tuple(map(tuple, questions)), (1,) * len(questions), model.template.pad_id)
    ids, mask = rows.padded()
    # Written out, so that penalties in the model's own settings do not bend the answer.
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        eos_token_id=sorted(model.stop_ids) or None,
        pad_token_id=model.template.pad_id,
    )
    return model.model.generate(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        generation_config=settings,
        **options,
    )


def _batch(
    model: ChatModel, questions: Sequence[Sequence[int]], max_new_tokens: int, label: str | None
) -> list[Answer]:
    yes, no = (first_tokens(model.tokenizer, word) for word in ("yes", "no"))
    watch = _Columns([*sorted(yes - no), *sorted(no - yes)])
    watched = label is not None and bool(yes - no) and bool(no - yes)
    watching = LogitsProcessorList([watch] if watched else [])
    made = _generate(model, questions, max_new_tokens, logits_processor=watching)
    made = made[:, max(map(len, questions)) :].tolist()
    answers = []
    for i, row in enumerate(made):
        end = next((n for n, token in enumerate(row) if token in model.stop_ids), len(row))
        text = _decode(model.tokenizer, row[:end])
        p_yes = None
        if label is not None and watched:
            place = _place(model.tokenizer, row[:end], text, label)
            if place is not None:
                logits = watch.steps[place][i]
                p_yes = float(torch.softmax(logits, -1)[: len(yes - no)].sum())
        answers.append(Answer(text, end == len(row), p_yes))
    return answers


def _decode(tokenizer: Any, ids: Sequence[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def first_tokens(tokenizer: Any, word: str) -> set[int]:
    """Return the tokens with which a word begins, in its usual spellings."""
    found = set()
    for form in (word, word.capitalize(), word.upper()):
        for text in (form, f" {form}"):
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            found.update([i for i in ids if _decode(tokenizer, [i]).strip()][:1])
    return found


def _place(tokenizer: Any, ids: Sequence[int], text: str, label: str) -> int | None:
    """Return the step at which the (last) value of a line was written."""
    before = re.compile(rf"(?:^|\n)[ \t]*{re.escape(label)}\s*:\s*\Z", re.ASCII | re.IGNORECASE)
    if label.lower() not in text.lower():
        return None
    begun = [bool(before.search(_decode(tokenizer, ids[:n]))) for n in range(len(ids) + 1)]
    steps = [n for n in range(len(ids)) if begun[n] and not begun[n + 1]]
    return steps[-1] if steps else None
