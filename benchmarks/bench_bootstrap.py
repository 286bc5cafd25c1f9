"""The bootstrap of all rates at once against the obvious loop, and the seconds of a large run.

    python benchmarks/bench_bootstrap.py [--prompts 1000] [--resamples 10000] [--json PATH]

Every cell (method, language, label) gets an interval, every method its macro averages, and every
other method its differences to the first, per language and over all, from one set of resamples. The
loop does the same cells on a few of the same resamples, writing every drawn group down; its time is
multiplied up. The share unscored is 3 %, so that cells differ in what they count.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import best_of, finish

from babelgate.stats import (
    Cell,
    Resamples,
    change,
    combine,
    estimate,
    macro_of,
    paired_estimate,
)

LIMIT_SECONDS = 2.0

Cells = dict[tuple[int, int, int], Cell]  # method, language, label


def make_cells(methods: int, languages: int, prompts: int, labels: int, seed: int) -> Cells:
    """Return outcomes of ``prompts`` translated prompts per language, split evenly over labels."""
    rng = np.random.default_rng(seed)
    per_label = prompts // labels
    groups = [tuple(f"{label}-{i}" for i in range(per_label)) for label in range(labels)]
    cells = {}
    for key in np.ndindex(methods, languages, labels):
        values = (rng.random(per_label) < 0.2 + 0.1 * key[0]).astype(float)
        values[rng.random(per_label) < 0.03] = np.nan
        cells[key] = Cell(values, groups[key[2]])
    return cells


def whole_run(cells: Cells, resamples: int) -> list[Any]:
    """Return every interval, macro average and paired difference of a run."""
    drawn = Resamples.draw([g for c in cells.values() for g in c.groups], n=resamples, seed=0)
    parts = dict(zip(cells, drawn.of(list(cells.values()))))
    found: list[Any] = [estimate(part) for part in parts.values()]
    methods, languages, labels = (1 + max(key[i] for key in cells) for i in range(3))
    sides = list(enumerate([1.0, -1.0][:labels]))
    for m in range(methods):
        of = lambda label: [parts[m, x, label] for x in range(languages)]  # noqa: B023, E731
        found += [macro_of([(1.0, of(label))]) for label, _ in sides]
        found.append(macro_of([(sign, of(label)) for label, sign in sides]))
    pairs = [key for key in cells if key[0] > 0]
    changes = drawn.of([change(cells[0, x, label], cells[m, x, label]) for m, x, label in pairs])
    by_key = dict(zip(pairs, changes))
    for m in range(1, methods):
        for members in [*([x] for x in range(languages)), list(range(languages))]:
            for chosen in ([sides[0]], sides[1:], sides):
                if chosen:
                    found.append(
                        paired_estimate(
                            combine(
                                [
                                    (sign / len(members), by_key[m, x, label])
                                    for x in members
                                    for label, sign in chosen
                                ]
                            )
                        )
                    )
    return found


def loop_means(cells: Cells, drawn: Resamples, n: int) -> np.ndarray:
    """Return the first ``n`` resampled means of every cell, each drawn prompt written down."""
    found = np.empty((len(cells), n))
    for r in range(n):
        times = {g: int(drawn.weights[r, i]) for g, i in drawn.index.items()}
        for c, cell in enumerate(cells.values()):
            values: list[float] = []
            for value, group in zip(cell.values, cell.groups):
                if not math.isnan(value):
                    values += [value] * times[group]
            found[c, r] = sum(values) / len(values) if values else math.nan
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--languages", type=int, default=23)
    parser.add_argument("--prompts", type=int, default=1000, help="per language")
    parser.add_argument("--methods", type=int, default=4)
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--loop-resamples", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3, help="the best of so many is reported")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    o = parser.parse_args()

    sizes = {"one class": (1, o.prompts), "harmful and harmless": (2, 2 * o.prompts)}
    rows: list[dict[str, Any]] = []
    for name, (labels, prompts) in sizes.items():
        cells = make_cells(o.methods, o.languages, prompts, labels, seed=1)
        groups = [g for c in cells.values() for g in c.groups]
        drawn = Resamples.draw(groups, n=o.resamples, seed=0)
        every = list(cells.values())
        slow = loop_means(cells, drawn, o.loop_resamples)
        fast = np.array([part.samples[: o.loop_resamples] for part in drawn.of(every)])
        np.testing.assert_allclose(fast, slow, rtol=1e-12)
        jobs: list[Callable[[], Any]] = [
            lambda: Resamples.draw(groups, n=o.resamples, seed=0),  # noqa: B023
            lambda: drawn.of(every),  # noqa: B023
            lambda: loop_means(cells, drawn, o.loop_resamples),  # noqa: B023
            lambda: whole_run(cells, o.resamples),  # noqa: B023
        ]
        draw, means, loop, whole = best_of(o.repeats, *jobs)
        rows.append(
            {
                "case": f"{o.prompts} prompts per language, {name}",
                "cells": len(cells),
                "statistics": len(whole_run(cells, 10)),
                "draw s": draw,
                "means of all cells s": means,
                "loop, same means s": loop * o.resamples / o.loop_resamples,
                "loop / vectorised": loop * o.resamples / o.loop_resamples / means,
                "whole run s": whole,
                "within limit": whole < LIMIT_SECONDS,
            }
        )
    finish(
        f"{o.resamples} resamples, {o.languages} languages, {o.methods} methods",
        rows,
        o.json,
        resamples=o.resamples,
        languages=o.languages,
        methods=o.methods,
        limit_seconds=LIMIT_SECONDS,
    )


if __name__ == "__main__":
    main()
