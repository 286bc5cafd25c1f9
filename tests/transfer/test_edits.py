"""Which edits a matrix needs, and addition at all tokens in generation."""

from __future__ import annotations

import math

import pytest
import torch

from babelgate.errors import ConfigError, UserError
from babelgate.generate import generate, next_token_logits
from babelgate.interventions.actions import AddThroughout
from babelgate.interventions.conditional import Ungated
from babelgate.models.hooks import block_hooks
from babelgate.transfer.edits import plan_edits
from babelgate.transfer.settings import TransferSettings
from babelgate.transfer.sources import Source
from tiny import TEXTS, tiny_model

from .made import axis, source


def plan_of(sources, targets=("en", "sw", "yo"), **settings):
    return plan_edits(sources, targets, TransferSettings(**settings))


def test_random_ablations_are_shared_and_additions_are_as_long_as_the_longest():
    made = {"en": source(axis(0), "en", 1, 2.0), "sw": source(axis(1), "sw", 1, 5.0),
            "yo": source(axis(2), "yo", 3, 1.0)}  # fmt: skip
    plan = plan_of(made, random_seeds=2)
    for language in made:
        own = plan.controls[f"ablate {language}"]
        assert own[:2] == ("ablate random-0", "ablate random-1")
        assert own[-1] == f"ablate identity of {language}"
    for name, layer, length in (("add en", 1, 5.0), ("add sw", 1, 5.0), ("add yo", 3, 1.0)):
        for control in plan.controls[name][:-1]:
            edit = plan.edits[control]
            assert (edit.direction.layer, edit.length) == (layer, length)
    identity = plan.edits["add identity of en"]
    assert (identity.direction.layer, identity.length) == (1, 2.0)
    own = plan_of(made, random_seeds=2, control_scope="source")
    assert {own.edits[c].length for c in own.controls["add en"]} == {2.0}
    assert len(own.edits) > len(plan.edits)


def test_controls_are_done_to_the_main_class_only_and_means_to_their_target():
    plan = plan_of({"en": source(axis(0), "en"), "sw": source(axis(1), "sw")})
    assert plan.edits["ablate en"].wanted("yo", "harmless")
    assert not plan.edits["ablate random-0"].wanted("yo", "harmless")
    assert plan.edits["ablate random-0"].wanted("yo", "harmful")
    assert not plan.edits["add shuffled-0 of en"].wanted("yo", "harmful")
    mean, why = plan.row("mean", "add", "yo")
    assert mean is not None
    assert mean.wanted("yo", "harmful")
    assert not mean.wanted("en", "harmful")
    # Without its own direction, English has one other: that is no mean.
    assert plan.row("mean", "add", "en")[0] is None
    assert "two directions" in plan.row("mean", "add", "en")[1]
    assert why == ""
    slim = plan_of({"en": source(axis(0), "en")}, selectivity=False, mean=False)
    assert not slim.edits["ablate en"].wanted("yo", "harmless")
    assert slim.sources == ("en",)


def test_a_direction_without_length_is_not_added():
    bare = Source(source(axis(0), "en").direction)
    plan = plan_of({"en": bare, "sw": source(axis(1), "sw")})
    assert plan.row("en", "add", "yo") == (None, plan.missing["en", "add", None])
    assert "without a length" in plan.missing["en", "add", None]
    assert plan.row("en", "ablate", "yo")[0] is not None
    assert math.isnan(plan.edits["ablate en"].length)


def test_bad_plans_are_refused():
    with pytest.raises(UserError, match="at least one"):
        plan_of({})
    with pytest.raises(UserError, match="'mean'"):
        plan_of({"mean": source(axis(0), "en")})
    with pytest.raises(ConfigError) as error:
        TransferSettings(evidence=("x",), least_room=2, resamples=1, rows=0)  # type: ignore[arg-type]
    for field in ("evidence", "least_room", "resamples", "rows"):
        assert field in str(error.value)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_addition_throughout_equals_a_hook_on_the_whole_sequence(family):
    model = tiny_model(family)
    direction = source(axis(3), "en", layer=1).direction
    action = Ungated(AddThroughout(direction=direction, alpha=2.5))
    for text in TEXTS[:2]:
        ids = torch.tensor([model.encode([text]).ids[0]])
        hooks = {1: lambda hidden: hidden + 2.5 * direction.vector}
        with torch.inference_mode(), block_hooks(model.blocks, hooks):
            wanted = model.model(input_ids=ids).logits[0, -1]
        torch.testing.assert_close(
            next_token_logits(model, [text], action)[0], wanted, atol=1e-4, rtol=1e-4
        )
        (reply,) = next(iter(generate(model, [text], max_new_tokens=4, intervention=action)))
        made = []
        for _ in range(4):
            with torch.inference_mode(), block_hooks(model.blocks, hooks):
                made.append(int(model.model(input_ids=ids).logits[0, -1].argmax()))
            if made[-1] in model.stop_ids:
                made.pop()
                break
            ids = torch.cat([ids, torch.tensor([[made[-1]]])], 1)
        assert list(reply.tokens) == made
