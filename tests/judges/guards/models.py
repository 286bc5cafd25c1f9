"""Tiny random guards of the right architectures, and one that answers as a test tells it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

import tiny
from babelgate.models import ChatModel
from babelgate.types import Completion, Prompt

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Stand-ins for the templates that ship with the weights: a task around the conversation.
QWEN3GUARD = (
    "<|im_start|>user\n# Task: judge the last response.\n"
    "{% for m in messages %}{{ m['role'] | upper }}: {{ m['content'] }}\n{% endfor %}"
    "{{ '<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n' }}"
)
LLAMA_GUARD = (
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nTask: look at the last message.\n"
    "{% for m in messages %}{{ 'User' if m['role'] == 'user' else 'Agent' }}: "
    "{{ m['content'] | trim }}\n\n{% endfor %}"
    "<|eot_id|><|start_header_id|>assistant<|end_header_id|>"
)

#: guard: (configuration, special tokens, template); the first token is BOS, the second ends.
KINDS: dict[str, tuple[Any, list[str], str | None]] = {
    "wildguard": (transformers.MistralConfig, ["<s>", "</s>", "[INST]", "[/INST]"], None),
    "llama-guard-3-8b": (
        transformers.LlamaConfig,
        ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"],
        LLAMA_GUARD,
    ),
    "polyguard-qwen": (
        transformers.Qwen2Config,
        ["<|endoftext|>", "<|im_end|>", "<|im_start|>"],
        CHATML,
    ),
    "qwen3guard-0.6b": (
        transformers.Qwen3Config,
        ["<|endoftext|>", "<|im_end|>", "<|im_start|>"],
        QWEN3GUARD,
    ),
}


def tokenizer(kind: str) -> Any:
    """Return a byte-level tokenizer with the guard's special tokens, eager to add a BOS."""
    _, special, template = KINDS[kind]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {c: i for i, c in enumerate(alphabet)} | {s: 256 + i for i, s in enumerate(special)}
    core = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(special)
    core.post_processor = processors.TemplateProcessing(
        single=f"{special[0]} $A", special_tokens=[(special[0], 256)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=special[0],
        eos_token=special[1],
        pad_token=special[1],
        chat_template=template,
    )


def config(kind: str, context: int = 4096) -> Any:
    make, special, _ = KINDS[kind]
    sizes = tiny.COMMON | {"vocab_size": 256 + len(special), "max_position_embeddings": context}
    if kind.startswith("qwen3"):
        sizes |= tiny.HEAD
    return make(**sizes)


def folder(kind: str, path: Any) -> Any:
    """Write a tiny random guard into a folder, as it would come from the hub."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config(kind))
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.15)
    model.save_pretrained(path)
    tokenizer(kind).save_pretrained(path)
    return path


class Scripted(transformers.LlamaForCausalLM):
    """A causal model that generates for real, with logits that spell a test's answers.

    ``script`` gets the question as text and returns the answer and the probability of "y" against
    "n" at the first letter of the line on refusal.
    """

    script: Callable[[str], tuple[str, float]]
    asked: list[str]
    words: Any

    def forward(self, input_ids: Any = None, **kwargs: Any) -> Any:
        out = super().forward(input_ids=input_ids, **kwargs)
        if input_ids.shape[1] > 1:
            self._step = 0
            texts = [self.words.decode(row[row != 257]) for row in input_ids]
            self.asked.extend(texts)
            self._plan = [self.script(text) for text in texts]
        logits = torch.full_like(out.logits, -30.0)
        for i, (answer, p) in enumerate(self._plan):
            ids = [*self.words(answer, add_special_tokens=False)["input_ids"], 257]
            token = ids[min(self._step, len(ids) - 1)]
            logits[i, -1, token] = 0.0
            y, n = (self.words(c, add_special_tokens=False)["input_ids"][0] for c in "yn")
            if token in (y, n) and answer.encode()[: self._step].endswith(b"efusal: "):
                logits[i, -1, y] = float(torch.tensor(p).log())
                logits[i, -1, n] = float(torch.tensor(1 - p).log())
        self._step += 1
        out.logits = logits
        return out


def scripted(
    script: Callable[[str], tuple[str, float]], kind: str = "wildguard", context: int = 4096
) -> Any:
    """Return a :class:`ChatModel` around :class:`Scripted` with a guard's tokenizer."""
    sizes = tiny.COMMON | {"vocab_size": 261, "max_position_embeddings": context}
    model = Scripted(transformers.LlamaConfig(**sizes))
    model.script, model.asked, model.words = script, [], tokenizer(kind)
    template = "plain: {{ messages[0]['content'] }}" if KINDS[kind][2] is None else None
    return ChatModel.wrap(model, model.words, name="scripted", chat_template=template)


def reply(
    text: str,
    language: str = "en",
    prompt: str = "How do I bake bread?",
    number: int = 0,
    stop: str = "eos",
    n: int = 50,
) -> Any:
    from babelgate.judges import Reply

    asked = Prompt(f"p{number}", language, prompt, "harmless", "test")
    made = Completion(language, f"p{number}", "none", text, n, stop)  # pyright: ignore
    return Reply(asked, made)
