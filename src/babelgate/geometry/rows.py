"""The rows that the geometry of a model's languages is made of, by layer and position.

Missing is NaN (``null`` in JSON), with a reason in a :class:`Skip`; counts stand beside every
number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..types import Estimate

Vector = tuple[float, ...]
Matrix = tuple[Vector, ...]


@dataclass(frozen=True)
class Skip:
    """Something that was not computed, and why; ``language`` is None where it concerns all."""

    kind: str
    language: str | None
    reason: str


@dataclass(frozen=True)
class CosineMatrix:
    """Cosines ``[L, L]`` between the languages' directions of one kind.

    ``kind``: ``harmfulness`` (harmful minus harmless), ``refusal`` (refused minus answered),
    ``refusal_harmful`` and ``refusal_harmless`` (the same within one class). ``reliability [L]`` is
    the cosine expected between a direction and one from as many fresh prompts; ``n_positive`` and
    ``n_negative`` count the prompts of both sides.
    """

    layer: int
    position: str
    kind: str
    languages: tuple[str, ...]
    cosines: Matrix
    reliability: Vector
    n_positive: tuple[int, ...]
    n_negative: tuple[int, ...]

    @property
    def ceiling(self) -> np.ndarray:
        """``sqrt(r_i r_j) [L, L]``: the cosine that sampling noise leaves of a true cosine of 1.

        0 where a direction is all noise. Translations share their prompts, and with them some of
        the noise, so a cosine may lie above its ceiling.
        """
        root = np.sqrt(np.maximum(np.array(self.reliability, dtype=np.float64), 0.0))
        return np.outer(root, root)


@dataclass(frozen=True)
class Parallelism:
    """Cosines ``[L, L]`` of class differences on the prompts that two languages share.

    ``without_language`` is the same after projecting out the span of the language means. The counts
    ``[L, L]`` are of shared prompts per class; the diagonal counts a language's own.
    """

    layer: int
    position: str
    languages: tuple[str, ...]
    cosines: Matrix
    without_language: Matrix
    n_harmful: tuple[tuple[int, ...], ...]
    n_harmless: tuple[tuple[int, ...], ...]

    @property
    def angles(self) -> np.ndarray:
        """Angles in degrees ``[L, L]``."""
        return np.degrees(np.arccos(np.array(self.cosines, dtype=np.float64)))


@dataclass(frozen=True)
class SubspaceShare:
    """Share of a language's direction inside the sources' subspace, for ranks 1, 2, ...

    ``random`` is what a random direction would have, ``r / d``. A source's subspace leaves it out;
    NaN for ranks that ``n_sources`` directions cannot span.
    """

    layer: int
    position: str
    language: str
    shares: Vector
    random: Vector
    n_sources: int


@dataclass(frozen=True)
class Separability:
    """How well the projection on one direction separates a language's held-out prompts.

    ``direction`` is ``source`` (pooled over sources, without the language itself) or ``own``.
    ``threshold`` is the sources', in residual units, and ``balanced_source`` what it achieves; both
    are missing for ``own``. ``gap`` is the difference of class means in pooled standard deviations.
    """

    layer: int
    position: str
    language: str
    direction: str
    auroc: Estimate
    balanced_source: Estimate | None
    balanced_own: Estimate
    threshold: float
    gap: float
    n_harmful: int
    n_harmless: int


@dataclass(frozen=True)
class LengthControl:
    """AUROC of prompt length alone, of the projection, and of both with length partialled out."""

    layer: int
    position: str
    language: str
    direction: str
    length_auroc: Estimate
    auroc: Estimate
    residual_auroc: Estimate


@dataclass(frozen=True)
class Translation:
    """Whether translations into the pivot language lie together: U-score and identification.

    Raw states, and states with each language's mean removed. ``matched`` is the mean cosine of
    translations, ``u = matched - mismatched``; ``identified`` the share of prompts whose nearest
    pivot prompt is their translation, of ``chance = 1 / n``.
    """

    layer: int
    position: str
    language: str
    pivot: str
    u_raw: float
    u_centred: float
    matched_raw: float
    matched_centred: float
    identified_raw: Estimate
    identified_centred: Estimate
    chance: float
    n: int


@dataclass(frozen=True)
class HarmRefusal:
    """Cosines within one language between what separates harm and what separates refusal.

    ``overall``: harmful minus harmless against refused minus answered; ``among_harmful`` and
    ``among_harmless``: against refused minus answered within one class; ``between``: the two
    within-class refusal directions. NaN where a side has too few prompts.
    """

    layer: int
    position: str
    language: str
    overall: float
    among_harmful: float
    among_harmless: float
    between: float
    n_refused_harmful: int
    n_answered_harmful: int
    n_refused_harmless: int
    n_answered_harmless: int


@dataclass(frozen=True)
class Centroids:
    """Held-out prompts decided by the nearest class centroid of three origins.

    ``own`` language, ``pivot`` language and pooled ``source`` languages (without the language
    itself): shares of equal decisions, and each one's balanced accuracy.
    """

    layer: int
    position: str
    language: str
    own_pivot: float
    own_source: float
    pivot_source: float
    own: Estimate | None
    pivot: Estimate | None
    source: Estimate | None
    n: int


@dataclass(frozen=True)
class Projection:
    """Prompts in two dimensions: coordinates on five axes, centred, in residual units.

    ``first`` and ``second`` are principal components of the pooled train states with their share of
    the variance in ``explained``; ``harmfulness`` and ``refusal`` the sources' pooled directions;
    ``language`` the first principal component of the language means. An axis that does not exist is
    empty. ``rows`` are places in the prompt table; ``refused`` is None without an outcome.
    """

    layer: int
    position: str
    rows: tuple[int, ...]
    languages: tuple[str, ...]
    harmful: tuple[bool, ...]
    refused: tuple[bool | None, ...]
    first: Vector
    second: Vector
    harmfulness: Vector
    refusal: Vector
    language: Vector
    explained: Vector
    harm_refusal_cosine: float
    harm_language_cosine: float
