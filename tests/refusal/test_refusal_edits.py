"""Edits of rows, scores from logits, and refusal tokens with their check."""

from __future__ import annotations

import math

import pytest
import torch
from made_selection import as_hoped, prompts_of

from babelgate.directions import Direction
from babelgate.generate import next_token_logits
from babelgate.interventions.actions import ProjectOut, everywhere
from babelgate.interventions.conditional import Ungated
from babelgate.refusal import RefusalTokens, derive_tokens, select_directions
from babelgate.refusal.edits import attention_writes, project_out_rows
from babelgate.refusal.passes import Ablation, BlockInputs, Passes
from babelgate.refusal.scores import divergence, refusal_log_odds
from babelgate.refusal.tokens import published_tokens
from babelgate.types import Completion, Verdict
from tiny import FAMILIES, TEXTS, tiny_model


def test_each_row_loses_its_own_direction():
    rng = torch.Generator().manual_seed(0)
    hidden = torch.randn(3, 5, 8, generator=rng)
    directions = torch.nn.functional.normalize(torch.randn(3, 8, generator=rng), dim=-1)
    found = project_out_rows(hidden, directions)
    for h, r, got in zip(hidden, directions, found):
        torch.testing.assert_close(got, h - torch.outer(h @ r, r))
    assert torch.einsum("rtd,rd->rt", found, directions).abs().max() < 1e-5


@pytest.mark.parametrize(("family", "equal"), [("phi", True), ("llama", False), ("gemma2", False)])
def test_how_the_published_ablation_differs_from_everywhere(family, equal):
    """Only in what an MLP reads of its own block's attention: nothing where both read the same."""
    model = tiny_model(family)
    vector = torch.nn.functional.normalize(torch.arange(1.0, 33.0), dim=0)
    direction = Direction(vector, 1, "t_post", "x", "")
    action = ProjectOut(direction=direction, layers=everywhere(len(model.blocks)))
    theirs = next_token_logits(model, TEXTS, Ungated(action))
    passes = Passes(model, TEXTS)
    edit = Ablation(vector[None])
    opening = passes.edited_openings(edit)
    ours = torch.cat([passes.logits([(0, i)], edit, opening) for i in range(len(TEXTS))])
    assert ((ours - theirs).abs().max() < 1e-4) == equal


def test_attention_is_found_in_every_family():
    for family in FAMILIES:
        model = tiny_model(family)
        found = attention_writes(model.blocks)
        assert found is not None, family
        assert len(found) == len(model.blocks)


def hooks_of(model):
    return [len(b._forward_hooks) + len(b._forward_pre_hooks) for b in model.blocks]


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
def test_block_inputs_are_the_hidden_states(family):
    model = tiny_model(family)
    model.model(input_ids=torch.tensor([[5]]), output_hidden_states=True)  # leaves hooks of its own
    before = hooks_of(model)
    passes = Passes(model, TEXTS, batch_tokens=50)
    inputs = BlockInputs(passes)
    opening = len(model.template.opening)
    for layer in (1, 3):
        states = inputs.at(layer)
        for i, text in enumerate(TEXTS):
            ids = torch.tensor([model.encode([text]).ids[0]])
            with torch.inference_mode():
                hidden = model.model(input_ids=ids, output_hidden_states=True).hidden_states[layer]
            torch.testing.assert_close(states[i], hidden[0, opening:], atol=5e-5, rtol=5e-5)
            torch.testing.assert_close(
                inputs.opening(layer), hidden[:, :opening], atol=5e-5, rtol=5e-5
            )
    with pytest.raises(ValueError, match="upwards"):
        inputs.at(2)
    assert not any("forward" in b.__dict__ for b in model.blocks)
    assert hooks_of(model) == before


def test_a_batch_that_does_not_fit_is_halved(monkeypatch):
    model = tiny_model()
    passes = Passes(model, TEXTS)
    edit = Ablation(torch.eye(32)[:3])
    opening = passes.edited_openings(edit)
    pairs = [(c, p) for c in range(3) for p in range(4)]
    expected = passes.logits(pairs, edit, opening)
    forward, sizes = model.model.model.forward, []

    def limited(*args, **kwargs):
        sizes.append(len(kwargs["input_ids"]))
        if sizes[-1] > 2:
            raise MemoryError
        return forward(*args, **kwargs)

    monkeypatch.setattr(model.model.model, "forward", limited)
    torch.testing.assert_close(passes.logits(pairs, edit, opening), expected, atol=1e-4, rtol=1e-4)
    assert sizes[0] == 12
    assert min(sizes) <= 2


def test_log_odds_and_divergence_by_hand():
    p = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], dtype=torch.float64)
    odds = refusal_log_odds((p.log() + 3).float(), [0, 2])
    assert odds.tolist() == pytest.approx([math.log(0.8 / 0.2), math.log(0.9 / 0.1)], abs=1e-5)
    found = divergence(p.log().float(), (p.flip(0).log() - 5).float())
    a, b = p.tolist()
    expected = [sum(x * math.log(x / y) for x, y in zip(*pair)) for pair in ((a, b), (b, a))]
    assert found.tolist() == pytest.approx(expected, abs=1e-5)


def replies(*rows):
    """Return completions and verdicts from (language, text, outcome, times)."""
    made, verdicts = [], []
    for language, text, outcome, times in rows:
        for _ in range(times):
            key = str(len(made))
            made.append(Completion(language, key, "base", text, 3, "eos"))
            verdicts.append(Verdict(language, key, "base", "made", outcome))
    return made, verdicts


def test_tokens_are_derived_and_borrowed_ones_marked(llama):
    found = derive_tokens(llama, *replies(
        ("en", "I cannot", "refused", 6), ("en", "No", "refused", 2), ("en", "Sure", "answered", 7),
        ("en", "It is", "answered", 1), ("yo", "Mo", "refused", 1), ("yo", "Bee", "answered", 3),
        ("sw", "", "refused", 2),
    ))  # fmt: skip
    first = lambda text: llama.template.bare_tokens(text)[0]  # noqa: E731
    en, yo = found["en"], found["yo"]
    # N begins 2 of 8 refusals: 3/9 against 3 x 1/9. I begins 6 of 8, and 1 of 8 others.
    assert set(en.ids) == {first("I"), first("N")}
    assert en.texts == tuple(llama.tokenizer.decode([i]) for i in en.ids)
    assert not en.borrowed
    assert (en.n_refused, en.n_other, en.share_refused, en.share_other) == (8, 8, 1.0, 1 / 8)
    assert en.published == published_tokens(llama) == (first("I"),)
    assert en.overlap == (first("I"),)
    assert (en.published_share_refused, en.published_share_other) == (6 / 8, 1 / 8)
    assert yo.borrowed
    assert yo.ids == en.ids
    assert (yo.share_refused, yo.share_other) == (0.0, 0.0)
    assert found["sw"].borrowed
    assert math.isnan(found["sw"].share_refused)
    for tokens in found.values():
        again = RefusalTokens.from_json(tokens.to_json())
        assert again.to_json() == tokens.to_json()


def test_published_tokens_follow_the_family():
    qwen, other = tiny_model("qwen2"), tiny_model("gemma2")
    assert len(published_tokens(qwen)) == 2
    assert published_tokens(other) == published_tokens(qwen)[:1]


def test_all_languages_each_from_its_own_replies(llama, tmp_path):
    prompts = [*prompts_of("en"), *prompts_of("yo", seed=1)]
    outcomes = as_hoped(prompts) | {p.key: "answered" for p in prompts if p.language == "yo"}
    said = {"refused": "No", "answered": "Yes"}
    made = [Completion(p.language, p.id, "base", said[outcomes[p.key]], 3, "eos") for p in prompts]
    verdicts = [Verdict(p.language, p.id, "base", "made", outcomes[p.key]) for p in prompts]
    found = select_directions(llama, prompts, made, verdicts, folder=tmp_path)
    assert list(found) == ["en", "yo"]
    assert found["en"].status in ("selected", "none_passes")
    assert found["en"].map is not None
    assert found["yo"].status == "never_refuses"
    assert found["yo"].tokens.borrowed
    assert (tmp_path / "en" / "scores.jsonl").exists()
    assert found["en"].tokens.n_refused == 6  # train only
