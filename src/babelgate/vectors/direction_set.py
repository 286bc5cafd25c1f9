"""Named directions with what is known about where they came from. Tensors in, values out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import torch

from ..directions import Direction
from ..errors import UserError, did_you_mean
from ..types import POSITIONS, ModelIdentity, Position, is_position

#: What a scale is the length of.
ScaleIs = Literal["mean_difference", "steering_strength", "imported", "unit"]
SCALES: tuple[ScaleIs, ...] = get_args(ScaleIs)

_LONGEST_NAME = 200


@dataclass(frozen=True, eq=False)
class NamedDirection:
    """One direction after one block, under a name like ``refusal/en``.

    ``direction`` holds the unit vector ``[d]``; ``scale`` its length, in units of the residual
    stream, kept apart: ``scale * vector`` is the vector as measured, or as strong as it is meant to
    be added, and ``scale_is`` says which. ``examples`` counts the prompts per class that it was
    made from; None where that is not known.

    Raises:
        UserError: for a name that cannot be printed, a scale that is not a positive number, a
            negative block, or a position or kind of scale that does not exist.
    """

    name: str
    direction: Direction
    scale: float
    scale_is: ScaleIs
    language: str | None = None
    examples: Mapping[str, int] | None = None

    def __post_init__(self) -> None:
        if not self.name.strip() or not self.name.isprintable() or len(self.name) > _LONGEST_NAME:
            raise UserError(
                f"direction name {self.name[:80]!r} should be 1 to {_LONGEST_NAME} printable "
                "characters, such as 'refusal/en'"
            )
        what = f"direction {self.name!r}"
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise UserError(f"{what}: scale {self.scale} should be a positive number")
        if self.scale_is not in SCALES:
            raise UserError(f"{what}: a scale is one of {SCALES}, not {self.scale_is!r}")
        if self.layer < 0:
            raise UserError(f"{what}: block {self.layer} does not exist; blocks are counted from 0")
        if not is_position(self.direction.position):
            raise UserError(
                f"{what}: position {self.direction.position!r} is not one of {POSITIONS} or "
                "t_post-N"
            )

    @property
    def layer(self) -> int:
        """The block, counted from 0, after which the vector lives in the residual stream."""
        return self.direction.layer

    def scaled(self) -> torch.Tensor:
        """Return ``scale * vector``, ``[d]`` float32."""
        return (self.direction.vector.double() * self.scale).float()


def named_direction(
    name: str,
    vector: torch.Tensor,
    *,
    layer: int,
    position: Position,
    method: str,
    source: str,
    scale_is: ScaleIs = "mean_difference",
    language: str | None = None,
    examples: Mapping[str, int] | None = None,
) -> NamedDirection:
    """Split a vector ``[d]`` of any length into its unit vector and its scale.

    Raises:
        UserError: if it is not a vector, holds NaN or infinity, or is zero.
    """
    if vector.ndim != 1 or not len(vector):
        raise UserError(f"direction {name!r} should be a vector, not of shape {list(vector.shape)}")
    wide = vector.detach().cpu().double()
    if not torch.isfinite(wide).all():
        raise UserError(f"direction {name!r} after block {layer} holds NaN or infinity")
    # By the largest entry first: squares of numbers near float64's ends would leave its range.
    largest = float(wide.abs().max())
    if largest == 0:
        raise UserError(f"direction {name!r} after block {layer} is zero: it has no direction")
    norm = float((wide / largest).norm())
    unit = (wide / largest / norm).float()
    direction = Direction(unit, layer, position, method, source)
    return NamedDirection(name, direction, largest * norm, scale_is, language, examples)


@dataclass(frozen=True)
class Provenance:
    """How a set of directions came about: ``measured`` by babelgate or ``imported`` from a file.

    ``prompts`` is the prompt set's fingerprint, ``versions`` those of babelgate and its libraries,
    ``notes`` anything else worth keeping, as JSON. None is for what is not known.
    """

    origin: Literal["measured", "imported"]
    prompts: str | None = None
    seed: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a dict."""
        return {
            "origin": self.origin,
            "prompts": self.prompts,
            "seed": self.seed,
            "versions": dict(self.versions),
            "notes": dict(self.notes),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Provenance:
        """Inverse of :meth:`to_json`.

        Raises:
            UserError: if ``origin`` is neither ``measured`` nor ``imported``.
        """
        if data["origin"] not in ("measured", "imported"):
            raise UserError(f"origin {data['origin']!r} is neither 'measured' nor 'imported'")
        return Provenance(
            data["origin"],
            None if data["prompts"] is None else str(data["prompts"]),
            None if data["seed"] is None else int(data["seed"]),
            {str(k): str(v) for k, v in dict(data["versions"]).items()},
            dict(data["notes"]),
        )


@dataclass(frozen=True, eq=False)
class DirectionSet:
    """Directions of one model; a name may stand at several blocks, once at each.

    ``model`` is None where it is not known: imported files do not name one that can be checked.

    Raises:
        UserError: if the set is empty, two entries share name and block, widths differ, or one does
            not fit the model.
    """

    directions: tuple[NamedDirection, ...]
    model: ModelIdentity | None
    provenance: Provenance

    def __post_init__(self) -> None:
        if not self.directions:
            raise UserError("a set of directions needs at least one")
        widths = sorted({len(entry.direction.vector) for entry in self.directions})
        if len(widths) > 1:
            raise UserError(f"directions of one model have one width, not {widths}")
        seen: set[tuple[str, int]] = set()
        for entry in self.directions:
            if (entry.name, entry.layer) in seen:
                raise UserError(f"direction {entry.name!r} stands twice after block {entry.layer}")
            seen.add((entry.name, entry.layer))
        if self.model is not None:
            self._check_size(self.model)

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return len(next(iter(self.directions)).direction.vector)

    @property
    def names(self) -> tuple[str, ...]:
        """Names in order of first appearance."""
        return tuple(dict.fromkeys(entry.name for entry in self.directions))

    def layers(self, name: str) -> tuple[int, ...]:
        """Return the blocks at which a name stands, ascending; none for an unknown name."""
        return tuple(sorted(e.layer for e in self.directions if e.name == name))

    def get(self, name: str, layer: int) -> NamedDirection:
        """Return one entry.

        Raises:
            UserError: if there is none; the message lists what there is.
        """
        for entry in self.select(name).directions:
            if entry.layer == layer:
                return entry
        raise UserError(
            f"direction {name!r} stands after blocks {list(self.layers(name))}, not after {layer}"
        )

    def select(self, name: str, layers: Iterable[int] | None = None) -> DirectionSet:
        """Return the set of one name, at these blocks or at all of its own, blocks ascending.

        Raises:
            UserError: if the name or one of the blocks is not there; the message lists what is.
        """
        own = self.layers(name)
        if not own:
            raise UserError(
                f"there is no direction {name!r}; there are {_listed(self.names)}."
                f"{did_you_mean(name, list(self.names))}"
            )
        wanted = own if layers is None else tuple(sorted(set(layers)))
        missing = [layer for layer in wanted if layer not in own]
        if missing or not wanted:
            raise UserError(
                f"direction {name!r} stands after blocks {list(own)}, not after {missing}"
            )
        kept = [e for e in self.directions if e.name == name and e.layer in wanted]
        return replace(self, directions=tuple(sorted(kept, key=lambda e: e.layer)))

    def only_name(self) -> str:
        """Return the name, if there is one alone.

        Raises:
            UserError: if there are several; the message lists them.
        """
        names = self.names
        if len(names) != 1:
            raise UserError(
                f"the set holds {len(names)} directions: choose one by name, of {_listed(names)}"
            )
        return names[0]

    def check(self, model: ModelIdentity) -> None:
        """Check that the directions can be used with a model.

        With a known model everything that changes activations must agree
        (:meth:`ModelIdentity.mismatches`); with an unknown one, width and number of blocks.

        Raises:
            UserError: if they do not fit; the message lists every difference.
        """
        if self.model is None:
            self._check_size(model)
        elif differences := self.model.mismatches(model):
            raise UserError(
                f"these directions were made with another model than {model.name!r} "
                f"({'; '.join(differences)}); make them again with this one"
            )

    def _check_size(self, model: ModelIdentity) -> None:
        if self.d_model != model.d_model:
            raise UserError(
                f"directions of width {self.d_model} do not fit {model.name!r}, whose residual "
                f"stream has width {model.d_model}"
            )
        beyond = sorted({e.layer for e in self.directions if e.layer >= model.n_layers})
        if beyond:
            raise UserError(
                f"directions after blocks {beyond} do not fit {model.name!r}, which has blocks 0 "
                f"to {model.n_layers - 1}"
            )


def _listed(names: tuple[str, ...], most: int = 40) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
