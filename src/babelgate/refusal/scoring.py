"""All scores of all candidates that some filter still needs, kept as they are made."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..artifacts import JsonLines
from .choice import late
from .passes import Ablation, Addition, BlockInputs, Passes, Untouched
from .scores import Means, Score, divergence, refusal_log_odds, sweep
from .settings import SelectionSettings

#: Stage, candidates done, candidates in all.
OnProgress = Callable[[str, int, int], None]
#: (position index, layer).
Place = tuple[int, int]
# More rows than this share a pass of the opening to no gain, and hold its keys and values each.
_MOST_CANDIDATES = 64


@dataclass
class Journal:
    """Finished scores as JSON lines under a key of all that they depend on.

    In memory alone without a path. A file with another key is started anew.
    """

    path: Path | None
    key: str
    _lines: list[dict[str, Any]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        if self.path is None:
            return
        found = JsonLines(self.path).read()
        if found[:1] == [{"key": self.key}]:
            self._lines = found[1:]
        else:
            JsonLines(self.path).rewrite([{"key": self.key}])

    def get(self, stage: str, places: Sequence[Place]) -> Means | None:
        """Return a finished chunk of candidates, or None."""
        wanted = [list(p) for p in places]
        for line in self._lines:
            if line["stage"] == stage and line["candidates"] == wanted:
                return Means(*(np.array(line[k], dtype=float) for k in ("mean", "at_least")))
        return None

    def put(self, stage: str, places: Sequence[Place], made: Means) -> None:
        """Keep a finished chunk, durably."""
        number = lambda x: float(x) if math.isfinite(x) else None  # noqa: E731
        line = {
            "stage": stage,
            "candidates": [list(p) for p in places],
            "mean": [number(x) for x in made.mean],
            "at_least": [number(x) for x in made.at_least],
        }
        self._lines.append(line)
        if self.path is not None:
            JsonLines(self.path).append([line])


@dataclass(frozen=True)
class Scores:
    """``[n_positions, n_layers]`` each, NaN where not computed, and the untouched model's means."""

    induce: np.ndarray
    kl: np.ndarray
    kl_at_least: np.ndarray
    bypass: np.ndarray
    base_harmful: float
    base_harmless: float


def score_candidates(
    vectors: torch.Tensor,
    harmful: Passes,
    harmless: Passes,
    tokens: Sequence[int],
    settings: SelectionSettings,
    journal: Journal,
    on_progress: OnProgress | None = None,
) -> Scores:
    """Score candidates ``[n_positions, n_layers, d]`` (mean differences, not of unit norm).

    Filters in order of cost: the layer is known; induce starts at the edited block; KL runs on what
    is left, and ends once its sum exceeds the limit; bypass runs on what is left then. With
    ``settings.full_maps`` everything is computed. Where a vector is 0 or NaN nothing is.
    """
    return _Scorer(vectors, harmful, harmless, tokens, settings, journal, on_progress).run()


class _Scorer:
    def __init__(
        self,
        vectors: torch.Tensor,
        harmful: Passes,
        harmless: Passes,
        tokens: Sequence[int],
        settings: SelectionSettings,
        journal: Journal,
        on_progress: OnProgress | None,
    ) -> None:
        self.vectors, self.harmful, self.harmless = vectors, harmful, harmless
        self.tokens, self.settings, self.journal = tokens, settings, journal
        self.on_progress = on_progress
        self.norms = vectors.double().norm(dim=-1).numpy()
        self._base_logs: torch.Tensor | None = None

    def run(self) -> Scores:
        n_positions, n_layers, _ = self.vectors.shape
        settings, full = self.settings, self.settings.full_maps
        layers = range(n_layers) if settings.layers is None else sorted(set(settings.layers))
        places = [
            (i, layer)
            for layer in layers
            for i in range(n_positions)
            if self.norms[i, layer] > 0 and (full or not late(layer, n_layers, settings))
        ]
        grid = {name: np.full((n_positions, n_layers), np.nan)
                for name in ("induce", "kl", "kl_at_least", "bypass")}  # fmt: skip

        base = self._base()
        inputs = BlockInputs(self.harmless)
        by_layer = [[p for p in places if p[1] == layer] for layer in layers]
        for place, value in self._stage(
            "induce", [c for c in by_layer if c], lambda chunk: self._induce(chunk, inputs)
        ):
            grid["induce"][place] = value[0]

        left = [p for p in places if full or grid["induce"][p] > settings.min_induce]
        limit = None if full else settings.max_kl
        for place, value in self._stage(
            "kl",
            self._chunks(left),
            lambda chunk: self._ablate(chunk, self.harmless, self._kl, limit),
        ):
            grid["kl"][place], grid["kl_at_least"][place] = value

        left = [p for p in left if full or grid["kl"][p] < settings.max_kl]
        for place, value in self._stage(
            "bypass",
            self._chunks(left),
            lambda chunk: self._ablate(chunk, self.harmful, self._odds),
        ):
            grid["bypass"][place] = value[0]
        return Scores(**grid, base_harmful=base[0], base_harmless=base[1])

    def _stage(
        self, name: str, chunks: Sequence[list[Place]], make: Callable[[list[Place]], Means]
    ) -> list[tuple[Place, tuple[float, float]]]:
        found: list[tuple[Place, tuple[float, float]]] = []
        total = sum(map(len, chunks))
        for chunk in chunks:
            made = self.journal.get(name, chunk)
            if made is None:
                made = make(chunk)
                self.journal.put(name, chunk, made)
            found += zip(chunk, zip(made.mean.tolist(), made.at_least.tolist()))
            if self.on_progress is not None:
                self.on_progress(name, len(found), total)
        return found

    def _chunks(self, places: list[Place]) -> list[list[Place]]:
        """Return even chunks of as many candidates as fill a pass with one prompt each."""
        width = max(max(self.harmful.lengths), max(self.harmless.lengths))
        most = max(1, min(_MOST_CANDIDATES, self.harmless.batch_tokens // width))
        n = math.ceil(len(places) / most)
        return (
            [[places[i] for i in part] for part in np.array_split(range(len(places)), n)]
            if n
            else []
        )

    def _odds(self, logits: torch.Tensor, _prompts: Sequence[int]) -> torch.Tensor:
        return refusal_log_odds(logits, self.tokens)

    def _kl(self, logits: torch.Tensor, prompts: Sequence[int]) -> torch.Tensor:
        return divergence(self._logs()[list(prompts)], logits)

    def _base(self) -> tuple[float, float]:
        """Return the untouched model's mean refusal scores of harmful and harmless prompts."""
        made = []
        for name, passes in (("base_harmful", self.harmful), ("base_harmless", self.harmless)):
            found = self.journal.get(name, [])
            if found is None:
                found = sweep(passes, Untouched(), self._odds)
                self.journal.put(name, [], found)
            made.append(float(found.mean[0]))
        return made[0], made[1]

    def _logs(self) -> torch.Tensor:
        """Return the untouched model's log-probabilities on harmless prompts, ``[N, V]``."""
        if self._base_logs is None:
            rows: dict[int, torch.Tensor] = {}

            def keep(logits: torch.Tensor, prompts: Sequence[int]) -> torch.Tensor:
                rows.update(zip(prompts, logits.log_softmax(-1)))
                return logits.new_zeros(len(logits))

            sweep(self.harmless, Untouched(), keep)
            self._base_logs = torch.stack([rows[i] for i in range(len(self.harmless))])
        return self._base_logs

    def _induce(self, places: list[Place], inputs: BlockInputs) -> Means:
        layer = places[0][1]
        vectors = torch.stack([self.vectors[p] for p in places])
        return sweep(self.harmless, Addition(vectors, inputs, layer), self._odds)

    def _ablate(
        self, places: list[Place], passes: Passes, score: Score, limit: float | None = None
    ) -> Means:
        vectors = torch.stack([self.vectors[p] for p in places]).double()
        unit = (vectors / vectors.norm(dim=-1, keepdim=True)).float()
        return sweep(passes, Ablation(unit), score, limit=limit)
