"""Tiny random models of the architectures of NLLB-200 and MADLAD-400, with letters as tokens."""

from __future__ import annotations

import string
from typing import Any

import torch
import transformers

CHARACTERS = list(
    dict.fromkeys(
        string.ascii_letters
        + string.digits
        + string.punctuation
        + "äöüßéẹọṣ"
        + "абвгдежзийклмнопрстуфхцчшщъыьэюя"
        + "我不能中文字的。你好吗？"
    )
)


def nllb_tokenizer() -> Any:
    vocab = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "▁": 4}
    vocab |= {c: i for i, c in enumerate(CHARACTERS, 5)}
    return transformers.NllbTokenizer(vocab=vocab, merges=[])  # pyright: ignore


def madlad_tokenizer() -> Any:
    # MADLAD's marks are ordinary entries of its vocabulary, as here.
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), ("<2en>", 0.0), ("<2de>", 0.0)]
    pieces += [("▁", -2.0), *((c, -4.0) for c in CHARACTERS)]
    return transformers.T5Tokenizer(vocab=pieces, extra_ids=0)  # pyright: ignore


def nllb_model(vocabulary: int, *, eos_bias: float = 0.0) -> Any:
    config = transformers.M2M100Config(
        vocab_size=vocabulary,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        max_position_embeddings=1024,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        decoder_start_token_id=2,
    )
    return _random(transformers.M2M100ForConditionalGeneration, config, 2, eos_bias)


def madlad_model(vocabulary: int, pad: int, *, eos_bias: float = 0.0) -> Any:
    config = transformers.T5Config(
        vocab_size=vocabulary,
        d_model=32,
        d_kv=8,
        d_ff=48,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        pad_token_id=pad,
        eos_token_id=2,
        decoder_start_token_id=0,
    )
    return _random(transformers.T5ForConditionalGeneration, config, 2, eos_bias)


def _random(kind: Any, config: Any, eos: int, bias: float) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = kind(config)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.3)
    if bias:
        # A random model hardly ever ends: this one ends about as often as the bias says.
        head = model.get_output_embeddings()
        head.bias = torch.nn.Parameter(torch.zeros(config.vocab_size))
        head.bias.data[eos] = bias
    return model.eval()
