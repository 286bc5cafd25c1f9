"""Generation: one batch or many, shared opening or not, memory, limits, context."""

from __future__ import annotations

import pytest
import torch

from babelgate import generate as module
from babelgate.errors import UserError
from babelgate.generate import generate
from babelgate.interventions import gated
from gates import random_gate
from tiny import TEXTS, tiny_model


def replies(model, texts=TEXTS, **options):
    found = {}
    for batch in generate(model, texts, **{"max_new_tokens": 10, **options}):
        for reply in batch:
            assert reply.index not in found
            found[reply.index] = reply.tokens
    return [found[i] for i in range(len(texts))]


def test_batch_size_does_not_change_replies(llama):
    one = replies(llama, rows=1)
    assert len({len(r) for r in one}) >= 1
    for rows in (2, 3, 64):
        assert replies(llama, rows=rows) == one


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2", "phi"])
def test_shared_opening_equals_none_with_and_without_a_gate(family):
    model = tiny_model(family)
    gate = gated(random_gate(model, TEXTS), language_of=lambda _: None)
    tokens = model.encode(TEXTS)
    for intervention in (None, gate):
        assert module._Openings.of(model, tokens, intervention) is not None
        shared = replies(model, intervention=intervention)
        assert shared == replies(model, intervention=intervention, share_opening=False)


def test_edited_opening_is_what_silent_rows_see(llama):
    """Without the edited opening, rows that project out would see the untouched one."""
    gate = random_gate(llama, TEXTS)
    silent = gated(gate, alpha=0.0, language_of=lambda _: None)
    openings = module._Openings.of(llama, llama.encode(TEXTS), silent)
    assert openings is not None
    fired, edited = openings.edited
    assert fired is None
    assert edited is not None
    for layer in range(4):
        same = torch.equal(openings.plain.keys_values[layer][0], edited.keys_values[layer][0])
        assert same == (layer <= gate.steer_layer)


def test_sliding_windows_share_no_opening_in_generation():
    model = tiny_model("gemma2")
    assert module._Openings.of(model, model.encode(TEXTS), None) is None


def test_the_opening_is_computed_once_and_not_again(llama, monkeypatch):
    lengths = []
    forward = llama.model.forward
    monkeypatch.setattr(
        llama.model,
        "forward",
        lambda *a, **k: lengths.append(k["input_ids"].shape) or forward(*a, **k),
    )
    replies(llama, rows=64, max_new_tokens=2)
    opening = len(llama.template.opening)
    longest = max(llama.encode(TEXTS).lengths)
    assert lengths == [(1, opening), (len(TEXTS), longest - opening), (len(TEXTS), 1)]


def test_out_of_memory_halves_the_batch(llama, monkeypatch):
    expected = replies(llama)
    forward, sizes = llama.model.forward, []

    def tight(*args, **kwargs):
        rows = kwargs["input_ids"].shape[0]
        sizes.append(rows)
        if rows > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")
        return forward(*args, **kwargs)

    monkeypatch.setattr(llama.model, "forward", tight)
    assert replies(llama, rows=7) == expected
    assert max(sizes) == 7
    monkeypatch.setattr(
        llama.model, "forward", lambda *a, **k: (_ for _ in ()).throw(RuntimeError("other"))
    )
    with pytest.raises(RuntimeError, match="other"):
        replies(llama, share_opening=False)


def test_each_row_keeps_its_own_limit(llama):
    limits = [1, 2, 3, 4, 5, 6, 7]
    made = replies(llama, max_new_tokens=limits)
    free = replies(llama, max_new_tokens=7)
    assert [len(m) for m in made] == [min(n, len(f)) for n, f in zip(limits, free)]
    assert all(f[: len(m)] == m for m, f in zip(made, free))


def test_prompt_and_reply_must_fit_the_context(llama):
    with pytest.raises(UserError, match="context is 512"):
        replies(llama, ["y" * 480], max_new_tokens=64)


def test_no_prompts_is_no_work(llama):
    assert replies(llama, []) == []
