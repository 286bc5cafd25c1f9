"""The geometry of all layers, one layer read at a time; layers that are done are not read again."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from ..errors import UserError
from .layer import Summary, layer_tables
from .plan import Plan
from .results import Geometry, LayerGeometry, Tables
from .rows import Skip
from .states import as_float32, present
from .table import PromptTable, Settings

#: ``states(layer, position)``: array or tensor ``[N, d]``, rows in the order of the prompt table.
#: A row that is NaN is missing; a LookupError says that the layer or position does not exist.
States = Callable[[int, str], Any]


class _Plans:
    """The plan for each set of prompts that have states; most layers share one."""

    def __init__(self, table: PromptTable, sources: Sequence[str], settings: Settings) -> None:
        self._given, self._plans = (table, sources, settings), {}
        self._lock = threading.Lock()

    def __call__(self, rows: np.ndarray) -> Plan:
        key = rows.tobytes()
        with self._lock:
            if key not in self._plans:
                self._plans[key] = Plan.of(*self._given, rows)
            return self._plans[key]


def layer_geometry(
    states: States,
    table: PromptTable,
    layer: int,
    *,
    positions: Sequence[str],
    sources: Sequence[str],
    settings: Settings | None = None,
) -> LayerGeometry:
    """Return the geometry of one layer at some positions: see :func:`pairwise_geometry`."""
    plans = _Plans(table, sources, settings or Settings())
    return _layer(states, table, layer, positions, plans)


def pairwise_geometry(
    states: States,
    table: PromptTable,
    *,
    layers: Sequence[int],
    positions: Sequence[str],
    sources: Sequence[str],
    n_layers: int | None = None,
    settings: Settings | None = None,
    done: Mapping[int, LayerGeometry] | None = None,
    threads: int = 1,
    on_layer: Callable[[int], None] | None = None,
    save: Callable[[LayerGeometry], None] | None = None,
) -> Geometry:
    """Return how the languages of a prompt table lie to each other in every layer and position.

    ``sources`` are the languages whose directions and thresholds others are judged by. A layer
    outside ``0 .. n_layers - 1``, or one that the reader does not have, is skipped with a reason.
    ``save`` is given each new layer as soon as it is computed, and ``done`` takes saved ones back;
    they must come from the same prompts, states and settings, which nothing here can check.
    ``on_layer`` is called after each layer. ``threads`` layers are computed side by side, and
    ``states`` is then called from several threads; the products of one layer keep only one core
    busy about half of the time. Memory: three times one layer's states in float32, per thread.

    Raises:
        UserError: without layers or positions, for states of another shape, for a saved layer of
            other positions, or if nothing at all could be computed.
    """
    settings, done = settings or Settings(), done or {}
    if not layers or not positions:
        raise UserError("the geometry needs at least one layer and one position")
    plans = _Plans(table, sources, settings)
    known: dict[int, Tables] = {}
    missing: list[int] = []
    for layer in dict.fromkeys(layers):
        found = done.get(layer)
        if n_layers is not None and not 0 <= layer < n_layers:
            reason = f"layer {layer} is not one of 0 .. {n_layers - 1}"
            known[layer] = Tables(skipped=(Skip("layer", None, reason),))
        elif found is None:
            missing.append(layer)
        elif found.positions != tuple(positions) or found.layer != layer:
            raise UserError(
                f"the saved geometry is of layer {found.layer} at {', '.join(found.positions)}; "
                f"expected layer {layer} at {', '.join(positions)}; remove it to compute it again"
            )
        else:
            known[layer] = found.tables
            if on_layer is not None:
                on_layer(layer)

    def compute(layer: int) -> LayerGeometry:
        return _layer(states, table, layer, positions, plans)

    for found in _side_by_side(compute, missing, threads):
        known[found.layer] = found.tables
        if save is not None and not found.tables.empty:
            save(found)
        if on_layer is not None:
            on_layer(found.layer)
    joined = Tables.joined([known[layer] for layer in dict.fromkeys(layers)])
    if joined.empty:
        reasons = "; ".join(
            f"{s.kind}{'' if s.language is None else f' ({s.language})'}: {s.reason}"
            for s in joined.skipped[:3]
        )
        raise UserError(f"no geometry can be computed; {reasons}")
    return Geometry(
        layers=tuple(dict.fromkeys(layers)),
        positions=tuple(positions),
        languages=table.languages,
        sources=tuple(sources),
        pivot=settings.pivot,
        tables=joined,
    )


def _side_by_side(
    compute: Callable[[int], LayerGeometry], layers: Sequence[int], threads: int
) -> Iterator[LayerGeometry]:
    """Yield what is computed of each layer, in order, never more than ``threads`` in memory."""
    if threads <= 1:
        yield from map(compute, layers)
        return
    # One thread per product: several at once would otherwise wait for the same cores.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads) as pool:
        running: deque[Future[LayerGeometry]] = deque()
        try:
            for layer in layers:
                running.append(pool.submit(compute, layer))
                if len(running) == threads:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()


def _layer(
    states: States, table: PromptTable, layer: int, positions: Sequence[str], plans: _Plans
) -> LayerGeometry:
    parts = []
    for position in positions:
        what = f"layer {layer} at {position}"
        try:
            block = as_float32(states(layer, position), len(table), what)
        except LookupError as error:
            reason = f"there are no states of {what}: {error}"
            parts.append(Tables(skipped=(Skip("states", None, reason),)))
            continue
        plan = plans(present(block))
        if not plan.members:
            reason = f"the states of {what} are not finite"
            parts.append(Tables(skipped=(Skip("states", None, reason),)))
            continue
        summary = Summary.of(block, plan)
        # As large as the centred states, and nothing below needs it.
        del block
        parts.append(layer_tables(summary, plan, layer, position) + Tables(skipped=plan.skipped))
    return LayerGeometry(layer, tuple(positions), Tables.joined(parts))
