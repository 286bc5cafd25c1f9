"""OmniGuard: a classifier on the layer that languages share most (arXiv 2505.23856)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import combinations, pairwise

import numpy as np
import torch
from torch.nn import functional

from ..errors import UserError
from ..geometry.universality import matched_minus_mismatched

HIDDEN = (512, 256)


def u_score(first: torch.Tensor, second: torch.Tensor) -> np.ndarray:
    """Return the universality score of every block for two languages: ``[n, L, d] x 2 -> [L]``.

    ``U = mean_i cos(x_i, y_i) - mean_{i != j} cos(x_i, y_j)`` where row i of both is the same
    prompt in two languages and states are means over prompt tokens. The mean over mismatched pairs
    is ``(sum_i x_i . sum_j y_j - sum_i x_i . y_i) / (n (n - 1))`` of unit vectors, so no pair of
    them is ever formed. NaN where a state is zero.

    Raises:
        UserError: with fewer than two prompts, or if shapes differ.
    """
    if first.ndim != 3 or first.shape != second.shape or len(first) < 2:
        raise UserError(
            "a U-score needs the states [n, layers, d] of at least two prompts in both languages; "
            f"got {list(first.shape)} and {list(second.shape)}"
        )
    x, y = _unit(first), _unit(second)
    n = len(x)
    matched = (x * y).sum(-1).sum(0)
    every = (x.sum(0) * y.sum(0)).sum(-1)
    return matched_minus_mismatched(matched, every, n).cpu().numpy()


def mean_u_score(states: Mapping[str, torch.Tensor]) -> np.ndarray:
    """Return the mean U-score over all pairs of languages: ``{language: [n, L, d]} -> [L]``.

    Raises:
        UserError: with fewer than two languages.
    """
    pairs = list(combinations(states.values(), 2))
    if not pairs:
        raise UserError("a U-score compares languages; give the states of at least two")
    return np.mean([u_score(a, b) for a, b in pairs], axis=0)


def best_layer(scores: np.ndarray) -> int:
    """Return the block with the highest U-score, the earliest of equals; NaN never wins.

    Raises:
        UserError: if every score is NaN.
    """
    if np.isnan(scores).all():
        raise UserError("no block has a U-score: all states are zero or not finite")
    return int(np.nanargmax(scores))


@dataclass(frozen=True)
class OmniGuard:
    """A classifier of mean-pooled states at one block: d - 512 - 256 - 1 with ReLU.

    ``score = W3 relu(W2 relu(W1 z + b1) + b2) + b3`` with ``z = (h - mean) / scale``: the log-odds
    of harm. All tensors float32.
    """

    layer: int
    mean: torch.Tensor
    scale: torch.Tensor
    weight1: torch.Tensor
    bias1: torch.Tensor
    weight2: torch.Tensor
    bias2: torch.Tensor
    weight3: torch.Tensor
    bias3: torch.Tensor

    def __post_init__(self) -> None:
        d, (wide, narrow) = self.weight1.shape[-1], (len(self.bias1), len(self.bias2))
        expected = {
            "mean": (d,),
            "scale": (d,),
            "weight1": (wide, d),
            "weight2": (narrow, wide),
            "weight3": (1, narrow),
            "bias3": (1,),
        }
        for name, shape in expected.items():
            if tuple(getattr(self, name).shape) != shape:
                raise UserError(
                    f"OmniGuard's {name} has shape {list(getattr(self, name).shape)}; it should be "
                    f"{list(shape)}"
                )

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return all tensors by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "layer"}

    def to(self, device: torch.device) -> OmniGuard:
        """Return the same classifier on a device."""
        return OmniGuard(self.layer, **{n: t.to(device) for n, t in self.tensors().items()})

    def score(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return log-odds of harm ``[N]`` of mean-pooled states ``[N, d]``, in float32."""
        return _forward(self.tensors(), hidden.float())


# Callers may be in inference mode, which would drop the gradients.
@torch.inference_mode(False)
@torch.enable_grad()
def fit_omniguard(
    states: torch.Tensor,
    harmful: np.ndarray,
    *,
    layer: int,
    seed: int,
    validation: tuple[torch.Tensor, np.ndarray] | None = None,
    epochs: int = 50,
    patience: int = 5,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-2,
    rows: int = 64,
) -> OmniGuard:
    """Return the classifier trained on mean-pooled states ``[N, d]`` of one block.

    Cross entropy with both classes weighted equally, AdamW, shuffled batches. With ``validation``
    the epoch of the lowest validation loss is kept and training ends ``patience`` epochs after it;
    without it all epochs run. The sizes 512 and 256 are the paper's, standardisation and schedule
    ours. The same seed gives the same classifier on the same CPU build.

    Raises:
        UserError: if a class has no example or a state is not finite.
    """
    x, y = _examples(states, harmful)
    generator = torch.Generator().manual_seed(seed)
    tensors = _initial(x, generator)
    learned = [t.requires_grad_() for name, t in tensors.items() if name not in ("mean", "scale")]
    optimizer = torch.optim.AdamW(learned, lr=learning_rate, weight_decay=weight_decay, fused=True)
    held_out = None if validation is None else _examples(*validation)
    best, best_loss, since = _copy(tensors), math.inf, 0
    for _ in range(epochs):
        order = torch.randperm(len(x), generator=generator)
        for pick in order.split(rows):
            optimizer.zero_grad()
            _loss(tensors, x[pick], y[pick], y).backward()
            optimizer.step()
        if held_out is None:
            continue
        with torch.no_grad():
            loss = float(_loss(tensors, *held_out, held_out[1]))
        since += 1
        if loss < best_loss:
            best, best_loss, since = _copy(tensors), loss, 0
        elif since >= patience:
            break
    return OmniGuard(layer, **(_copy(tensors) if held_out is None else best))


def _examples(states: torch.Tensor, harmful: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = states.detach().float().cpu().clone(), torch.from_numpy(np.array(harmful, dtype=bool))
    if x.ndim != 2 or len(x) != len(y):
        raise UserError(f"OmniGuard needs states [n, d] with {len(y)} labels; got {list(x.shape)}")
    if not bool(y.any()) or bool(y.all()):
        raise UserError("OmniGuard needs examples of both classes, harmful and harmless")
    if not bool(torch.isfinite(x).all()):
        raise UserError("OmniGuard's states hold values that are NaN or infinite")
    return x, y.float()


def _initial(x: torch.Tensor, generator: torch.Generator) -> dict[str, torch.Tensor]:
    sizes = (x.shape[1], *HIDDEN, 1)
    # A constant feature says nothing; its scale of 1 keeps it at 0.
    spread = x.std(0, correction=0)
    tensors = {"mean": x.mean(0), "scale": torch.where(spread > 0, spread, torch.ones_like(spread))}
    for number, (below, above) in enumerate(pairwise(sizes), 1):
        bound = 1 / math.sqrt(below)
        for name, shape in (("weight", (above, below)), ("bias", (above,))):
            values = torch.empty(shape).uniform_(-bound, bound, generator=generator)
            tensors[f"{name}{number}"] = values
    return tensors


def _forward(tensors: Mapping[str, torch.Tensor], hidden: torch.Tensor) -> torch.Tensor:
    z = (hidden - tensors["mean"]) / tensors["scale"]
    z = torch.relu(functional.linear(z, tensors["weight1"], tensors["bias1"]))
    z = torch.relu(functional.linear(z, tensors["weight2"], tensors["bias2"]))
    return functional.linear(z, tensors["weight3"], tensors["bias3"])[:, 0]


def _loss(
    tensors: Mapping[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor, every: torch.Tensor
) -> torch.Tensor:
    """Return cross entropy with weights that give both classes of ``every`` the same total."""
    share = every.mean()
    weight = torch.where(y > 0.5, 0.5 / share, 0.5 / (1 - share))
    return functional.binary_cross_entropy_with_logits(_forward(tensors, x), y, weight=weight)


def _copy(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def _unit(states: torch.Tensor) -> torch.Tensor:
    wide = states.double()
    return wide / wide.norm(dim=-1, keepdim=True)
