"""Loading a model from a folder, the hub or a GGUF file; its identity; offloaded models."""

from __future__ import annotations

import json
import os
import shutil

import gguf
import numpy as np
import pytest
import torch
import transformers

from babelgate.capture import capture
from babelgate.errors import BabelgateError, ModelError
from babelgate.generate import generate
from babelgate.models import ChatModel, load_model
from babelgate.models import gguf as gguf_module
from babelgate.models.loading import load_template, model_facts
from babelgate.types import Prompt
from tiny import COMMON, SPECIAL, TEMPLATE, TEXTS, raw_model, tiny_model, tokenizer

PROMPTS = [Prompt(str(i), "en", text, "harmless", "val") for i, text in enumerate(TEXTS)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder as a trained model would be saved."""
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    raw_model("llama").save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


def load(spec, **options):
    return load_model(spec, **{"device": "cpu", "dtype": "float32", **options})


def replies(model):
    made = [r for batch in generate(model, TEXTS, max_new_tokens=6, rows=3) for r in batch]
    return {r.index: r.tokens for r in made}


# -- folders -----------------------------------------------------------------------------------------


def test_a_folder_loads_as_the_model_that_was_saved(saved, tmp_path):
    model, original = load(saved), tiny_model("llama")
    assert model.identity.name == "tiny-llama"
    assert model.identity.mismatches(original.identity) == []
    assert (model.identity.n_layers, model.identity.d_model) == (4, 32)
    assert model.context_length == 512
    assert model.stop_ids == {257}
    assert replies(model) == replies(original)
    got = capture(model, PROMPTS, tmp_path / "a").layer(3)
    assert torch.equal(got, capture(original, PROMPTS, tmp_path / "b").layer(3))


def test_a_moved_folder_is_the_same_model(saved, copy):
    again = load(str(copy))
    assert again.identity.name == "copy"
    assert load(saved).identity.mismatches(again.identity) == []


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_dtype_is_what_was_asked_for(saved, dtype):
    model = load(saved, dtype=dtype)
    assert model.identity.dtype == dtype
    assert {p.dtype for p in model.model.parameters()} == {getattr(torch, dtype)}


def test_facts_for_people(saved):
    facts = model_facts(load(saved))
    assert facts["architecture"] == "LlamaForCausalLM"
    assert (facts["vocabulary"], facts["context"], facts["device"]) == (261, 512, "cpu")
    assert facts["post_instruction_tokens"] == ["<|end|>", "<|assistant|>"]
    json.dumps(facts)


def test_the_tokenizer_alone_counts_tokens(saved):
    assert load_template(str(saved)).count_tokens(["abc", " é "]) == [3, 2]


# -- identity ----------------------------------------------------------------------------------------


def test_identity_is_stable_and_every_tensor_counts():
    model = raw_model("llama")
    first = ChatModel.wrap(model, tokenizer()).identity.weights
    assert ChatModel.wrap(model, tokenizer()).identity.weights == first
    checked = 0
    for _, parameter in model.named_parameters():
        with torch.no_grad():
            old = parameter.clone()
            parameter.view(-1)[0] += 1e-3
            assert ChatModel.wrap(model, tokenizer()).identity.weights != first
            parameter.copy_(old)
        checked += 1
    assert checked == 4 * 9 + 3
    assert ChatModel.wrap(model, tokenizer()).identity.weights == first
    assert tiny_model(seed=1).identity.weights != first


def test_identity_changes_with_one_weight_in_the_file(saved, copy):
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    weights["model.layers.2.mlp.up_proj.weight"][0, 0] += 1e-3
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    changed = load(copy).identity.mismatches(load(saved).identity)
    assert [line.partition(":")[0] for line in changed] == ["weights"]


def test_identity_changes_with_the_template(saved, tmp_path):
    file = tmp_path / "other.jinja"
    file.write_text(TEMPLATE.replace("You help people.", "You help."))
    base = load(saved).identity
    changed = load(saved, chat_template=str(file)).identity.mismatches(base)
    assert [line.partition(":")[0] for line in changed] == ["template"]
    assert load(saved, chat_template=file.read_text()).identity.mismatches(
        load(saved, chat_template=str(file)).identity
    ) == []  # fmt: skip


def test_identity_changes_with_the_dtype(saved):
    changed = load(saved, dtype="bfloat16").identity.mismatches(load(saved).identity)
    assert "dtype" in [line.partition(":")[0] for line in changed]


# -- templates ---------------------------------------------------------------------------------------


def test_a_template_may_be_longer_than_a_file_name(saved):
    long = "{# " + "x" * 5000 + " #}" + TEMPLATE
    assert load(saved, chat_template=long).template.closing == load(saved).template.closing


def test_plain_template(saved):
    model = load(saved, chat_template="plain")
    assert model.template.render("Hi") == "User: Hi\nAssistant:"


def test_a_mistyped_template_file_is_not_taken_for_a_template(saved, tmp_path):
    """As Jinja, a file name is a template that puts the same words before every prompt."""
    with pytest.raises(ModelError, match=r"chat template .*chat\.jinja.*no such file"):
        load(saved, chat_template=str(tmp_path / "chat.jinja"))


def test_a_broken_template_is_an_error_of_ours(saved):
    with pytest.raises(ModelError, match="chat template"):
        load(saved, chat_template="{% for m in messages %}{{ m.content }")


# -- what cannot be loaded ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("demmo", r"'demmo' is no folder.*Did you mean 'demo'\?"),
        ("smolm2", r"Did you mean 'smollm2'\?"),
        ("/no/such/folder", r"'/no/such/folder' is no folder"),
        ("./nowhere", "is no folder"),
        ("a/b/c", "is no folder"),
        ("/no/such.gguf", r"'/no/such\.gguf': no such file"),
    ],
)
def test_names_that_lead_nowhere(spec, complaint):
    for loader in (load, load_template):
        with pytest.raises(ModelError, match=complaint):
            loader(spec)


def test_a_hub_model_without_network(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="model 'babelgate-tests/none-such' cannot be loaded") as e:
        load("babelgate-tests/none-such")
    assert "\n" not in str(e.value)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_template("babelgate-tests/none-such")


def test_a_folder_without_config(tmp_path):
    with pytest.raises(ModelError, match=r"no config\.json; is it a model folder"):
        load(tmp_path)


def test_a_pickle_is_refused_and_not_opened(copy):
    """A pickle runs code when it is opened."""
    (copy / "model.safetensors").unlink()

    class Trap:
        def __reduce__(self):
            return (os.system, (f"touch {copy / 'executed'}",))

    torch.save({"x": Trap()}, copy / "pytorch_model.bin")
    with pytest.raises(ModelError, match="only safetensors weights are read"):
        load(copy)
    assert not (copy / "executed").exists()


def test_code_that_comes_with_a_model_is_not_run(copy):
    config = json.loads((copy / "config.json").read_text())
    config |= {
        "model_type": "evil",
        "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"},
    }
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "evil.py").write_text(f"open({str(copy / 'executed')!r}, 'w')")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(copy)
    assert not (copy / "executed").exists()


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", b"{"),
        ("config.json", b'{"model_type": "no-such-architecture"}'),
        ("config.json", b"{}"),
        ("model.safetensors", b""),
        ("model.safetensors", b"garbage" * 100),
        ("tokenizer.json", b"{"),
        ("tokenizer.json", b"{}"),
    ],
)
def test_damaged_files_are_an_error_of_ours(copy, file, content):
    (copy / file).write_bytes(content)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(copy)


def test_truncated_weights(copy):
    os.truncate(copy / "model.safetensors", (copy / "model.safetensors").stat().st_size - 1000)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(copy)


def test_missing_tensors_are_not_replaced_by_random_ones(copy):
    """transformers only warns, and goes on with fresh random weights."""
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    del weights["model.layers.2.mlp.up_proj.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 .*model\.layers\.2\.mlp\.up_proj\.weight"):
        load(copy)


def test_tied_embeddings_are_not_missing(tmp_path):
    config = transformers.LlamaConfig(**COMMON, tie_word_embeddings=True)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    assert load(tmp_path).identity.n_layers == 4


def test_wrong_options(saved):
    with pytest.raises(ModelError, match="dtype 'int4' is not one of auto, bfloat16"):
        load(saved, dtype="int4")
    if not torch.cuda.is_available():
        for device in ("cuda", "cuda:1"):
            with pytest.raises(ModelError, match=f"device '{device}' is not available here"):
                load(saved, device=device)
    with pytest.raises(ModelError, match="tpu9"):
        load(saved, device="tpu9")
    with pytest.raises(ModelError, match=r"model\.layers \(4\)"):
        load(saved, blocks="model.blocks")


# -- offloaded models --------------------------------------------------------------------------------


def dispatched(folder):
    import accelerate

    places = {
        name: "cpu" for name in ("model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head")
    }
    places |= {f"model.layers.{i}": "disk" if i in (1, 3) else "cpu" for i in range(4)}
    raw = accelerate.dispatch_model(
        raw_model("llama"), device_map=places, main_device="cpu", offload_dir=folder
    )
    assert raw.model.layers[1].mlp.up_proj.weight.device.type == "meta"
    return ChatModel.wrap(raw, tokenizer())


def test_an_offloaded_model_captures_and_generates_the_same(llama, tmp_path):
    model = dispatched(tmp_path / "weights")
    assert model.device.type == "cpu"
    plain = capture(llama, PROMPTS, tmp_path / "a", positions=("t_post", "t_inst"))
    got = capture(model, PROMPTS, tmp_path / "b", positions=("t_post", "t_inst"))
    for layer in range(4):
        for position in ("t_post", "t_inst"):
            assert torch.equal(got.layer(layer, position), plain.layer(layer, position))
    assert replies(model) == replies(llama)


def test_identity_does_not_depend_on_where_the_weights_lie(llama, tmp_path):
    """A gate made on a large machine must be usable on a small one, and not with other weights."""
    model = dispatched(tmp_path / "weights")
    assert model.identity.mismatches(llama.identity) == []


# -- GGUF --------------------------------------------------------------------------------------------


def permuted(weight, heads):
    """llama.cpp's order of the rotary halves (convert_hf_to_gguf.py, LlamaModel.permute)."""
    rows, columns = weight.shape
    return (
        weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)
    )


NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def write_gguf(path, raw, *, leave_out=()):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(512)
    writer.add_embedding_length(32)
    writer.add_block_count(4)
    writer.add_feed_forward_length(48)
    writer.add_rope_dimension_count(8)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(raw.config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(261)
    writer.add_tokenizer_model("gpt2")
    vocab = sorted(tokenizer().get_vocab().items(), key=lambda item: item[1])
    writer.add_token_list([token for token, _ in vocab])
    writer.add_token_types([3 if token in SPECIAL else 1 for token, _ in vocab])
    writer.add_token_scores([0.0] * len(vocab))
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(257)
    writer.add_pad_token_id(257)
    writer.add_chat_template(TEMPLATE)
    state = {k: v.detach().numpy().astype(np.float32) for k, v in raw.state_dict().items()}
    tensors = {
        "token_embd.weight": state["model.embed_tokens.weight"],
        "output_norm.weight": state["model.norm.weight"],
        "output.weight": state["lm_head.weight"],
    }
    for i in range(4):
        for ours, theirs in NAMES.items():
            value = state[f"model.layers.{i}.{ours}.weight"]
            if theirs in ("attn_q", "attn_k"):
                value = permuted(value, 4 if theirs == "attn_q" else 2)
            tensors[f"blk.{i}.{theirs}.weight"] = value
    for name, value in tensors.items():
        if name not in leave_out:
            writer.add_tensor(name, np.ascontiguousarray(value))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BABELGATE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def conversions(monkeypatch):
    calls, real = [], gguf_module._convert

    def counting(path, folder):
        calls.append(path)
        real(path, folder)

    monkeypatch.setattr(gguf_module, "_convert", counting)
    return calls


def test_a_gguf_file_is_converted_once_and_computes_the_same(tmp_path, cache, conversions):
    raw = raw_model("llama")
    path = write_gguf(tmp_path / "tiny.gguf", raw)
    model = load(path)
    assert model.identity.name == "tiny"
    assert len(conversions) == 1
    # The conversion rounds to bfloat16; so does the reference.
    expected = ChatModel.wrap(raw.to(torch.bfloat16).to(torch.float32), tokenizer())
    got = {k: v for k, v in model.model.state_dict().items() if not k.endswith("inv_freq")}
    assert sorted(got) == sorted(raw.state_dict())
    for name, value in expected.model.state_dict().items():
        assert torch.equal(got[name], value), name
    assert model.encode(TEXTS).ids == expected.encode(TEXTS).ids
    assert replies(model) == replies(expected)

    again = load(path)
    assert len(conversions) == 1
    assert again.identity == model.identity
    path.rename(tmp_path / "renamed.gguf")
    load(tmp_path / "renamed.gguf")
    assert len(conversions) == 1  # it is known by its content
    assert len(os.listdir(cache / "gguf")) == 1


def test_a_half_written_conversion_is_not_taken(tmp_path, cache, monkeypatch, conversions):
    path = write_gguf(tmp_path / "tiny.gguf", raw_model("llama"))

    class Killed(BaseException):
        pass

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(gguf_module, "write_json", killed)  # all files are there but the marker
        with pytest.raises(Killed):
            load(path)
    assert os.listdir(cache / "gguf") == []
    # A kill cannot clean up; nor could a version that converted in place.
    digest = gguf_module.file_sha256(path)[:16]
    for name in (digest, digest + ".abcd1234"):
        (cache / "gguf" / name).mkdir()
        (cache / "gguf" / name / "config.json").write_text("{")
    assert load(path).identity.n_layers == 4
    assert len(conversions) == 2
    assert (cache / "gguf" / digest / gguf_module._MARKER).exists()


@pytest.mark.parametrize("content", [b"", b"GGUF", b"garbage" * 1000])
def test_a_garbage_gguf_file(tmp_path, cache, content):
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"x\.gguf cannot be read as a GGUF model"):
        load(path)
    assert os.listdir(cache / "gguf") == []


def test_a_truncated_gguf_file(tmp_path, cache):
    path = write_gguf(tmp_path / "tiny.gguf", raw_model("llama"))
    os.truncate(path, path.stat().st_size * 2 // 3)
    with pytest.raises(ModelError, match=r"tiny\.gguf cannot be read as a GGUF model"):
        load(path)
    assert os.listdir(cache / "gguf") == []


def test_a_gguf_file_without_one_tensor_is_not_filled_with_random_numbers(tmp_path, cache):
    path = write_gguf(tmp_path / "x.gguf", raw_model("llama"), leave_out=["blk.2.ffn_up.weight"])
    with pytest.raises(ModelError, match=r"x\.gguf .*lacks 1 .*layers\.2\.mlp\.up_proj"):
        load(path)
    assert os.listdir(cache / "gguf") == []


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("BABELGATE_CACHE", str(tmp_path / "cache"))
    path = write_gguf(tmp_path / "tiny.gguf", raw_model("llama"))
    with pytest.raises(BabelgateError, match=r"cannot write .*cache"):
        load(path)
