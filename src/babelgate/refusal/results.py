"""What a selection found: every candidate's scores, which filter removed it, and the one chosen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import torch

from ..directions import Direction
from ..types import Position
from .examples import Contrast, Lack
from .settings import SelectionSettings
from .tokens import RefusalTokens

#: In the order in which they are asked: from free to dear.
Filter = Literal["layer", "no_difference", "induce", "kl", "not_finite"]
FILTERS: tuple[Filter, ...] = get_args(Filter)
Status = Literal["selected", "none_passes", "no_tokens"] | Lack
_ARRAYS = ("norm", "induce", "kl", "kl_at_least", "bypass")


@dataclass(frozen=True)
class Candidate:
    """One candidate direction: the mean difference at a position, at the input of a block.

    ``layer`` is the published index l: the residual stream that block l reads, which is the output
    of block l - 1 (:attr:`after_block`, the index that babelgate uses elsewhere). ``norm`` is the
    length of the mean difference in units of the residual stream; ``induce`` and ``bypass`` are
    mean log-odds, ``kl`` nats. NaN is what was not computed; of a candidate that a sum of
    divergences had ruled out before its end, ``kl_at_least`` is a lower bound.
    """

    position: Position
    layer: int
    norm: float
    induce: float
    kl: float
    bypass: float
    kl_at_least: float = math.nan
    removed_by: Filter | None = None

    @property
    def after_block(self) -> int:
        """The block whose output the candidate lives in; -1 is the embedding."""
        return self.layer - 1

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a dict, with ``null`` for missing numbers."""
        return {k: _number(v) if isinstance(v, float) else v for k, v in asdict(self).items()}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Candidate:
        """Inverse of :meth:`to_json`."""
        numbers = {k: math.nan if data[k] is None else float(data[k]) for k in _ARRAYS}
        return Candidate(**{**data, **numbers})


@dataclass(frozen=True)
class SelectionMap:
    """Scores of all candidates, ``[n_positions, n_layers]`` each; NaN is what was not computed.

    ``positions`` run from the first post-instruction token to the last (``t_post``), ``tokens`` are
    their texts. Column l is the input of block l. ``base_harmful`` and ``base_harmless`` are the
    untouched model's mean refusal scores on val.
    """

    positions: tuple[Position, ...]
    tokens: tuple[str, ...]
    norm: np.ndarray
    induce: np.ndarray
    kl: np.ndarray
    kl_at_least: np.ndarray
    bypass: np.ndarray
    base_harmful: float
    base_harmless: float

    def __post_init__(self) -> None:
        for name in _ARRAYS:
            shape = getattr(self, name).shape
            if len(shape) != 2 or shape[0] != len(self.positions) or shape != self.norm.shape:
                raise ValueError(f"map {name} has shape {shape}, not [n_positions, n_layers]")

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return self.norm.shape[1]

    def candidate(self, i: int, layer: int, removed_by: Filter | None = None) -> Candidate:
        """Return one candidate by position index and layer."""
        scores = {name: float(getattr(self, name)[i, layer]) for name in _ARRAYS}
        return Candidate(self.positions[i], layer, **scores, removed_by=removed_by)

    def to_json(self) -> dict[str, Any]:
        """Return a dict of nested lists, with ``null`` for missing numbers."""
        return {
            "positions": list(self.positions),
            "tokens": list(self.tokens),
            **{n: [[_number(x) for x in row] for row in getattr(self, n)] for n in _ARRAYS},
            "base_harmful": _number(self.base_harmful),
            "base_harmless": _number(self.base_harmless),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> SelectionMap:
        """Inverse of :meth:`to_json`."""
        # None becomes NaN in an array of floats.
        arrays: dict[str, Any] = {
            n: np.array(data[n], dtype=float).reshape(len(data["positions"]), -1) for n in _ARRAYS
        }
        base = [math.nan if data[n] is None else float(data[n])
                for n in ("base_harmful", "base_harmless")]  # fmt: skip
        return SelectionMap(
            tuple(data["positions"]),
            tuple(data["tokens"]),
            **arrays,
            base_harmful=base[0],
            base_harmless=base[1],
        )


@dataclass(frozen=True)
class Selection:
    """The refusal direction of one language, or why there is none.

    ``direction`` has unit norm and lives after block ``chosen.after_block``; ``strength`` is the
    length of the mean difference, what the induce score adds. ``removed`` counts candidates by the
    first filter that removed them, ``n_passed`` those that passed all. ``words`` says the outcome
    in a sentence, ``notes`` what a reader must know besides.
    """

    language: str
    status: Status
    words: str
    contrast: Contrast
    settings: SelectionSettings
    tokens: RefusalTokens
    examples: Mapping[str, int] = field(default_factory=dict)
    map: SelectionMap | None = None
    removed: Mapping[Filter, int] = field(default_factory=dict)
    n_passed: int = 0
    chosen: Candidate | None = None
    direction: Direction | None = None
    notes: tuple[str, ...] = ()

    @property
    def strength(self) -> float:
        """Norm of the chosen mean difference; NaN where nothing was chosen."""
        return math.nan if self.chosen is None else self.chosen.norm

    def candidates(self) -> Iterator[Candidate]:
        """Yield every candidate that was looked at, with the filter that removed it."""
        from .choice import all_candidates

        if self.map is not None:
            yield from all_candidates(self.map, self.settings)

    def to_json(self) -> dict[str, Any]:
        """Return nested dicts and lists; the direction's vector is in them, as float32 values."""
        d = self.direction
        return {
            "language": self.language,
            "status": self.status,
            "words": self.words,
            "contrast": self.contrast,
            "settings": self.settings.to_json(),
            "tokens": self.tokens.to_json(),
            "examples": dict(self.examples),
            "map": None if self.map is None else self.map.to_json(),
            "removed": dict(self.removed),
            "n_passed": self.n_passed,
            "chosen": None if self.chosen is None else self.chosen.to_json(),
            "direction": None
            if d is None
            else {
                "layer": d.layer, "position": d.position, "method": d.method, "source": d.source,
                "vector": d.vector.tolist(),
            },
            "notes": list(self.notes),
        }  # fmt: skip

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Selection:
        """Inverse of :meth:`to_json`."""
        d = data["direction"]
        made = {
            "settings": SelectionSettings.from_json(data["settings"]),
            "tokens": RefusalTokens.from_json(data["tokens"]),
            "map": None if data["map"] is None else SelectionMap.from_json(data["map"]),
            "chosen": None if data["chosen"] is None else Candidate.from_json(data["chosen"]),
            "direction": None
            if d is None
            else Direction(**{**d, "vector": torch.tensor(d["vector"], dtype=torch.float32)}),
            "notes": tuple(data["notes"]),
        }
        return Selection(**{**data, **made})


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
