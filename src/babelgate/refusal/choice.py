"""The published filters and the choice among what passes them. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

from .results import FILTERS, Candidate, Filter, SelectionMap
from .settings import SelectionSettings


def late(layer: int, n_layers: int, settings: SelectionSettings) -> bool:
    """Whether the layer filter removes a layer: ``l >= 0.8 n_layers``."""
    return layer >= settings.max_layer_share * n_layers


def removed_by(found: Candidate, n_layers: int, settings: SelectionSettings) -> Filter | None:
    """Return the first filter that removes a candidate, or None; later ones are not asked.

    A score that is not a number removes it, as in the published code.
    """
    if late(found.layer, n_layers, settings):
        return "layer"
    if found.norm == 0:
        return "no_difference"
    if math.isnan(found.induce):
        return "not_finite"
    if not found.induce > settings.min_induce:
        return "induce"
    if found.kl >= settings.max_kl or found.kl_at_least >= settings.max_kl:
        return "kl"
    return "not_finite" if math.isnan(found.kl) or math.isnan(found.bypass) else None


def all_candidates(scores: SelectionMap, settings: SelectionSettings) -> Iterator[Candidate]:
    """Yield every candidate that was looked at, with the filter that removed it, by position."""
    layers = range(scores.n_layers) if settings.layers is None else sorted(set(settings.layers))
    for i in range(len(scores.positions)):
        for layer in layers:
            found = scores.candidate(i, layer)
            yield scores.candidate(i, layer, removed_by(found, scores.n_layers, settings))


def choose(
    scores: SelectionMap, settings: SelectionSettings
) -> tuple[Candidate | None, dict[Filter, int], int]:
    """Return the lowest bypass score among what passes, counts per filter, and how many passed.

    Ties go to the earlier position, then the earlier layer. Source: arXiv 2406.11717, appendix C.
    """
    found = list(all_candidates(scores, settings))
    passed = [c for c in found if c.removed_by is None]
    counts: dict[Filter, int] = {name: sum(c.removed_by == name for c in found) for name in FILTERS}
    best = min(passed, key=lambda c: c.bypass, default=None)
    return best, counts, len(passed)
