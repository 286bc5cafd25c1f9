"""Small prompt tables with states whose geometry is known, for all tests of the package."""

from __future__ import annotations

import numpy as np

from babelgate.geometry.table import PromptTable

LANGUAGES = ("en", "de", "zh", "sw")
SOURCES = ("en", "de", "zh")
D = 24


def made_table(languages=LANGUAGES, prompts=40, seed=0) -> PromptTable:
    """Half harmful, half train; translations share a group, but each language lacks some."""
    rng = np.random.default_rng(seed)
    rows = [
        (code, i % 2 == 0, f"g{i}", "train" if i % 4 < 2 else "val")
        for k, code in enumerate(languages)
        for i in range(prompts)
        if i % 11 != k
    ]
    language, harmful, group, split = zip(*rows)
    n = len(rows)
    return PromptTable(
        language=np.array(language),
        harmful=np.array(harmful),
        group=np.array(group),
        split=np.array(split),
        tokens=rng.integers(5, 60, n) + 8 * np.array(harmful),
        refused=np.where(rng.random(n) < 0.1, np.nan, rng.random(n) < 0.5),
    )


def made_states(table: PromptTable, layers=2, d=D, seed=1) -> np.ndarray:
    """States ``[layers, N, d]``: a large common part, language, translation, class and noise."""
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(layers, len(table), d))
    states += 40 * rng.normal(size=(layers, 1, d))
    axis = rng.normal(size=(layers, d))
    for code in table.languages:
        rows = table.language == code
        states[:, rows] += 2 * rng.normal(size=(layers, 1, d))
        own = axis + 0.5 * rng.normal(size=(layers, d))
        states[:, rows] += np.where(table.harmful[rows], 0.6, -0.6)[:, None] * own[:, None]
    for group in sorted(set(table.group)):
        states[:, table.group == group] += rng.normal(size=(layers, 1, d))
    return states.astype(np.float32)
