"""What the benchmarks share: prompts, the machine's matrix rate, tables and JSON."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from babelgate.artifacts import hardware, versions, write_json
from babelgate.console import table
from babelgate.models.chat import ChatModel
from babelgate.prompts import load_prompts, take
from babelgate.types import Prompt


def arguments(description: str) -> argparse.ArgumentParser:
    """Return a parser with what every benchmark takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--prompts", default="starter", help="for example polyrefuse:FOLDER")
    parser.add_argument("--repeats", type=int, default=3, help="the best of so many is reported")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    return parser


def val_prompts(source: str, languages: tuple[str, ...], per_cell: int) -> list[Prompt]:
    """Return val prompts, the same number per language and label, in file order."""
    prompts = load_prompts(source, languages=languages, splits="val")
    return list(take(prompts, per_cell).prompts)


def best_of(repeats: int, *jobs: Callable[[], Any]) -> list[float]:
    """Return each job's shortest time in seconds; jobs take turns, so that noise hits all alike."""
    times: list[list[float]] = [[] for _ in jobs]
    for _ in range(repeats):
        for job, taken in zip(jobs, times):
            start = time.perf_counter()
            job()
            taken.append(time.perf_counter() - start)
    return [min(taken) for taken in times]


def matrix_rate(dtype: torch.dtype, shapes: list[tuple[int, int, int]]) -> float:
    """Return floating-point operations per second of ``[m, k] x [k, n]`` products, best of five."""
    work = sum(2 * m * k * n for m, k, n in shapes)
    pairs = [(torch.randn(m, k).to(dtype), torch.randn(n, k).to(dtype)) for m, k, n in shapes]

    def run() -> None:
        for a, w in pairs:
            torch.nn.functional.linear(a, w)

    run()
    return work / best_of(5, run)[0]


def block_shapes(model: ChatModel, rows: int) -> list[tuple[int, int, int]]:
    """Return the matrix products of one block for that many tokens."""
    linears = [m for m in model.blocks[0].modules() if isinstance(m, torch.nn.Linear)]
    return [(rows, m.in_features, m.out_features) for m in linears]


def finish(title: str, rows: list[dict[str, Any]], path: Path | None, **facts: Any) -> None:
    """Print one table and write the same numbers as JSON."""
    columns = list(rows[0])
    table(title, columns, [[_cell(row[c]) for c in columns] for row in rows])
    if path is not None:
        record = {"title": title, "rows": rows, **facts}
        write_json(path, {**record, "versions": versions(), "hardware": hardware()})
        print(json.dumps({"written": str(path)}))


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
