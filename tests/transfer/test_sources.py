"""Directions, their lengths and the controls made from the same states."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from babelgate.directions import Direction
from babelgate.errors import UserError
from babelgate.transfer.sources import (
    Source,
    identity_direction,
    mean_source,
    random_direction,
    shuffled_direction,
    source_from_states,
)

from .made import axis


def states(n, shift, seed=0, d=16):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator) + shift


def test_the_length_is_that_of_the_mean_difference():
    refused = torch.tensor([[3.0, 4.0], [3.0, 4.0], [6.0, 8.0]])
    answered = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    found = source_from_states(refused, answered, language="yo", layer=7, shuffles=2)
    gap = np.array([4.0 - 1.0, 16 / 3])
    assert found.length == pytest.approx(np.linalg.norm(gap))
    np.testing.assert_allclose(found.direction.vector, gap / np.linalg.norm(gap), rtol=1e-6)
    assert (found.direction.layer, found.direction.source) == (7, "yo")
    assert len(found.shuffled) == 2
    assert found.identity is None


def test_shuffled_labels_lose_the_direction_and_keep_the_sizes():
    refused, answered = states(60, 2 * axis(0, 16), 1), states(40, 0 * axis(0, 16), 2)
    true = source_from_states(refused, answered, language="en", layer=0).direction.vector
    pool = torch.cat([refused, answered]).numpy().astype(np.float64)
    cosines = []
    for seed in range(20):
        made = shuffled_direction(refused, answered, seed)
        order = np.random.default_rng(seed).permutation(100)
        gap = pool[order[:60]].mean(0) - pool[order[60:]].mean(0)
        np.testing.assert_allclose(made, gap / np.linalg.norm(gap), atol=1e-6)
        cosines.append(float(made @ true))
    assert float(true[0]) > 0.85
    assert abs(np.mean(cosines)) < 0.4
    assert {c > 0 for c in cosines} == {True, False}


def test_a_language_identity_holds_no_harm():
    """Twice as many harmful as harmless prompts would leave harm in an unbalanced mean."""
    harm, own = 10 * axis(0, 16), 3 * axis(1, 16)
    mine = (states(40, harm + own, 1), states(20, own, 2))
    others = [
        (states(20, harm, 3), states(40, 0 * own, 4)),
        (states(20, harm, 5), states(60, 0 * own, 6)),
    ]
    found = identity_direction(mine, others)
    unbalanced = torch.cat(mine).mean(0) - torch.stack([torch.cat(o).mean(0) for o in others]).mean(
        0
    )
    assert abs(float(found[0])) < 0.35 < abs(float(unbalanced[0] / unbalanced.norm()))
    assert float(found[1]) > 0.85
    with pytest.raises(UserError, match="other languages"):
        identity_direction(mine, [])
    with pytest.raises(UserError, match="both classes"):
        identity_direction((mine[0], mine[1][:0]), others)


def test_random_directions_follow_their_seed():
    a, b = random_direction(16, 3, 0), random_direction(16, 3, 1)
    assert torch.equal(a.vector, random_direction(16, 5, 0).vector)
    assert abs(float(a.vector @ b.vector)) < 0.9
    assert float(a.vector.norm()) == pytest.approx(1, abs=1e-6)


def test_the_mean_is_of_the_commonest_block():
    def one(vector, layer, length=2.0):
        return Source(Direction(vector, layer, "t_post", "x", ""), length)

    made = {"en": one(axis(0), 4), "de": one(axis(1), 4, 4.0), "sw": one(axis(2), 9)}
    mean = mean_source(made)
    np.testing.assert_allclose(mean.direction.vector[:3], [0.5**0.5, 0.5**0.5, 0], atol=1e-6)
    assert (mean.direction.layer, mean.direction.source, mean.length) == (4, "en,de", 3.0)
    assert mean_source({**made, "de": one(axis(1), 4, None)}).length is None
    with pytest.raises(UserError, match="same block"):
        mean_source({"en": made["en"], "sw": made["sw"]})
    with pytest.raises(UserError, match="cancel"):
        mean_source({"en": made["en"], "de": one(-axis(0), 4)})


def test_bad_sources_are_refused():
    direction = Direction(axis(0), 0, "t_post", "x", "")
    with pytest.raises(UserError, match="length -1"):
        Source(direction, -1.0)
    with pytest.raises(UserError, match="another size"):
        Source(direction, 1.0, (Direction(axis(0, 8), 0, "t_post", "x", ""),))
