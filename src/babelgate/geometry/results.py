"""The geometry of one layer and of all: tables of rows, as JSON and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from ..errors import StoreError
from .codec import decode_rows, encode, encode_rows
from .rows import (
    Centroids,
    CosineMatrix,
    HarmRefusal,
    LengthControl,
    Parallelism,
    Projection,
    Separability,
    Skip,
    SubspaceShare,
    Translation,
)

SCHEMA = 1

_KINDS: dict[str, type[Any]] = {
    "cosines": CosineMatrix,
    "parallelism": Parallelism,
    "shares": SubspaceShare,
    "separability": Separability,
    "lengths": LengthControl,
    "translation": Translation,
    "harm_refusal": HarmRefusal,
    "centroids": Centroids,
    "projections": Projection,
    "skipped": Skip,
}


@dataclass(frozen=True)
class Tables:
    """All rows, of one layer or of many."""

    cosines: tuple[CosineMatrix, ...] = ()
    parallelism: tuple[Parallelism, ...] = ()
    shares: tuple[SubspaceShare, ...] = ()
    separability: tuple[Separability, ...] = ()
    lengths: tuple[LengthControl, ...] = ()
    translation: tuple[Translation, ...] = ()
    harm_refusal: tuple[HarmRefusal, ...] = ()
    centroids: tuple[Centroids, ...] = ()
    projections: tuple[Projection, ...] = ()
    skipped: tuple[Skip, ...] = ()

    @staticmethod
    def joined(parts: Sequence[Tables]) -> Tables:
        """Return the rows of all parts in order; what was skipped for the same reason once."""
        rows = {f.name: [row for p in parts for row in getattr(p, f.name)] for f in fields(Tables)}
        rows["skipped"] = list(dict.fromkeys(rows["skipped"]))
        return Tables(**{name: tuple(found) for name, found in rows.items()})

    def __add__(self, other: Tables) -> Tables:
        """Return the rows of both."""
        return Tables.joined([self, other])

    @property
    def empty(self) -> bool:
        """Whether nothing was computed."""
        return not any(getattr(self, f.name) for f in fields(self) if f.name != "skipped")

    def to_json(self) -> dict[str, Any]:
        """Return rows as lists under one head per table."""
        return {name: encode_rows(kind, getattr(self, name)) for name, kind in _KINDS.items()}

    @staticmethod
    def from_json(data: Mapping[str, Any], name: str) -> Tables:
        """Inverse of :meth:`to_json`.

        Raises:
            StoreError: if a table is missing or damaged.
        """
        if missing := [kind for kind in _KINDS if kind not in data]:
            raise StoreError(f"{name} is incomplete or damaged: it lacks {missing[0]!r}")
        return Tables(**{n: decode_rows(k, data[n], f"{name}, {n}") for n, k in _KINDS.items()})


@dataclass(frozen=True)
class LayerGeometry:
    """Everything about one layer: what a resumed run does not compute again."""

    layer: int
    positions: tuple[str, ...]
    tables: Tables

    def to_json(self) -> dict[str, Any]:
        """Return the document of one layer, with ``schema`` first."""
        head = {"schema": SCHEMA, "layer": self.layer, "positions": list(self.positions)}
        return {**head, **self.tables.to_json()}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> LayerGeometry:
        """Inverse of :meth:`to_json`.

        Raises:
            StoreError: for another schema, or missing or damaged fields.
        """
        _check(data, "layer", "positions")
        tables = Tables.from_json(data, f"the geometry of layer {data['layer']}")
        return LayerGeometry(int(data["layer"]), tuple(data["positions"]), tables)


@dataclass(frozen=True)
class Geometry:
    """The geometry of all layers, with the languages (sources among them) it was computed for."""

    layers: tuple[int, ...]
    positions: tuple[str, ...]
    languages: tuple[str, ...]
    sources: tuple[str, ...]
    pivot: str
    tables: Tables

    def to_json(self) -> dict[str, Any]:
        """Return the document, with ``schema`` first."""
        head = {f.name: encode(getattr(self, f.name)) for f in fields(self) if f.name != "tables"}
        return {"schema": SCHEMA, **head, **self.tables.to_json()}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Geometry:
        """Inverse of :meth:`to_json`.

        Raises:
            StoreError: for another schema, or missing or damaged fields.
        """
        names = [f.name for f in fields(Geometry) if f.name not in ("pivot", "tables")]
        _check(data, *names, "pivot")
        head = {name: tuple(data[name]) for name in names}
        tables = Tables.from_json(data, "the geometry")
        return Geometry(**head, pivot=str(data["pivot"]), tables=tables)


def _check(data: Mapping[str, Any], *names: str) -> None:
    if data.get("schema") != SCHEMA:
        raise StoreError(
            f"the geometry has schema {data.get('schema')!r}; this version reads schema {SCHEMA}"
        )
    if missing := [name for name in names if name not in data]:
        raise StoreError(f"the geometry is incomplete: it lacks {missing[0]!r}")
