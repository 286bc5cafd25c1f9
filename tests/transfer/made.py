"""A tiny model whose refusals are planted, language by language, with prompts and a judge."""

from __future__ import annotations

import torch

from babelgate.directions import Direction
from babelgate.models import ChatModel
from babelgate.transfer.sources import Source
from babelgate.types import Prompt, PromptSet
from tiny import raw_model, tokenizer

#: Residual dimensions: harm in English and Swahili text, refusal of each, and a constant.
HARM = {"en": 0, "sw": 1}
REFUSAL = {"en": 2, "sw": 3}
CONSTANT = 4
#: The letter that is harmful in a language, and the one that its refusals begin with.
LETTER = {"en": "x", "sw": "z"}
SAYS = {"en": "N", "sw": "M"}
ANSWER = "Y"


def axis(number: int, size: int = 32) -> torch.Tensor:
    vector = torch.zeros(size)
    vector[number] = 1.0
    return vector


def planted_model() -> ChatModel:
    """Return a model that refuses English by dimension 2 and Swahili by dimension 3.

    Block 0 attends evenly to all tokens and copies the share of harmful letters into the language's
    refusal dimension; the other blocks do nothing. The reply's letter is N if dimension 2 is large,
    M if dimension 3 is, Y otherwise.
    """
    model = raw_model("llama")
    words = tokenizer()
    token = lambda text: words(text, add_special_tokens=False)["input_ids"][0]  # noqa: E731
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.zero_()
            assert parameter.ndim > 1 or "norm" in name
        attention = model.model.layers[0].self_attn
        for i, language in enumerate(HARM):
            model.model.embed_tokens.weight[token(LETTER[language]), HARM[language]] = 1.0
            attention.v_proj.weight[i, HARM[language]] = 1.0
            attention.o_proj.weight[REFUSAL[language], i] = 1.0
            model.lm_head.weight[token(SAYS[language]), REFUSAL[language]] = 0.7
        model.model.embed_tokens.weight[token("<|assistant|>"), CONSTANT] = 1.0
        model.lm_head.weight[token(ANSWER), CONSTANT] = 1.0
    return ChatModel.wrap(model, words, name="planted")


def planted_tokens(model: ChatModel) -> dict[str, frozenset[int]]:
    return {x: frozenset(model.template.bare_tokens(SAYS[x])[:1]) for x in SAYS}


class LetterJudge:
    """Refused where the reply begins with the language's letter."""

    name = "letter"
    version = "1"
    languages = frozenset(SAYS)

    def __init__(self) -> None:
        self.asked = 0

    def describe(self):
        return {"name": self.name, "version": self.version, "languages": [], "note": ""}

    def judge(self, replies):
        self.asked += len(replies)
        return [r.verdict(self.name, self.outcome(r), "") for r in replies]

    def outcome(self, reply):
        said = reply.completion.text[:1]
        if said not in (ANSWER, *SAYS.values()):
            return "degenerate"
        return "refused" if said == SAYS[reply.prompt.language] else "answered"


def prompts(languages=("en", "sw"), n: int = 5) -> PromptSet:
    """Return translated prompts; harmful ones consist of the language's letter."""
    return PromptSet(
        "made",
        tuple(
            Prompt(
                id=f"{label}-{i}",
                language=language,
                text=(LETTER[language] if label == "harmful" else "a") * (10 + i),
                label=label,
                split="test",
                group_id=f"{label}-{i}",
            )
            for language in languages
            for label in ("harmful", "harmless")
            for i in range(n)
        ),
    )


def source(vector: torch.Tensor, language: str, layer: int = 1, length: float | None = 2.0):
    """Return a source with two shuffled controls and a language identity beside the point."""

    def named(v, what):
        return Direction(v / v.norm(), layer, "t_post", what, language)

    return Source(
        named(vector, "planted"),
        length,
        (named(axis(10), "shuffled labels"), named(axis(11), "shuffled labels")),
        named(axis(12 + (language == "sw")), "language identity"),
    )


def planted_sources() -> dict[str, Source]:
    return {x: source(axis(REFUSAL[x]), x) for x in REFUSAL}
