"""Directions, subspaces and strength against plain loops, and the laws that they obey."""

import numpy as np
import pytest
import torch

from babelgate.directions import (
    Direction,
    mean_difference,
    source_subspace,
    steering_strength,
)
from babelgate.errors import UserError


def states(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_mean_difference_against_a_loop():
    harmful, harmless = states(7, 5, seed=1), states(4, 5, seed=2)
    expected = []
    for j in range(5):
        high = sum(float(row[j]) for row in harmful) / 7
        low = sum(float(row[j]) for row in harmless) / 4
        expected.append(high - low)
    norm = sum(x * x for x in expected) ** 0.5
    got = mean_difference(harmful, harmless)
    assert got.dtype == torch.float32
    assert got.tolist() == pytest.approx([x / norm for x in expected], abs=1e-6)


def test_mean_difference_by_hand():
    """Means (1, 2) and (-2, -2): difference (3, 4), norm 5, direction (0.6, 0.8)."""
    harmful = torch.tensor([[0.0, 2.0], [2.0, 2.0]])
    harmless = torch.tensor([[-2.0, -2.0]])
    assert mean_difference(harmful, harmless).tolist() == pytest.approx([0.6, 0.8])


def test_mean_difference_laws():
    harmful, harmless = states(6, 8, seed=3), states(9, 8, seed=4)
    v = mean_difference(harmful, harmless)
    assert float(v.norm()) == pytest.approx(1, abs=1e-6)
    # It points to the harmful side, turns with the roles, ignores scale and a common offset.
    assert float((harmful.mean(0) - harmless.mean(0)) @ v) > 0
    torch.testing.assert_close(mean_difference(harmless, harmful), -v)
    torch.testing.assert_close(mean_difference(3 * harmful, 3 * harmless), v)
    offset = states(8, seed=5)
    torch.testing.assert_close(
        mean_difference(harmful + offset, harmless + offset), v, atol=1e-5, rtol=0
    )


def test_means_are_taken_in_float64():
    """2^24 + 1 is not a float32: a float32 running sum of 1 onto 2^24 stays where it is.

    Harmful coordinate 0 is 2^24 once and 1 a thousand times, harmless the constant that makes the
    true difference of means 1 there; coordinate 1 differs by exactly 1.
    """
    n = 1000
    column = torch.tensor([2.0**24] + [1.0] * n)
    harmful = torch.stack([column, torch.ones(n + 1)], 1)
    mean = (2.0**24 + n) / (n + 1)
    harmless = torch.tensor([[mean - 1, 0.0]], dtype=torch.float64)
    got = mean_difference(harmful, harmless)
    assert got.tolist() == pytest.approx([0.5**0.5, 0.5**0.5], abs=1e-5)
    half = mean_difference(states(50, 8, seed=6).bfloat16(), states(50, 8, seed=7).bfloat16())
    assert half.dtype == torch.float32
    assert float(half.norm()) == pytest.approx(1, abs=1e-6)


def test_mean_difference_refuses_what_has_no_direction():
    with pytest.raises(UserError, match="0 harmful and 3 harmless"):
        mean_difference(states(0, 4), states(3, 4))
    with pytest.raises(UserError, match="3 harmful and 0 harmless"):
        mean_difference(states(3, 4), states(0, 4))
    with pytest.raises(UserError, match="same mean"):
        mean_difference(torch.ones(2, 4), torch.ones(5, 4))
    bad = states(3, 4)
    bad[1, 2] = torch.nan
    with pytest.raises(UserError):
        mean_difference(bad, states(3, 4))


@pytest.mark.parametrize(("n", "d", "rank", "r"), [(3, 12, 10, 3), (6, 12, 4, 4), (9, 5, 9, 5)])
def test_subspace_is_orthonormal(n, d, rank, r):
    basis = source_subspace(states(n, d, seed=8), rank)
    assert basis.shape == (d, r)
    assert basis.dtype == torch.float32
    torch.testing.assert_close(basis.T @ basis, torch.eye(r), atol=1e-5, rtol=0)


def test_subspace_of_full_rank_is_the_span():
    rows = states(4, 11, seed=9)
    basis = source_subspace(rows, 10)
    torch.testing.assert_close(rows @ basis @ basis.T, rows, atol=1e-4, rtol=0)
    outside = states(11, seed=10)
    outside = outside - torch.linalg.lstsq(rows.T, outside[:, None]).solution[:, 0] @ rows
    assert float((outside @ basis).norm()) < 1e-4


def test_subspace_is_the_best_of_its_rank():
    """No projection of rank 2 keeps more of the rows (Eckart-Young), eigenvectors as reference."""
    rows = states(6, 9, seed=11).double()
    kept = float((rows.float() @ source_subspace(rows, 2)).square().sum())
    values, _ = np.linalg.eigh((rows.T @ rows).numpy())
    assert kept == pytest.approx(float(values[-2:].sum()), rel=1e-5)
    for seed in range(20):
        other = torch.linalg.qr(states(9, 2, seed=100 + seed).double())[0]
        assert kept >= float((rows @ other).square().sum())


def test_subspace_signs_are_fixed():
    rows = states(5, 9, seed=12)
    basis = source_subspace(rows, 3)
    columns = basis.T.tolist()
    assert len(columns) == 3
    assert all(max(column, key=abs) > 0 for column in columns)
    torch.testing.assert_close(source_subspace(-rows, 3), basis, atol=1e-5, rtol=0)
    torch.testing.assert_close(source_subspace(rows.flip(0), 3), basis, atol=1e-5, rtol=0)


def test_subspace_by_hand():
    """Rows (3, 0), (0, 1): the first right singular vector is e_0, the second e_1."""
    rows = torch.tensor([[-3.0, 0.0], [0.0, -1.0]])
    torch.testing.assert_close(source_subspace(rows, 2), torch.eye(2))
    torch.testing.assert_close(source_subspace(rows, 1), torch.tensor([[1.0], [0.0]]))
    with pytest.raises(UserError, match="rank 0"):
        source_subspace(rows, 0)


def test_strength_by_hand():
    """Harmful projections 0 1 2 3 4: q75 = 3. Harmless -4 -3 -2 -1 0: q25 = -3. Strength 6.

    With five values the quartiles are the values of rank 1 and 3 (0-based).
    """
    direction = torch.tensor([0.0, 1.0])
    harmful = torch.stack([torch.full((5,), 9.0), torch.tensor([4.0, 0.0, 3.0, 1.0, 2.0])], 1)
    harmless = torch.stack([torch.full((5,), 9.0), -torch.tensor([4.0, 0.0, 3.0, 1.0, 2.0])], 1)
    assert steering_strength(harmful, harmless, direction) == pytest.approx(6)
    assert steering_strength(harmful, harmless, direction, 0.5) == pytest.approx(3)
    assert steering_strength(harmful, harmless, direction, 0.0) == 0


def test_strength_interpolates_quartiles_as_numpy_does():
    harmful, harmless = states(23, 6, seed=13), states(17, 6, seed=14)
    direction = mean_difference(harmful, harmless)
    high = np.quantile((harmful.double() @ direction.double()).numpy(), 0.75)
    low = np.quantile((harmless.double() @ direction.double()).numpy(), 0.25)
    assert steering_strength(harmful, harmless, direction, 2.0) == pytest.approx(
        2 * (high - low), rel=1e-5
    )


def test_a_direction_is_a_float32_unit_vector():
    unit = torch.tensor([0.6, 0.8])
    assert Direction(unit, 3, "t_post", "means", "en").layer == 3
    for wrong in (2 * unit, unit.double(), unit[None], torch.tensor([torch.nan, 1.0])):
        with pytest.raises(ValueError, match="a direction"):
            Direction(wrong, 3, "t_post", "means", "en")
