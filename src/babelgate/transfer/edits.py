"""The edits that a matrix is made of: every direction and control, projected out and added."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..directions import Direction
from ..errors import UserError
from ..interventions.actions import AddThroughout, Nothing, ProjectOut, everywhere
from ..interventions.vectors import vector_key
from ..types import Label
from .results import MAIN, MEAN, Kind, Way, effect_of
from .settings import TransferSettings
from .sources import Source, mean_source, random_direction


@dataclass(frozen=True)
class Edit:
    """One direction done to prompts in one way; ``length`` is NaN where it is projected out.

    ``owner`` is the language whose direction (or layer and length, for a control) it is; ``only``
    the one target that it is for. Without ``both`` it is done to the class of its main effect only.
    """

    name: str
    kind: Kind
    way: Way
    owner: str
    direction: Direction
    length: float = math.nan
    only: str | None = None
    both: bool = False

    def action(self, n_layers: int) -> Nothing:
        """Return what is done in generation: everywhere, or at the direction's block."""
        if self.way == "ablate":
            return ProjectOut(self.name, layers=everywhere(n_layers), direction=self.direction)
        return AddThroughout(self.name, direction=self.direction, alpha=self.length)

    @cached_property
    def key(self) -> str:
        """Fingerprint of what is done; it does not depend on names."""
        vector = self.direction.vector
        if self.way == "ablate":
            return vector_key("ablate", vector)
        return vector_key("add", vector, self.direction.layer, self.length)

    def wanted(self, language: str, label: Label) -> bool:
        """Whether it is done to prompts of a language and class."""
        main = effect_of(self.way, label) in MAIN
        return self.only in (None, language) and (main or self.both)


@dataclass(frozen=True)
class Plan:
    """Edits by name, which of them is each row of the matrix, and each row's controls.

    Rows are keyed by ``(source, way, target)``, with a target of None where all have the same;
    ``missing`` says why a row has no edit.
    """

    edits: Mapping[str, Edit]
    rows: Mapping[tuple[str, Way, str | None], str]
    controls: Mapping[str, tuple[str, ...]]
    missing: Mapping[tuple[str, Way, str | None], str]
    sources: tuple[str, ...]

    def row(self, source: str, way: Way, target: str) -> tuple[Edit | None, str]:
        """Return the edit of a source on a target, or None and why there is none."""
        for only in (target, None):
            key = (source, way, only)
            if key in self.rows:
                return self.edits[self.rows[key]], ""
            if key in self.missing:
                return None, self.missing[key]
        return None, f"{source} has no direction"


def plan_edits(
    sources: Mapping[str, Source], targets: Sequence[str], settings: TransferSettings
) -> Plan:
    """Return every edit that the matrix of some sources and targets needs.

    A random direction that is projected out has neither block nor length, so all sources share it.

    Raises:
        UserError: without sources, or for one that is called like the mean.
    """
    if not sources:
        raise UserError("a transfer matrix needs the direction of at least one language")
    if MEAN in sources:
        raise UserError(f"no source may be called {MEAN!r}: that is the row of the languages' mean")
    made = _Maker(sources, settings)
    for language, source in sources.items():
        made.row(language, None, source, "direction", made.scope(language))
    if settings.mean:
        for target in targets:
            rest = {k: s for k, s in sources.items() if k != target}
            try:
                mean = mean_source(rest)
            except UserError as error:
                for way in ("ablate", "add"):
                    made.missing[MEAN, way, target] = str(error)
            else:
                made.row(MEAN, target, mean, "mean", made.longest[mean.direction.layer])
    rows = (*sources, *([MEAN] if settings.mean else []))
    return Plan(made.edits, made.rows, made.controls, made.missing, rows)


class _Maker:
    def __init__(self, sources: Mapping[str, Source], settings: TransferSettings) -> None:
        self.sources = sources
        self.settings = settings
        self.edits: dict[str, Edit] = {}
        self.rows: dict[tuple[str, Way, str | None], str] = {}
        self.controls: dict[str, tuple[str, ...]] = {}
        self.missing: dict[tuple[str, Way, str | None], str] = {}
        #: The source with the longest direction of each block, the first of several as long.
        self.longest: dict[int, str] = {}
        for language, source in sources.items():
            known = self.longest.setdefault(source.direction.layer, language)
            if (source.length or 0.0) > (sources[known].length or 0.0):
                self.longest[source.direction.layer] = language

    def scope(self, language: str) -> str:
        """Return the source whose random and shuffled controls a source is compared with."""
        if self.settings.control_scope == "source":
            return language
        return self.longest[self.sources[language].direction.layer]

    def row(self, name: str, target: str | None, source: Source, kind: Kind, owner: str) -> None:
        """Add both edits of a row and the controls that it is compared with."""
        suffix = "" if target is None else f" without {target}"
        for way in ("ablate", "add"):
            if way == "add" and source.length is None:
                self.missing[name, way, target] = (
                    f"the direction of {name} came without a length to add it with"
                )
                continue
            edit = Edit(
                f"{way} {name}{suffix}", kind, way, name, source.direction,
                math.nan if way == "ablate" else float(source.length or 0.0),
                target, self.settings.selectivity,
            )  # fmt: skip
            self.rows[name, way, target] = self._add(edit)
            identity = owner if target is not None else name
            self.controls[edit.name] = (*self._nulls(way, owner), *self._identity(way, identity))

    def _add(self, edit: Edit) -> str:
        self.edits.setdefault(edit.name, edit)
        return edit.name

    def _nulls(self, way: Way, owner: str) -> list[str]:
        """Return the random and shuffled controls at the owner's block and length."""
        source = self.sources[owner]
        size, layer = len(source.direction.vector), source.direction.layer
        found = []
        for i in range(self.settings.random_seeds):
            seed = self.settings.seed + i
            vector = random_direction(size, layer, seed)
            name = f"{way} random-{i}" + ("" if way == "ablate" else f" as {owner}")
            found.append(self._control(name, "random", way, owner, vector))
        for i, direction in enumerate(source.shuffled):
            found.append(
                self._control(f"{way} shuffled-{i} of {owner}", "shuffled", way, owner, direction)
            )
        return found

    def _identity(self, way: Way, owner: str) -> list[str]:
        direction = self.sources[owner].identity
        if direction is None:
            return []
        return [self._control(f"{way} identity of {owner}", "identity", way, owner, direction)]

    def _control(self, name: str, kind: Kind, way: Way, owner: str, direction: Direction) -> str:
        source = self.sources[owner]
        # A control stands in for its owner's direction, so it acts at that one's block.
        placed = Direction(
            direction.vector, source.direction.layer, direction.position,
            direction.method, direction.source,
        )  # fmt: skip
        length = math.nan if way == "ablate" else float(source.length or 0.0)
        return self._add(Edit(name, kind, way, owner, placed, length))
