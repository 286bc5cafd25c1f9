"""The geometry of all pairs of languages in every layer, from an activation store on disk.

    python benchmarks/bench_geometry.py [--layers 42] [--languages 23] [--width 3584] [--json PATH]

Writes synthetic states to a temporary folder (2.8 GB at full size): an offset per language, a class
direction that languages share in part, a component that translations share, and noise. A process of
its own then runs the whole geometry, so that its peak memory is not that of the writing. The floor
is the time to read the file and to do the matrix products alone.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from common import finish

from babelgate.geometry.driver import pairwise_geometry
from babelgate.geometry.plan import Plan
from babelgate.geometry.table import PromptTable, Settings
from babelgate.store import ActivationStore, StoreSpec
from babelgate.types import ModelIdentity

LIMIT_SECONDS, LIMIT_GIB = 60.0, 2.0


def table_of(languages: int, prompts: int) -> PromptTable:
    """Return prompts aligned across languages: half harmful, half train, lengths and outcomes."""
    rng = np.random.default_rng(0)
    n = languages * prompts
    place = np.tile(np.arange(prompts), languages)
    harmful = place % 2 == 0
    return PromptTable(
        language=np.repeat([f"l{i:02d}" for i in range(languages)], prompts),
        harmful=harmful,
        group=place.astype(str),
        split=np.where(place % 4 < 2, "train", "val"),
        tokens=np.rint(rng.lognormal(3.0, 0.4, prompts)[place] * rng.uniform(1, 3, n)) + 1,
        refused=(rng.random(n) < np.where(harmful, 0.7, 0.2)).astype(float),
    )


def write_store(folder: Path, table: PromptTable, layers: int, width: int) -> None:
    """Write the states language by language, as a capture would."""
    rng = np.random.default_rng(1)
    count = len(table) // len(table.languages)
    identity = ModelIdentity("synthetic", "", "bfloat16", "", "", layers, width)
    rows = tuple(range(0, len(table) + 1, count))
    prompts = tuple((str(i), "") for i in range(len(table)))
    spec = StoreSpec(identity, tuple(range(layers)), ("t_post",), "bfloat16", prompts, rows)
    store = ActivationStore.create_or_resume(folder, spec)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32)

    shared, common = normal(layers, count, width) * 0.7, normal(layers, width) * 3
    axis = normal(layers, width) * 0.15
    for batch, start in enumerate(rows[:-1]):
        sign = np.where(table.harmful[start : start + count], 1, -1).astype(np.float32)
        own_axis = axis + 0.1 * normal(layers, width)
        values = normal(layers, count, width)
        values += shared
        values += (common + 0.5 * normal(layers, width))[:, None]
        values += sign[None, :, None] * own_axis[:, None]
        store.write_batch(batch, torch.from_numpy(values[:, None]), {})


def settings_of(layers: int, languages: int) -> Settings:
    return Settings(pivot="l00", projection_layers=(layers // 2,))


def run(folder: Path, options: argparse.Namespace) -> None:
    """Compute the geometry of a store; print time, processor time, peak memory and row counts."""
    store = ActivationStore.open(folder)
    table = table_of(options.languages, options.prompts)
    keys = store.keys
    start, used = time.perf_counter(), time.process_time()
    found = pairwise_geometry(
        lambda layer, position: store.layer(layer, "t_post", keys),
        table,
        layers=store.layers,
        positions=("t_post",),
        sources=table.languages[: options.sources],
        settings=settings_of(options.layers, options.languages),
        threads=options.threads,
    )
    wall, cpu = time.perf_counter() - start, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    rows = {n: len(getattr(found.tables, n)) for n in found.tables.__dataclass_fields__}
    start = time.perf_counter()
    size = len(json.dumps(found.to_json()))
    written = time.perf_counter() - start
    record = {"wall": wall, "cpu": cpu, "peak": peak, "rows": rows, "json": size, "coded": written}
    print(json.dumps(record))


def products(options: argparse.Namespace) -> tuple[float, float]:
    """Return the operations of the products with weights and between states, all layers."""
    table = table_of(options.languages, options.prompts)
    settings = settings_of(options.layers, options.languages)
    sources = table.languages[: options.sources]
    plan = Plan.of(table, sources, settings, np.ones(len(table), dtype=bool))
    wide = sum(2 * len(w) * w.shape[1] for weights in plan.weights for w in weights)
    vectors = 2 * (1 + len(sources)) + 3
    narrow = 2 * len(table) * vectors + 2 * (options.languages - 1) * options.prompts**2
    return float(wide) * options.width * options.layers, narrow * options.width * options.layers


def rate(rows: int, inner: int, width: int) -> float:
    """Return operations per second of a float32 product of these shapes, best of five."""
    a, b = np.ones((rows, inner), np.float32), np.ones((inner, width), np.float32)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - start)
    return 2 * rows * inner * width / min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=42)
    parser.add_argument("--languages", type=int, default=23)
    parser.add_argument("--sources", type=int, default=10)
    parser.add_argument("--width", type=int, default=3584)
    parser.add_argument("--prompts", type=int, default=400, help="per language, a multiple of 4")
    parser.add_argument("--threads", type=int, default=2, help="layers computed side by side")
    parser.add_argument("--repeats", type=int, default=3, help="all are reported")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    o = parser.parse_args()
    if o.run is not None:
        run(o.run, o)
        return
    names = ("layers", "languages", "sources", "width", "prompts", "threads")
    sizes = [f"--{name}={getattr(o, name)}" for name in names]
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        write_store(store, table_of(o.languages, o.prompts), o.layers, o.width)
        n_bytes = (store / "values.bin").stat().st_size
        start = time.perf_counter()
        with (store / "values.bin").open("rb", buffering=0) as file:
            chunk = bytearray(1 << 24)
            while file.readinto(chunk):
                pass
        reading = time.perf_counter() - start
        records = []
        for _ in range(o.repeats):
            made = subprocess.run(
                [sys.executable, __file__, f"--run={store}", *sizes],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            if made.returncode:
                raise SystemExit(made.stderr)
            records.append(json.loads(made.stdout.splitlines()[-1]))
    wide, narrow = products(o)
    floor = wide / rate(110, o.prompts, o.width) + narrow / rate(o.prompts, o.width, o.prompts)
    rows = [
        {
            "run": i,
            "wall s": r["wall"],
            "CPU s": r["cpu"],
            "peak GiB": r["peak"] / 2**30,
            "floor s": floor + reading,
            "in time": r["wall"] < LIMIT_SECONDS,
            "in memory": r["peak"] < LIMIT_GIB * 2**30,
        }
        for i, r in enumerate(records, 1)
    ]
    finish(
        f"{o.languages} languages x {o.layers} layers x {o.width} wide x {o.prompts} prompts, "
        f"{n_bytes / 1e9:.2f} GB read, {(wide + narrow) / 1e9:.0f} GFLOP",
        rows,
        o.json,
        bytes=n_bytes,
        flop=wide + narrow,
        reading_s=reading,
        counts=records[0]["rows"],
        json_bytes=records[0]["json"],
        json_s=records[0]["coded"],
        limit_s=LIMIT_SECONDS,
        limit_gib=LIMIT_GIB,
    )


if __name__ == "__main__":
    main()
