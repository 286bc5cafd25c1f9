"""The geometry of all layers, one layer read at a time; layers that are done are not read again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

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

    def __call__(self, rows: np.ndarray) -> Plan:
        key = rows.tobytes()
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
    on_layer: Callable[[int], None] | None = None,
    save: Callable[[LayerGeometry], None] | None = None,
) -> Geometry:
    """Return how the languages of a prompt table lie to each other in every layer and position.

    ``sources`` are the languages whose directions and thresholds others are judged by. A layer
    outside ``0 .. n_layers - 1``, or one that the reader does not have, is skipped with a reason.
    ``save`` is given each new layer as soon as it is computed, and ``done`` takes saved ones back;
    they must come from the same prompts, states and settings, which nothing here can check.
    ``on_layer`` is called after each layer. Memory: one layer's states three times in float32.

    Raises:
        UserError: without layers or positions, for states of another shape, for a saved layer of
            other positions, or if nothing at all could be computed.
    """
    settings, done = settings or Settings(), done or {}
    if not layers or not positions:
        raise UserError("the geometry needs at least one layer and one position")
    plans = _Plans(table, sources, settings)
    tables: list[Tables] = []
    for layer in dict.fromkeys(layers):
        found = done.get(layer)
        if n_layers is not None and not 0 <= layer < n_layers:
            reason = f"layer {layer} is not one of 0 .. {n_layers - 1}"
            tables.append(Tables(skipped=(Skip("layer", None, reason),)))
            continue
        if found is None:
            found = _layer(states, table, layer, positions, plans)
            if save is not None and not found.tables.empty:
                save(found)
        elif found.positions != tuple(positions) or found.layer != layer:
            raise UserError(
                f"the saved geometry is of layer {found.layer} at {', '.join(found.positions)}; "
                f"expected layer {layer} at {', '.join(positions)}; remove it to compute it again"
            )
        tables.append(found.tables)
        if on_layer is not None:
            on_layer(layer)
    joined = Tables.joined(tables)
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
