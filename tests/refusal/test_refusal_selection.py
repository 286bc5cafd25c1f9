"""The selection equals the plain six sweeps, does less work, and says why where it finds nothing."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from made_selection import as_hoped, prompts_of, tokens_of
from plain_selection import last_logits, plain_choice, plain_maps

from babelgate.capture import capture, post_instruction_positions
from babelgate.errors import UserError
from babelgate.refusal import Selection, SelectionSettings, select_direction
from babelgate.refusal import scoring as scoring_module
from babelgate.refusal.choice import choose
from babelgate.refusal.passes import Addition, BlockInputs, Passes
from babelgate.refusal.results import SelectionMap
from babelgate.refusal.scores import sweep
from tiny import tiny_model, tokenizer

PROMPTS = prompts_of()
FULL = SelectionSettings(full_maps=True, max_kl=1e9, min_induce=-1e9, max_layer_share=1.0)


def texts(split, harmful, prompts=PROMPTS):
    return [p.text for p in prompts if p.split == split and p.harmful == harmful]


def plain_vectors(model, prompts=PROMPTS):
    """Return mean differences ``[n_positions, n_layers, d]`` from transformers' hidden states."""
    n = len(model.template.closing) or 1
    means = []
    for harmful in (True, False):
        states = []
        for ids in model.encode(texts("train", harmful, prompts)).ids:
            with torch.inference_mode():
                out = model.model(input_ids=torch.tensor([ids]), output_hidden_states=True)
            # hidden_states[l] is what block l reads; the last one is after the final norm.
            states.append(torch.stack([h[0, -n:] for h in out.hidden_states[:-1]], dim=1))
        means.append(torch.stack(states).mean(0))
    return means[0] - means[1]


def plain(model, prompts=PROMPTS, ids=range(0, 100), layers=(1, 2, 3)):
    vectors = plain_vectors(model, prompts)
    places = [(i, layer) for i in range(len(vectors)) for layer in layers]
    val = texts("val", True, prompts), texts("val", False, prompts)
    return plain_maps(model, vectors, *val, ids, places=places)


def selected(model, settings=FULL, prompts=PROMPTS, **more):
    return select_direction(model, prompts, as_hoped(prompts), tokens_of(), settings, **more)


# -- equal to the plain computation ------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "phi"])
def test_every_score_equals_the_plain_sweeps(family):
    model = tiny_model(family)
    maps, base = plain(model)
    found = selected(model, SelectionSettings(full_maps=True, batch_tokens=90)).map
    assert found.base_harmful == pytest.approx(base[0], abs=1e-4)
    assert found.base_harmless == pytest.approx(base[1], abs=1e-4)
    assert len(maps) == 3 * len(model.template.closing) == 3 * len(found.positions)
    for place, expected in maps.items():
        scores = (found.induce[place], found.kl[place], found.bypass[place])
        assert scores == pytest.approx(expected, abs=1e-4)
    assert (found.norm[:, 0] == 0).all()  # the embedding of the template's tokens
    assert np.isnan(found.bypass[:, 0]).all()
    spread = np.array(list(maps.values())).std(0)
    assert (spread > 0.01).all()  # the scores tell candidates apart


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_the_choice_is_the_plain_one_whatever_the_filters_cut(family):
    model = tiny_model(family)
    maps, _ = plain(model)
    induce, kl, _ = np.array(list(maps.values())).T
    chosen = set()
    for a, b in ((0.0, 1.0), (0.3, 0.6), (0.6, 0.9), (0.0, 0.2), (1.0, 1.0)):
        limits = {
            # Between two values, so that rounding decides nothing.
            "min_induce": float(np.quantile(induce, a)) + 1e-3,
            "max_kl": float(np.quantile(kl, b)) + 1e-3,
        }
        place = plain_choice(maps, 4, **limits)
        lazy = selected(model, SelectionSettings(**limits))
        full = selected(model, SelectionSettings(**limits, full_maps=True))
        chosen.add(place)
        assert lazy.removed == full.removed
        assert lazy.n_passed == full.n_passed
        for found in (lazy, full):
            if place is None:
                assert found.status == "none_passes"
                assert found.chosen is found.direction is None
                assert math.isnan(found.strength)
                continue
            assert (found.map.positions.index(found.chosen.position), found.chosen.layer) == place
            assert found.direction.layer == place[1] - 1
            vector = plain_vectors(model)[place]
            torch.testing.assert_close(
                found.direction.vector, vector / vector.norm(), atol=1e-4, rtol=1e-4
            )
            assert found.strength == pytest.approx(float(vector.norm()), rel=1e-4)
        known = ~np.isnan(lazy.map.bypass)
        assert known.sum() == lazy.n_passed
        np.testing.assert_allclose(lazy.map.bypass[known], full.map.bypass[known], atol=1e-4)
        # What ended early is a lower bound above the limit.
        early = ~np.isnan(lazy.map.kl_at_least)
        assert (lazy.map.kl_at_least[early] > limits["max_kl"]).all()
        assert (lazy.map.kl_at_least[early] <= full.map.kl[early] + 1e-4).all()
    assert None in chosen
    assert len(chosen) >= 3


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_batches_change_nothing(family):
    model = tiny_model(family)
    maps = [selected(model, SelectionSettings(full_maps=True, batch_tokens=n)).map
            for n in (1, 70, 100_000)]  # fmt: skip
    for other in maps[1:]:
        for name in ("induce", "kl", "bypass"):
            np.testing.assert_allclose(getattr(other, name), getattr(maps[0], name), atol=1e-4)


def with_template(source):
    from babelgate.models import ChatModel

    made = tokenizer()
    made.chat_template = source
    return ChatModel.wrap(tiny_model().model, made, name="x")


def test_a_template_without_post_instruction_tokens_has_one_position():
    model = with_template("{% for m in messages %}<|user|>{{ m['content'] }}{% endfor %}")
    assert model.template.closing == ()
    assert post_instruction_positions(model) == ("t_post",)
    maps, _ = plain(model)
    found = selected(model)
    assert found.map.positions == ("t_post",)
    assert any("only position" in note for note in found.notes)
    assert len(maps) == 3
    for (i, layer), expected in maps.items():
        scores = found.map.candidate(i, layer)
        assert (scores.induce, scores.kl, scores.bypass) == pytest.approx(expected, abs=1e-4)


# -- no more work than needed ------------------------------------------------------------------------


def tokens_per_block(model, action):
    """Return how many tokens each block computed while an action ran."""
    seen = [0] * len(model.blocks)
    # What skipped blocks pass on is no work: count in the modules inside.
    handles = [
        block.mlp.register_forward_hook(
            lambda _m, args, _o, i=i: seen.__setitem__(i, seen[i] + args[0][..., 0].numel())
        )
        for i, block in enumerate(model.blocks)
    ]
    try:
        action()
    finally:
        for handle in handles:
            handle.remove()
    return seen


def test_blocks_below_the_edited_one_run_once(llama):
    """Adding at block l runs blocks l and later, per candidate; a block untouched runs once."""
    passes = Passes(llama, texts("val", False), batch_tokens=1)  # one prompt at a time: no padding
    inputs, vectors = BlockInputs(passes), torch.ones(5, 32)
    opening, own = len(llama.template.opening), sum(passes.lengths)

    def work(layer):
        edit = Addition(vectors, inputs, layer)
        return tokens_per_block(llama, lambda: sweep(passes, edit, lambda x, _: x[:, 0].double()))

    edited = 5 * (opening + own)
    # The opening is read once, at all blocks.
    assert work(1) == [own + opening, *[edited + opening] * 3]
    assert work(3) == [0, own, own, edited]


def test_scores_that_no_filter_needs_are_not_computed(llama):
    lazy = selected(llama, SelectionSettings(min_induce=1e9))
    assert np.isnan(lazy.map.kl).all()
    assert np.isnan(lazy.map.bypass).all()
    assert lazy.removed["induce"] == 3 * len(lazy.map.positions)
    assert f"highest induce score is {np.nanmax(lazy.map.induce):.2f}" in lazy.words
    # Layer 0 is what the embedding gives; 3 of 4 is within 0.8 of the depth, as 3 < 3.2.
    assert lazy.removed["no_difference"] == len(lazy.map.positions)
    assert lazy.removed["layer"] == 0
    late = selected(llama, SelectionSettings(min_induce=1e9, max_layer_share=0.5))
    assert np.isnan(late.map.induce[:, 2:]).all()
    assert late.removed["layer"] == 2 * len(late.map.positions)
    assert sum(late.removed.values()) == late.map.norm.size


# -- resuming ----------------------------------------------------------------------------------------


class Killed(BaseException):
    pass


@pytest.mark.parametrize("after", [1, 2, 4, 5, 7])
def test_killed_and_resumed_equals_uninterrupted(llama, tmp_path, after):
    settings = SelectionSettings(full_maps=True, batch_tokens=120)
    whole = selected(llama, settings, folder=tmp_path / "whole")
    calls = []

    def kill(stage, done, total):
        calls.append((stage, done, total))
        if len(calls) == after:
            raise Killed

    with pytest.raises(Killed):
        selected(llama, settings, folder=tmp_path / "cut", on_progress=kill)
    with (tmp_path / "cut" / "scores.jsonl").open("a") as file:
        file.write('{"stage": "kl", "candi')  # a write that was cut
    swept = []
    real = scoring_module.sweep
    try:
        scoring_module.sweep = lambda *a, **k: swept.append(1) or real(*a, **k)
        again = selected(llama, settings, folder=tmp_path / "cut")
        n_again = len(swept)
        swept.clear()
        selected(llama, settings, folder=tmp_path / "cut")
        assert swept == []  # finished: nothing is computed
        selected(llama, settings, folder=tmp_path / "new")
    finally:
        scoring_module.sweep = real
    assert again.to_json() == whole.to_json()
    # What was done is not done again. Without a folder's help: two base sweeps, one for the base
    # distributions that divergences need, and one per chunk; a call of progress is a chunk. Base
    # distributions are read anew where divergences are left to compute.
    left = len(swept) - 3 - after
    assert left <= n_again <= left + 1


def test_scores_of_other_settings_or_prompts_are_not_reused(llama, tmp_path):
    first = selected(llama, SelectionSettings(full_maps=True), folder=tmp_path)
    other = prompts_of(seed=5)
    second = selected(llama, SelectionSettings(full_maps=True), prompts=other, folder=tmp_path)
    fresh = selected(llama, SelectionSettings(full_maps=True), prompts=other)
    assert second.to_json() == fresh.to_json()
    assert second.map.base_harmful != first.map.base_harmful


# -- languages without a direction -------------------------------------------------------------------


def test_a_model_that_never_refuses_is_reported(llama):
    answers = {p.key: "answered" for p in PROMPTS}
    found = select_direction(llama, PROMPTS, answers, tokens_of())
    assert found.status == "never_refuses"
    assert "refuses 0 of 6 harmful train prompts" in found.words
    assert found.map is found.direction is None
    assert Selection.from_json(json.loads(json.dumps(found.to_json()))).status == found.status


def test_a_model_that_refuses_everything_is_reported(llama):
    refuses = {p.key: "refused" for p in PROMPTS}
    found = select_direction(llama, PROMPTS, refuses, tokens_of())
    assert found.status == "refuses_everything"
    assert "answers 0 of 6 harmless train prompts (it refuses 6)" in found.words
    garbled = {p.key: "refused" if p.harmful else "degenerate" for p in PROMPTS}
    found = select_direction(llama, PROMPTS, garbled, tokens_of())
    assert found.status == "too_few_examples"


def test_the_fallback_is_marked(llama):
    answers = {p.key: "answered" for p in PROMPTS}
    found = select_direction(
        llama, PROMPTS, answers, tokens_of(borrowed=True),
        SelectionSettings(fallback=True, max_kl=1e9, min_induce=-1e9),
    )  # fmt: skip
    assert found.status == "selected"
    assert found.contrast == "harmful-harmless"
    assert "harmful-harmless" in found.direction.method
    assert any("refuses 0 of 6" in note for note in found.notes)
    assert any("no refusal tokens of its own" in note for note in found.notes)
    # All harmful against all harmless is what the hoped-for outcomes give too.
    hoped = selected(llama, SelectionSettings(max_kl=1e9, min_induce=-1e9))
    assert hoped.contrast == "refused-answered"
    assert torch.equal(hoped.direction.vector, found.direction.vector)


def test_too_few_prompts_and_no_tokens_are_reported(llama):
    few = [p for p in PROMPTS if p.split == "train"][:9]
    assert select_direction(llama, few, as_hoped(few), tokens_of()).status == "too_few_examples"
    train = [p for p in PROMPTS if p.split == "train"]
    found = select_direction(llama, train, as_hoped(train), tokens_of())
    assert found.status == "too_few_examples"
    assert "0 harmful and 0 harmless val prompts" in found.words
    assert select_direction(llama, PROMPTS, {}, tokens_of()).status == "too_few_examples"
    assert select_direction(llama, [], {}, tokens_of()).status == "too_few_examples"
    empty = select_direction(llama, PROMPTS, as_hoped(PROMPTS), tokens_of(()))
    assert empty.status == "no_tokens"


def test_val_prompts_are_those_refused_and_answered_or_all_where_too_few(llama):
    outcomes = as_hoped(PROMPTS)
    val = [p for p in PROMPTS if p.split == "val"]
    outcomes[val[0].key] = "answered"  # harmful
    found = select_direction(llama, PROMPTS, outcomes, tokens_of(), FULL)
    assert found.examples["val_harmful"] == 4
    outcomes[val[1].key] = "unparsed"
    found = select_direction(llama, PROMPTS, outcomes, tokens_of(), FULL)
    assert found.examples["val_harmful"] == 5
    assert any("only 3 refused harmful val prompts: all 5" in note for note in found.notes)


def test_wrong_input_is_refused(llama):
    two = [*PROMPTS, *prompts_of("yo")]
    with pytest.raises(UserError, match="prompts of one language"):
        select_direction(llama, two, as_hoped(two), tokens_of())
    with pytest.raises(UserError, match="layer 4: this model has blocks 0 to 3"):
        selected(llama, SelectionSettings(layers=(1, 4)))
    for wrong in ({"min_examples": 0}, {"max_layer_share": 1.5}, {"max_kl": 0.0},
                  {"min_induce": math.nan}, {"batch_tokens": 0}):  # fmt: skip
        with pytest.raises(UserError, match=next(iter(wrong))):
            SelectionSettings(**wrong)


def test_prompts_longer_than_the_context_are_left_out(llama):
    from babelgate.types import Prompt

    long = [Prompt(f"long{s}", "en", "a" * 600, "harmful", s) for s in ("train", "val")]
    prompts = [*PROMPTS, *long]
    found = select_direction(llama, prompts, as_hoped(prompts), tokens_of(), FULL)
    assert found.examples["train_harmful"] == 6
    assert any("2 prompts are longer than the context of 512" in n for n in found.notes)
    np.testing.assert_allclose(found.map.bypass, selected(llama).map.bypass)


# -- results -----------------------------------------------------------------------------------------


def test_json_round_trip(llama):
    for settings in (FULL, SelectionSettings(min_induce=1e9), SelectionSettings(layers=(2,))):
        found = selected(llama, settings)
        text = json.dumps(found.to_json(), allow_nan=False)
        again = Selection.from_json(json.loads(text))
        assert again.to_json() == found.to_json()
        np.testing.assert_array_equal(again.map.kl, found.map.kl)
        if found.direction is not None:
            assert torch.equal(again.direction.vector, found.direction.vector)
        listed = list(again.candidates())
        assert len(listed) == sum(again.removed.values()) + again.n_passed


def made_map(**arrays):
    shape = (2, 10)
    full = {"norm": np.ones(shape), "induce": np.ones(shape), "kl": np.zeros(shape),
            "kl_at_least": np.full(shape, np.nan), "bypass": np.zeros(shape)}  # fmt: skip
    for name, places in arrays.items():
        for place, value in places.items():
            full[name][place] = value
    return SelectionMap(("t_post-1", "t_post"), ("a", "b"), **full, base_harmful=1, base_harmless=0)


def test_the_published_filters_by_hand():
    scores = made_map(
        norm={(0, 0): 0.0, (1, 0): 0.0},
        bypass={(0, 3): -5.0, (1, 3): -9.0, (0, 4): -8.0, (1, 9): -99.0, (1, 8): -98.0,
                (0, 5): -97.0, (0, 7): -7.0, (1, 2): -7.0, (0, 6): np.nan},
        kl={(1, 3): 0.1, (0, 4): np.nan},
        kl_at_least={(0, 4): 0.2},
        induce={(0, 5): 0.0},
    )  # fmt: skip
    best, removed, n_passed = choose(scores, SelectionSettings())
    # 8 >= 0.8 x 10; KL must be below 0.1 and induce above 0; ties go to the earlier position.
    assert (best.position, best.layer, best.bypass) == ("t_post-1", 7, -7.0)
    assert removed == {"layer": 4, "no_difference": 2, "induce": 1, "kl": 2, "not_finite": 1}
    assert n_passed == 10
    assert best.after_block == 6


def test_the_untouched_scores_are_those_of_the_model(llama):
    found = selected(llama)
    logits = last_logits(llama, texts("val", True))
    p = logits.double().softmax(-1)[:, :100].sum(-1)
    assert found.map.base_harmful == pytest.approx(float((p / (1 - p)).log().mean()), abs=1e-4)


# -- capture at every post-instruction token ---------------------------------------------------------


def test_post_instruction_positions_are_the_tokens_before_the_last(llama, tmp_path):
    positions = post_instruction_positions(llama)
    n = len(llama.template.closing)
    assert len(positions) == n >= 2
    assert positions[-2:] == ("t_post-1", "t_post")
    got = capture(llama, PROMPTS[:4], tmp_path, positions=(*positions, "t_inst"), batch_tokens=60)
    for row, p in enumerate(PROMPTS[:4]):
        ids = torch.tensor([llama.encode([p.text]).ids[0]])
        with torch.inference_mode():
            hidden = llama.model(input_ids=ids, output_hidden_states=True).hidden_states
        for layer in (0, 2):
            for back, position in enumerate(reversed([*("t_inst",), *positions])):
                expected = hidden[layer + 1][0, -1 - back]
                torch.testing.assert_close(
                    got.layer(layer, position)[row], expected, atol=2e-5, rtol=2e-5
                )


def test_a_position_before_the_prompt_counts_the_prompt_out(llama, tmp_path):
    got = capture(llama, PROMPTS[:2], tmp_path / "a", positions=("t_post-400",), layers=[0])
    assert all("none of them 400 before the last" in why for why in got.excluded.values())
    assert len(got.excluded) == 2
    # Into the shared opening: such rows are computed whole.
    length = llama.encode([PROMPTS[0].text]).lengths[0]
    deep = capture(
        llama, PROMPTS[:1], tmp_path / "b", positions=(f"t_post-{length - 1}",), layers=[0]
    )
    ids = torch.tensor([llama.encode([PROMPTS[0].text]).ids[0]])
    with torch.inference_mode():
        hidden = llama.model(input_ids=ids, output_hidden_states=True).hidden_states
    found = deep.layer(0, f"t_post-{length - 1}")[0]
    torch.testing.assert_close(found, hidden[1][0, 0], atol=2e-5, rtol=2e-5)
    for wrong in ("t_post-0", "t_post-", "t_post-x", "t_post-01", "t_inst-1"):
        with pytest.raises(UserError, match="t_post-N"):
            capture(llama, PROMPTS[:1], tmp_path / "c", positions=(wrong,))
