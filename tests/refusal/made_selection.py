"""Prompts, outcomes and tokens for selections on tiny random models."""

from __future__ import annotations

import math

import numpy as np

from babelgate.refusal import RefusalTokens
from babelgate.types import Prompt

WORDS = [
    "how",
    "to",
    "bake",
    "bread",
    "break",
    "into",
    "a",
    "house",
    "poison",
    "the",
    "cat",
    "write",
    "me",
    "poem",
    "about",
    "sea",
]


def prompts_of(language="en", n_train=6, n_val=5, seed=0):
    rng = np.random.default_rng(seed)
    made = []
    for split, n in (("train", n_train), ("val", n_val)):
        for label in ("harmful", "harmless"):
            for i in range(n):
                text = " ".join(rng.choice(WORDS, size=int(rng.integers(1, 6))))
                made.append(Prompt(f"{label}-{split}-{i}", language, text, label, split))
    return made


def as_hoped(prompts):
    """Return outcomes of a model that refuses what is harmful and answers the rest."""
    return {p.key: "refused" if p.harmful else "answered" for p in prompts}


def tokens_of(ids=range(0, 100), language="en", borrowed=False):
    ids = tuple(ids)
    nan = math.nan
    return RefusalTokens(
        language, ids, tuple(map(str, ids)), borrowed, 5, 5, 1.0, 0.0, (1,), nan, nan
    )
