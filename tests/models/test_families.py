"""Laws that must hold on every architecture family: capture, encode, blocks, generation."""

from __future__ import annotations

import pytest
import torch

from babelgate.capture import capture
from babelgate.errors import ModelError
from babelgate.generate import generate
from babelgate.models.blocks import find_blocks
from babelgate.models.prefix import shared_prefix
from babelgate.types import Prompt
from tiny import FAMILIES, TEXTS, raw_model, tiny_model, tokenizer

PROMPTS = [Prompt(str(i), "en", text, "harmless", "val") for i, text in enumerate(TEXTS)]


@pytest.fixture(scope="module", params=FAMILIES)
def model(request):
    return tiny_model(request.param)


def plain_hook_states(model, text):
    """The slow obvious reference: one prompt, no padding, no sharing, hooks on the blocks."""
    tokens = model.encode([text])
    found = []
    handles = [
        block.register_forward_hook(
            lambda _m, _i, out: found.append(out[0] if isinstance(out, tuple) else out)
        )
        for block in model.blocks
    ]
    with torch.inference_mode():
        out = model.model(input_ids=torch.tensor([tokens.ids[0]]), output_hidden_states=True)
    for handle in handles:
        handle.remove()
    states = torch.stack([h[0] for h in found])
    return states[:, -1], states[:, -tokens.inst_offsets[0]], out.hidden_states[-1][0, -1]


def test_capture_equals_plain_hooks(model, tmp_path):
    got = capture(model, PROMPTS, tmp_path, positions=("t_post", "t_inst"), batch_tokens=150)
    checked = 0
    for i, prompt in enumerate(PROMPTS):
        post, inst, normed = plain_hook_states(model, prompt.text)
        for layer in range(4):
            torch.testing.assert_close(
                got.layer(layer, "t_post")[i], post[layer], atol=2e-4, rtol=2e-4
            )
            torch.testing.assert_close(
                got.layer(layer, "t_inst")[i], inst[layer], atol=2e-4, rtol=2e-4
            )
            checked += 1
        # The last block's output is before the final norm; transformers' hidden state is after it.
        assert not torch.allclose(got.layer(3, "t_post")[i], normed, atol=1e-2)
    assert checked == 4 * len(PROMPTS)


def test_opening_is_shared_where_it_can_be(model, tmp_path):
    prefix = shared_prefix(model, 2)
    assert prefix is not None
    assert len(prefix) == len(model.template.opening) > 5
    shared = capture(model, PROMPTS, tmp_path / "a", layers=[1, 2])
    plain = capture(model, PROMPTS, tmp_path / "b", layers=[1, 2], share_opening=False)
    for layer in (1, 2):
        torch.testing.assert_close(shared.layer(layer), plain.layer(layer), atol=2e-4, rtol=2e-4)


def test_greedy_generation_equals_transformers(model):
    replies = {}
    for batch in generate(model, TEXTS, max_new_tokens=12, rows=3):
        replies |= {r.index: r for r in batch}
    assert sorted(replies) == list(range(len(TEXTS)))
    for i, text in enumerate(TEXTS):
        ids = torch.tensor([model.encode([text]).ids[0]])
        made = model.model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12
        )[0, ids.shape[1] :].tolist()
        expected = made[: made.index(257)] if 257 in made else made
        assert list(replies[i].tokens) == expected
        assert replies[i].stopped == (257 in made)


def test_encode_adds_no_second_bos_and_finds_the_template(model):
    tokens = model.encode(["Hello there"])
    assert tokens.ids[0].count(256) == 1
    text = model.tokenizer.decode([tokens.ids[0][-tokens.inst_offsets[0]]])
    assert text == "e"  # the last letter of the user's text, in a byte-level tokenizer
    assert model.tokenizer.decode(list(model.template.closing)) == "<|end|><|assistant|>"


def test_blocks_can_be_named_and_a_wrong_name_lists_the_candidates():
    raw = raw_model("llama")
    assert find_blocks(raw, "model.layers") is raw.model.layers
    with pytest.raises(ModelError, match=r"model\.layers \(4\)"):
        find_blocks(raw, "model.blocks")


def test_vision_tower_with_as_many_layers_is_not_taken():
    raw = raw_model("gemma3-multimodal")
    assert find_blocks(raw) is raw.model.language_model.layers


def test_model_without_template_says_what_to_do():
    from babelgate.models import ChatModel

    bare = tokenizer()
    bare.chat_template = None
    with pytest.raises(ModelError, match="--chat-template"):
        ChatModel.wrap(raw_model("gpt2"), bare)
