"""What is computed for which languages: fixed by the prompts, before any state is read. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .alignment import Alignment
from .lengths import residual_weights
from .members import KINDS, Members
from .rows import Skip
from .table import PromptTable, Settings


@dataclass(frozen=True)
class Plan:
    """Members of each language, their alignment and what has to be skipped."""

    members: tuple[Members, ...]
    alignment: Alignment
    sources: tuple[int, ...]
    pivot: int | None
    settings: Settings
    skipped: tuple[Skip, ...]

    @staticmethod
    def of(
        table: PromptTable, sources: Sequence[str], settings: Settings, present: np.ndarray
    ) -> Plan:
        """Plan for the prompts whose states are there, ``present [N]`` bool."""
        every = [Members.of(table, code, present, settings) for code in table.languages]
        members = tuple(m for m in every if len(m.rows))
        codes = [m.language for m in members]
        alignment = Alignment.of(table, members, settings.least)
        pivot = codes.index(settings.pivot) if settings.pivot in codes else None
        skipped = [
            Skip("language", m.language, "none of its prompts has states")
            for m in every
            if not len(m.rows)
        ]
        if (gone := int((~present).sum())) and members:
            reason = f"{gone} of {len(table)} prompts have no finite states and are left out"
            skipped.append(Skip("prompts", None, reason))
        skipped += [
            Skip("source", code, "the source language has no prompts")
            for code in sources
            if code not in table.languages
        ]
        if table.refused is None:
            skipped.append(Skip("refusal", None, "no outcomes of replies were given"))
        plan = Plan(
            members,
            alignment,
            tuple(codes.index(code) for code in dict.fromkeys(sources) if code in codes),
            pivot,
            settings,
            tuple(skipped),
        )
        found = [*skipped, *(s for m in members for s in m.skips()), *plan._unjudged(table)]
        found += plan._unaligned()
        return Plan(*(members, alignment, plan.sources, pivot, settings, tuple(found)))

    @cached_property
    def languages(self) -> tuple[str, ...]:
        """The languages that have states."""
        return tuple(m.language for m in self.members)

    @cached_property
    def lengths(self) -> tuple[np.ndarray | None, ...]:
        """Per language the weights of the length-residualised direction; None where impossible."""
        return tuple(
            residual_weights(m.weights("harmfulness")[0], m.fit, m.length)
            if "harmfulness" in m.kinds
            else None
            for m in self.members
        )

    @cached_property
    def measured(self) -> tuple[bool, ...]:
        """Per language whether every held-out prompt that is tested has a known length."""
        return tuple(
            weights is not None and bool(np.isfinite(m.length[np.concatenate(m.tested)]).all())
            for m, weights in zip(self.members, self.lengths)
        )

    @cached_property
    def weights(self) -> tuple[list[np.ndarray], ...]:
        """Per language what its states are multiplied with, ``[k, n]`` each.

        One row for each kind's direction, one for the middle between the class means, one for the
        length-residualised direction (zeros where missing); then the class differences on prompts
        shared with other languages, and the random halves of each kind that there is.
        """
        found = []
        for m, length, (shared, _) in zip(self.members, self.lengths, self.alignment.weights):
            nothing = np.zeros((1, len(m.rows)))
            middle = np.add(*(side / max(side.sum(), 1) for side in m.sides("harmfulness"))) / 2
            found.append(
                [
                    *(m.weights(kind) if kind in m.kinds else nothing for kind in KINDS),
                    middle[None],
                    nothing if length is None else length[None],
                    shared,
                    *(m.halves(kind) for kind in m.kinds),
                ]
            )
        return tuple(found)

    def translations(self, language: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Return places of shared prompts in a language and in the pivot; None for too few."""
        if self.pivot is None or language == self.pivot:
            return None
        places = self.alignment.shared(language, self.pivot)
        return places if len(places[0]) >= self.settings.least else None

    def _unjudged(self, table: PromptTable) -> list[Skip]:
        if table.refused is None:
            return []
        return [
            Skip("refusal", m.language, "none of its prompts was judged refused or answered")
            for m in self.members
            if not np.isfinite(m.refused).any()
        ]

    def _unaligned(self) -> list[Skip]:
        """Return what cannot be paired, and what cannot be controlled for length."""
        found, settings = [], self.settings
        counts = np.minimum(self.alignment.counts(True), self.alignment.counts(False))
        np.fill_diagonal(counts, 0)
        for i, m in enumerate(self.members):
            most = int(counts[i].max()) if len(counts) > 1 else 0
            if most < settings.least:
                reason = (
                    f"it shares at most {most} translated prompts per class with another language; "
                    f"at least {settings.least} are needed"
                )
                found.append(Skip("parallelism", m.language, reason))
            if self.pivot is not None and i != self.pivot and self.translations(i) is None:
                n = len(self.alignment.shared(i, self.pivot)[0])
                reason = (
                    f"it shares {n} translated prompts with {settings.pivot}; "
                    f"at least {settings.least} are needed"
                )
                found.append(Skip("translation", m.language, reason))
            if "harmfulness" in m.kinds and len(m.tested[0]) and not self.measured[i]:
                reason = "prompt lengths are unknown or all the same"
                found.append(Skip("length", m.language, reason))
        if self.pivot is None:
            reason = f"the pivot language {settings.pivot!r} has no prompts"
            found.append(Skip("translation", None, reason))
        if not any("harmfulness" in self.members[s].kinds for s in self.sources):
            reason = (
                "no source language has enough prompts of both classes in the split "
                f"{' or '.join(settings.fit)}"
            )
            found.append(Skip("source", None, reason))
        return found
