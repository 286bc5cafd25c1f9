"""What is compared: treatments, who decides between them, and how that is described."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ..completions import Method
from ..interventions.actions import Nothing
from ..interventions.base import Action, Decider, Intervention
from ..interventions.conditional import ConditionalIntervention, Ungated

Family = Literal["base", "gate", "paper", "rival", "control"]


@dataclass(frozen=True)
class Treatment:
    """A way of replying to a prompt that is the same whoever decided on it.

    Either an action on every row, or an intervention of its own kind that decides by itself, or a
    system prompt per language; with none of them, the untouched model.
    """

    name: str
    action: Action | None = None
    intervention: Intervention | None = None
    systems: Mapping[str, str] | None = None
    key: str = ""

    @property
    def fixed(self) -> bool:
        """Whether its replies are fixed words, which nothing is generated for."""
        words = None if self.action is None else self.action.words(None)
        return words is not None and words.final

    def method(self) -> Method:
        """Return how its replies are generated."""
        intervention = self.intervention
        if self.action is not None:
            intervention = Ungated(self.action, self.name)
        key = self.key or ("" if self.action is None else self.action.key)
        return Method(self.name, intervention, key, systems=self.systems)


#: The untouched model: what every method is compared with.
UNTOUCHED = Treatment("base")


@dataclass(frozen=True)
class Routes:
    """Who fires: ``scores [N]`` against ``thresholds [S, N]``, one row per seed of the shots.

    ``fired = score >= threshold``, in the order of the prompts compared on. A row of the thresholds
    may differ by the prompt's language. One row where a method has no shots to draw.
    """

    scores: np.ndarray
    thresholds: np.ndarray

    def __post_init__(self) -> None:
        if self.thresholds.ndim != 2 or self.thresholds.shape[1] != len(self.scores):
            raise ValueError(
                f"thresholds of shape {self.thresholds.shape} for {len(self.scores)} scores"
            )

    @property
    def fired(self) -> np.ndarray:
        """``[S, N]`` bool."""
        return self.scores[None] >= self.thresholds


@dataclass(frozen=True)
class Contender:
    """A method in a comparison.

    ``routes`` of None: every prompt gets the ``fired`` treatment. ``labels`` says in words which
    labelled examples the method used; ``layer`` is the last block that its decision reads.
    ``decider`` decides in generation as ``routes`` do with the first seed's thresholds.
    """

    name: str
    family: Family
    summary: str
    fired: Treatment
    silent: Treatment = UNTOUCHED
    routes: Routes | None = None
    labels: str = "none"
    layer: int | None = None
    decider: Decider | None = None
    facts: Mapping[str, object] = field(default_factory=dict)

    @property
    def n_seeds(self) -> int:
        """Number of draws of the shots."""
        return 1 if self.routes is None else len(self.routes.thresholds)

    def intervention(self) -> Intervention | None:
        """Return the method as it would be deployed, with the first seed's thresholds."""
        if self.routes is None or self.decider is None:
            return self.fired.method().intervention
        pair = [t.action or Nothing() for t in (self.fired, self.silent)]
        return ConditionalIntervention(self.decider, pair[0], pair[1], self.name)

    def sides(self, n: int) -> np.ndarray:
        """Return ``[S, N]`` bool: True where a prompt gets the ``fired`` treatment."""
        return np.ones((1, n), dtype=bool) if self.routes is None else self.routes.fired


def needed(contenders: Sequence[Contender], n: int) -> dict[str, tuple[Treatment, np.ndarray]]:
    """Return every treatment by name with the prompts ``[N]`` (bool) that need its reply.

    The untouched model is needed on all prompts: everything is compared with it.

    Raises:
        ValueError: if two treatments share a name and are not the same.
    """
    found: dict[str, tuple[Treatment, np.ndarray]] = {
        UNTOUCHED.name: (UNTOUCHED, np.ones(n, dtype=bool))
    }
    for contender in contenders:
        fired = contender.sides(n)
        for treatment, where in (
            (contender.fired, fired.any(0)),
            (contender.silent, (~fired).any(0)),
        ):
            known, wanted = found.get(treatment.name, (treatment, np.zeros(n, dtype=bool)))
            if known.method().key != treatment.method().key:
                raise ValueError(f"two treatments are called {treatment.name!r}")
            found[treatment.name] = (known, wanted | where)
    return {name: (t, where) for name, (t, where) in found.items() if where.any()}
