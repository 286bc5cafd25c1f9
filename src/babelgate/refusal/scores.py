"""Refusal scores of many candidates: induce, KL and bypass, means over prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .passes import Edit, Passes

# A sum of divergences rules a candidate out once it exceeds the limit by this share, so that
# rounding never does.
_MARGIN = 1e-3

#: Receives logits ``[R, V]`` and the rows' prompts; returns a score per row, ``[R]``.
Score = Callable[[torch.Tensor, Sequence[int]], torch.Tensor]


def refusal_log_odds(logits: torch.Tensor, tokens: Sequence[int]) -> torch.Tensor:
    """Return ``log(P / (1 - P))``, P the summed probability of some tokens; ``[R, V] -> [R]``.

    The normaliser of the softmax cancels: ``logsumexp`` of those logits less that of the others.
    Source: arXiv 2406.11717, section 2.3 and appendix B.
    """
    ids = torch.tensor(list(tokens), dtype=torch.long, device=logits.device)
    inside = logits[:, ids].logsumexp(-1)
    outside = logits.index_fill(1, ids, -torch.inf).logsumexp(-1)
    return (inside - outside).cpu().double()


def divergence(base_logs: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Return ``KL(base || now)`` in nats; log-probabilities and logits ``[R, V] -> [R]``."""
    now = logits.log_softmax(-1)
    return (base_logs.exp() * (base_logs - now)).sum(-1).cpu().double()


@dataclass(frozen=True)
class Means:
    """Mean score per candidate ``[C]``; NaN, and a lower bound instead, where a sum ended early."""

    mean: np.ndarray
    at_least: np.ndarray


def sweep(passes: Passes, edit: Edit, score: Score, *, limit: float | None = None) -> Means:
    """Return the mean score over all prompts under each candidate's edit.

    With ``limit`` scores are taken to be at least 0, and a candidate is dropped once the sum so far
    puts its mean above the limit whatever the remaining prompts give.
    """
    n, openings = len(passes), passes.edited_openings(edit)
    order, at = passes.order(), 0
    total = np.zeros(len(edit))
    alive = list(range(len(edit)))
    while at < n and alive:
        batch = passes.batch_at(order, at, len(alive))
        pairs = [(c, p) for c in alive for p in batch]
        values = score(passes.logits(pairs, edit, openings), [p for _, p in pairs])
        total[alive] += values.cpu().numpy().reshape(len(alive), len(batch)).sum(1)
        at += len(batch)
        if limit is not None and at < n:
            alive = [c for c in alive if not total[c] > limit * n * (1 + _MARGIN)]
    left = np.ones(len(edit), dtype=bool)
    left[alive] = False
    mean = total / n
    return Means(np.where(left, np.nan, mean), np.where(left, mean, np.nan))
