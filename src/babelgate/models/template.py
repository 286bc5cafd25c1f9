"""Prompts to tokens: the one place where a chat template is applied and text is tokenised."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch

from ..errors import ModelError

# Llama-3's template writes today's date unless it is told one; a prompt must not change overnight.
_FIXED_DATE = "26 Jul 2024"

# For models without a template of their own (GPT-2-like); never chosen silently.
PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].capitalize() }}: {{ message['content'] }}\n"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)

# Texts that differ in their first and last characters, so that what all of them share when
# templated is the template's own.
_PROBES = ("a", "Жук", "你好", "7", "¿Qué?", "ni o", "สวัสดี", "- x -")


@dataclass(frozen=True)
class Tokens:
    """Templated prompts as token ids, unpadded, in the order of the texts.

    ``inst_offsets[i]`` counts the position ``t_inst`` (last token of the user's text) from the end
    of row i: the token is ``ids[i][-inst_offsets[i]]``. ``t_post`` is always ``ids[i][-1]``.
    """

    ids: tuple[tuple[int, ...], ...]
    inst_offsets: tuple[int, ...]
    pad_id: int

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> list[int]:
        """Number of tokens per row, template included."""
        return [len(row) for row in self.ids]

    def padded(
        self,
        rows: Sequence[int] | None = None,
        *,
        skip: int = 0,
        side: Literal["left", "right"] = "left",
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ``(input_ids, mask)`` of shape [B, T], padded to the longest row.

        ``skip`` leaves out that many opening tokens of each row, whose keys and values are shared.
        Padding to the right is for passes over the prompt alone, after such an opening: between
        opening and text it would stretch the distances that a sliding attention window counts.
        """
        chosen = [self.ids[i][skip:] for i in (range(len(self.ids)) if rows is None else rows)]
        width = max(len(row) for row in chosen)
        ids = torch.full((len(chosen), width), self.pad_id, dtype=torch.long)
        mask = torch.zeros((len(chosen), width), dtype=torch.long)
        for i, row in enumerate(chosen):
            start = 0 if side == "right" else width - len(row)
            ids[i, start : start + len(row)] = torch.tensor(row, dtype=torch.long)
            mask[i, start : start + len(row)] = 1
        return ids, mask


@dataclass(frozen=True)
class ChatTemplate:
    """A tokenizer with its chat template, and the tokens that the template itself contributes.

    Raises:
        ModelError: if the tokenizer has no chat template and none is given.
    """

    tokenizer: Any
    source: str | None = None

    def __post_init__(self) -> None:
        if self.source is None and not getattr(self.tokenizer, "chat_template", None):
            raise ModelError(
                "this model's tokenizer has no chat template, so how to put a question to it is "
                "not known; give one with `--chat-template FILE` (Jinja), or `--chat-template "
                "plain` for 'User: … Assistant:'"
            )

    def render(self, text: str, system: str | None = None) -> str:
        """Return the templated conversation with its generation prompt."""
        messages = [{"role": "user", "content": text.strip()}]
        if system is not None:
            messages.insert(0, {"role": "system", "content": system})
        return self.tokenizer.apply_chat_template(
            messages,
            chat_template=self.source,
            tokenize=False,
            add_generation_prompt=True,
            date_string=_FIXED_DATE,
        )

    def encode(self, texts: Sequence[str], system: str | None = None) -> Tokens:
        """Return the templated texts as tokens.

        The template writes the special tokens, so the tokenizer must not add them again: a second
        BOS moves every activation of Llama and Gemma models.
        """
        rendered = [self.render(text, system) for text in texts]
        ids = self._tokenize(rendered)
        return Tokens(
            tuple(tuple(row) for row in ids),
            tuple(_common(row[::-1], self.closing[::-1]) + 1 for row in ids),
            self.pad_id,
        )

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each bare text, template excluded."""
        return [len(row) for row in self._tokenize([text.strip() for text in texts])]

    def bare_tokens(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a text that a reply begins with, without template or BOS."""
        return tuple(self._tokenize([text])[0])

    @cached_property
    def opening(self) -> tuple[int, ...]:
        """Tokens before the user's text that every prompt shares (system prompt, role marks)."""
        rows = self._probe_ids
        return rows[0][: min(_common(rows[0], row) for row in rows[1:])]

    @cached_property
    def closing(self) -> tuple[int, ...]:
        """Post-instruction tokens: what follows the user's text in every prompt."""
        rows = self._probe_ids
        n = min(_common(rows[0][::-1], row[::-1]) for row in rows[1:])
        return rows[0][len(rows[0]) - n :]

    @cached_property
    def pad_id(self) -> int:
        """The padding token, or any token where there is none: padding is always masked."""
        for name in ("pad_token_id", "eos_token_id", "bos_token_id"):
            token = getattr(self.tokenizer, name, None)
            if isinstance(token, int):
                return token
        return 0

    @cached_property
    def fingerprint(self) -> str:
        """First 16 hex digits of the sha256 of the template's source and what it renders to."""
        parts = [self.source or self.tokenizer.chat_template, self.render("probe")]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    @cached_property
    def _probe_ids(self) -> list[tuple[int, ...]]:
        return [tuple(row) for row in self._tokenize([self.render(text) for text in _PROBES])]

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        return self.tokenizer(texts, add_special_tokens=False, padding=False)["input_ids"]


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """Return how many leading items two sequences share."""
    n = 0
    for x, y in zip(a, b):
        if x != y:
            break
        n += 1
    return n
