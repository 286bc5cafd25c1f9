"""Tiny random chat models of every architecture family, with a byte-level tokenizer."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from babelgate.models import ChatModel

TEMPLATE = (
    "{{ bos_token }}<|system|>You help people.<|end|>"
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] | trim }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<|bos|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]

COMMON: dict[str, Any] = {
    "vocab_size": 261,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 256,
    "eos_token_id": 257,
    "pad_token_id": 257,
}
HEAD = {"head_dim": 8}
SLIDING = {"sliding_window": 16}


def tokenizer() -> Any:
    """Return a byte-level tokenizer that adds a BOS of its own when asked for special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {c: i for i, c in enumerate(alphabet)} | {s: 256 + i for i, s in enumerate(SPECIAL)}
    core = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(SPECIAL)
    core.post_processor = processors.TemplateProcessing(
        single="<|bos|> $A", special_tokens=[("<|bos|>", 256)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<|bos|>",
        eos_token="<|end|>",
        pad_token="<|end|>",
        chat_template=TEMPLATE,
    )


def _configs() -> dict[str, Any]:
    t = transformers
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
    }
    small = {k: v for k, v in COMMON.items() if k not in ("num_key_value_heads",)}
    return {
        "llama": t.LlamaConfig(**COMMON),
        "qwen2": t.Qwen2Config(**COMMON),
        "qwen3": t.Qwen3Config(**COMMON, **HEAD),
        "mistral": t.MistralConfig(**COMMON, **SLIDING),
        "gemma2": t.Gemma2Config(**COMMON, **HEAD, **SLIDING),
        "gemma3": t.Gemma3TextConfig(**COMMON, **HEAD, **SLIDING),
        "phi3": t.Phi3Config(**COMMON),
        "phi": t.PhiConfig(**small),
        "gpt2": t.GPT2Config(
            vocab_size=261,
            n_embd=32,
            n_layer=4,
            n_head=4,
            n_positions=512,
            bos_token_id=256,
            eos_token_id=257,
            pad_token_id=257,
        ),
        "gemma3-multimodal": t.Gemma3Config(
            text_config=t.Gemma3TextConfig(**COMMON, **HEAD, **SLIDING).to_dict(),
            vision_config=vision,
            mm_tokens_per_image=4,
        ),
    }


FAMILIES = (
    "llama",
    "qwen2",
    "qwen3",
    "mistral",
    "gemma2",
    "gemma3",
    "phi3",
    "phi",
    "gpt2",
    "gemma3-multimodal",
)
# The last block's output is not hidden_states[-1] where a final norm follows: everywhere here.


def raw_model(family: str, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Any:
    """Return a transformers model with random weights that are the same on every call."""
    config = _configs()[family]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if family == "gemma3-multimodal":
            model = transformers.Gemma3ForConditionalGeneration(config)
        else:
            model = transformers.AutoModelForCausalLM.from_config(config)
        # Library initialisation is so small that all greedy replies would be alike.
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.15)
    return model.to(dtype).eval()


def tiny_model(family: str = "llama", *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Any:
    """Return a tiny random :class:`ChatModel`."""
    return ChatModel.wrap(raw_model(family, seed=seed, dtype=dtype), tokenizer(), name=family)


TEXTS = (
    "Hi",
    "How do I bake bread without an oven?",
    "Was ist das?",
    "Báwo ni?",
    "x",
    "Tell me a long story about a goat that crossed the mountains in winter, please.",
    "如何做饭",
)
