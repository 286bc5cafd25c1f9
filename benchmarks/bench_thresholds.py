"""The batched threshold study against a loop over its cells.

    python benchmarks/bench_thresholds.py [--layers 19] [--draws 100] [--json PATH]

A cell is a language at one block and rank: its probe is fitted, the sources' statistics computed,
and a threshold set and judged for every rule, k and draw. The loop does a random sample of the
cells with the single-value functions, and its time is multiplied up; its numbers must equal the
study's. States are random, of a 0.5B model's width, with the prompts of a usual calibration.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from common import finish

from babelgate.directions import mean_difference, source_subspace
from babelgate.fit_data import Data
from babelgate.metrics import balanced_accuracy
from babelgate.probe import balanced_weights, fit_probe
from babelgate.threshold_study import RANKS, SHOTS, Draws, Readout, run_study
from babelgate.thresholds import RULES, SourceStatistics, threshold_for
from babelgate.types import Prompt

SOURCES = ("en", "de", "fr", "es", "it", "nl", "pl", "ru", "zh", "ja")
TARGETS = ("ar", "ko", "th", "yo", "ba")
POOL = (16, 16)
LEAST = 50.0


def make_data(layers: int, d: int, train: int, val: int, seed: int) -> Data:
    """Return random states: a class direction, an offset per language, and noise."""
    rng = np.random.default_rng(seed)
    prompts, offsets, signs = [], [], []
    for language in (*SOURCES, *TARGETS):
        offset = 0.3 * rng.normal(size=d)
        for split, n in (("train", train), ("val", val)):
            for label, sign in (("harmful", 1.0), ("harmless", -1.0)):
                for i in range(n):
                    name = f"{label}-{split}-{i}"
                    prompts.append(Prompt(name, language, name, label, split, group_id=name))
                    offsets.append(offset)
                    signs.append(sign)
    axes = rng.normal(size=(layers, d)) * 0.15
    base = np.array(offsets)
    states = [
        torch.from_numpy(base + np.outer(signs, axis) + rng.normal(size=base.shape)).float()
        for axis in axes
    ]
    return Data(tuple(prompts), lambda layer: states[layer], SOURCES)


class Loop:
    """One cell after the other, as one would write it down; nothing is shared between cells."""

    def __init__(self, data: Data, l2: float, draws: int) -> None:
        self.data, self.l2, self.draws = data, l2, draws

    def scores(self, layer: int, rank: int, left_out: str | None) -> tuple[np.ndarray, np.ndarray]:
        """Fit one probe; return all prompts' scores and its training rows."""
        data, states = self.data, self.data.states(layer)
        used = [p for p in data.prompts if p.split == "train" and p.language in SOURCES]
        used = [p for p in used if p.language != left_out]
        rows = np.array([data.row[p.key] for p in used])
        directions = [
            mean_difference(states[a], states[b])
            for (language, _), (a, b) in data.train_groups.items()
            if language != left_out
        ]
        features = (states @ source_subspace(torch.stack(directions), rank)).double().numpy()
        weights = balanced_weights([(p.language, "plain") for p in used], data.harmful[rows])
        return fit_probe(features[rows], data.harmful[rows], weights, self.l2).score(features), rows

    def cell(self, layer: int, rank: int, place: int, language: str) -> np.ndarray:
        """Return balanced accuracy ``[rule, k, draw]``."""
        data = self.data
        others, drawn = {}, {}
        for s in SOURCES:
            if s != language:
                scores, _ = self.scores(layer, rank, s)
                others[s], drawn[s] = (
                    tuple(scores[x] for x in data.sides(data.pool(s, split)))
                    for split in ("val", "train")
                )
        own, rows = self.scores(layer, rank, language if language in SOURCES else None)
        harmful = data.harmful[rows]
        fitted = own[rows[harmful]], own[rows[~harmful]]
        source = SourceStatistics.from_scores(others, train=fitted, like_shots=drawn)
        train, val = (
            tuple(own[x] for x in data.sides(data.pool(language, split)))
            for split in ("train", "val")
        )
        draws = Draws.of((len(train[0]), len(train[1])), POOL, self.draws, [0, place])
        pool = np.concatenate([train[i][draws.pool[i]] for i in (0, 1)])
        found = np.full((len(RULES), len(SHOTS), self.draws), math.nan)
        # What does not depend on the draw is computed once, as anyone would.
        fixed = {
            rule: threshold_for(rule, [], [], source, pool) for rule in ("source", "unlabelled")
        }
        for i, k in enumerate(SHOTS):
            if k > draws.most:
                continue
            for s in range(self.draws if k else 1):
                shots = train[0][draws.harmful[s, :k]], train[1][draws.harmless[s, :k]]
                for j, rule in enumerate(RULES):
                    t = fixed[rule] if rule in fixed else threshold_for(rule, *shots, source, pool)
                    found[j, i, s if k else slice(None)] = balanced_accuracy(*val, t)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=19)
    parser.add_argument("--width", type=int, default=896)
    parser.add_argument("--train", type=int, default=80, help="prompts per language and class")
    parser.add_argument("--val", type=int, default=44, help="prompts per language and class")
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--sample", type=int, default=4, help="cells that the loop computes")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    o = parser.parse_args()

    data = make_data(o.layers, o.width, o.train, o.val, seed=0)
    languages, l2 = [*SOURCES, *TARGETS], 1e-2
    start, used = time.perf_counter(), time.process_time()
    study = run_study(
        data,
        [Readout((layer,), l2) for layer in range(o.layers)],
        languages,
        seeds=o.draws,
        pool=POOL,
    )
    batched, batched_cpu = time.perf_counter() - start, time.process_time() - used
    cells = [(c, x) for c in range(len(study.cells)) for x in range(len(languages))]
    picked = np.random.default_rng(1).permutation(len(cells))[: o.sample]
    loop, largest, wall, cpu = Loop(data, l2, o.draws), 0.0, 0.0, 0.0
    for c, x in (cells[i] for i in picked):
        readout, rank = study.cells[c]
        start, used = time.perf_counter(), time.process_time()
        slow = loop.cell(readout.layers[0], rank, x, languages[x])
        wall, cpu = wall + time.perf_counter() - start, cpu + time.process_time() - used
        np.testing.assert_array_equal(np.isnan(slow), np.isnan(study.values[c, x]))
        largest = max(largest, float(np.nanmax(np.abs(slow - study.values[c, x]))))
    # Two rounding errors may put one score on the other side of one threshold.
    assert largest < 0.02, largest
    whole = cpu / len(picked) * len(cells)
    row = {
        "cells": len(cells),
        "values": int(np.isfinite(study.values).sum()),
        "batched s": batched,
        "batched CPU s": batched_cpu,
        "loop CPU s (extrapolated)": whole,
        "loop / batched": whole / batched_cpu,
        "largest difference": largest,
        "fast enough": whole / batched_cpu >= LEAST,
    }
    finish(
        f"{len(languages)} languages x {o.layers} blocks x {len(RANKS)} ranks, {o.draws} draws, "
        f"k = {', '.join(map(str, SHOTS))}, {len(RULES)} rules; loop timed on {len(picked)} cells",
        [row],
        o.json,
        rules=list(RULES),
        shots=list(SHOTS),
        ranks=list(RANKS),
        draws=o.draws,
        sample=len(picked),
        loop_wall_s_per_cell=wall / len(picked),
        least_ratio=LEAST,
    )


if __name__ == "__main__":
    main()
