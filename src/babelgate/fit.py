"""From activations to a gate: subspace, probe, layers chosen on languages left out, strength.

Everything is fitted on the source languages' train prompts. A number about a source language comes
from a probe that has not seen that language; a number about a target from one fitted on all
sources. Each layer's activations are read once and reduced to coordinates in each fold's subspace.

Two bases: ``directions`` is the paper's, the subspace of the contrasts' mean differences with a
logistic probe; ``states`` the principal components of the train states with a linear discriminant.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from .directions import mean_difference, source_subspace, steering_strength
from .discriminant import SHRINKAGE_GRID, Spread, discriminant, principal_subspace, spread
from .errors import UserError
from .fit_data import Basis, Data, Fold, Sides, threshold_prompts
from .gate import Gate
from .metrics import auroc, balanced_accuracy
from .probe import Probe, fit_probe
from .thresholds import SourceStatistics, source_rule
from .types import CONTRASTS, Contrast, ModelIdentity, Position

#: Regularisation strengths that are tried; chosen with the layers.
L2_GRID = (1e-3, 1e-2, 1e-1)


@dataclass(frozen=True)
class Choice:
    """A candidate set of layers with the regularisation that suits it best, and its scores.

    ``l2`` is the logistic probe's L2 or the discriminant's shrinkage, by the fitter's basis.
    ``by_contrast`` are means over left-out source languages of the AUROC on their val prompts.
    """

    layers: tuple[int, ...]
    l2: float
    by_contrast: Mapping[Contrast, float]
    balanced_accuracy: float

    @property
    def merit(self) -> float:
        """Mean AUROC over contrasts: what layers are chosen by."""
        return _mean(self.by_contrast.values())


@dataclass(frozen=True)
class _Coordinates:
    """One layer's coordinates in a fold's subspace, ``(B^T h - origin) / scale``.

    ``basis [d, r]`` is kept where making it again would cost; ``values [N, r]``.
    """

    values: np.ndarray
    origin: np.ndarray
    scale: float
    basis: torch.Tensor | None = None


@dataclass
class Fitter:
    """All fits on one data set. Coordinates are kept per layer and fold, activations are not.

    ``rank`` is the largest rank per layer (a layer's subspace of directions cannot exceed the
    number of source languages times contrasts). The fold ``None`` trains on all sources; the fold
    named after a source leaves it out.
    """

    data: Data
    rank: int
    basis: Basis = "directions"
    _folds: dict[str | None, Fold] = field(init=False, default_factory=dict)
    _features: dict[tuple[int, str | None], _Coordinates] = field(init=False, default_factory=dict)
    _means: dict[tuple[int, str | None], np.ndarray] = field(init=False, default_factory=dict)
    _blocks: dict[tuple[str | None, int, int], np.ndarray] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        sources = self.data.sources
        self._folds[None] = Fold.of(self.data, sources, self.basis)
        if len(sources) > 1:
            for left_out in sources:
                rest = [s for s in sources if s != left_out]
                self._folds[left_out] = Fold.of(self.data, rest, self.basis)

    def read_layer(self, layer: int) -> None:
        """Read a layer's activations and keep every fold's coordinates of every prompt."""
        if (layer, None) in self._features:
            return
        states = self.data.states(layer)
        if self.basis == "states":
            for name, fold in self._folds.items():
                self._features[layer, name] = _principal(states, fold.rows, self.rank)
                self._means[layer, name] = self._spread(layer, name).means
            return
        directions = self._directions(states)
        for name, fold in self._folds.items():
            values = (states @ self._basis(directions, fold)).double().numpy()
            self._features[layer, name] = _Coordinates(values, np.zeros(values.shape[1]), 1.0)

    def _directions(self, states: torch.Tensor) -> dict[tuple[str, Contrast], torch.Tensor]:
        groups = self.data.train_groups.items()
        return {key: mean_difference(states[a], states[b]) for key, (a, b) in groups}

    def _basis(
        self, directions: Mapping[tuple[str, Contrast], torch.Tensor], fold: Fold
    ) -> torch.Tensor:
        """Return the subspace ``[d, r]`` of a fold's languages and contrasts."""
        own = [v for (language, _), v in directions.items() if language in fold.languages]
        return source_subspace(torch.stack(own), self.rank)

    def probe(self, layers: Sequence[int], fold: str | None, l2: float) -> Probe:
        """Return the probe of one fold, on :meth:`_coordinates`."""
        part = self._folds[fold]
        if self.basis == "states":
            return self._discriminant(sorted(layers), fold, l2)
        features = self._coordinates(layers, fold, part.rows)
        return fit_probe(features, self.data.harmful[part.rows], part.weights, l2)

    def _discriminant(self, layers: Sequence[int], fold: str | None, shrinkage: float) -> Probe:
        for layer in layers:
            self.read_layer(layer)
        means = np.concatenate([self._means[layer, fold] for layer in layers], axis=1)
        covariance = np.block([[self._covariance(fold, a, b) for b in layers] for a in layers])
        return discriminant(means, covariance.astype(np.float64), shrinkage)

    def _spread(self, layer: int, fold: str | None) -> Spread:
        part = self._folds[fold]
        values = self._features[layer, fold].values[part.rows]
        return spread(values, self.data.harmful[part.rows], part.weights)

    def _covariance(self, fold: str | None, a: int, b: int) -> np.ndarray:
        """Return the within-class covariance of two layers' coordinates; each is made once."""
        if a > b:
            return self._covariance(fold, b, a).T
        if (fold, a, b) not in self._blocks:
            rows = self._spread(a, fold).rows
            other = rows if a == b else self._spread(b, fold).rows
            self._blocks[fold, a, b] = rows.T @ other
        return self._blocks[fold, a, b]

    def scores(
        self, layers: Sequence[int], l2: float, languages: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """Return scores of all prompts ``[N]`` per language, by the fold that has not seen it."""
        by_fold: dict[str | None, np.ndarray] = {}
        folds = {language: language if language in self._folds else None for language in languages}
        for fold in dict.fromkeys(folds.values()):
            probe = self.probe(layers, fold, l2)
            by_fold[fold] = probe.score(self._coordinates(layers, fold))
        return {language: by_fold[fold] for language, fold in folds.items()}

    def statistics(self, layers: Sequence[int], l2: float) -> SourceStatistics:
        """Return threshold statistics from the sources' left-out scores.

        The source threshold from their val prompts; what a target's shots are compared with from
        their train prompts, which shots are drawn from too. A single source's train prompts have
        trained the only probe there is, and are left aside.
        """
        scores = self.scores(layers, l2, self.data.sources)
        fold = self._folds[None]
        in_sample = self.probe(layers, None, l2).score(self._coordinates(layers, None))[fold.rows]
        harmful = self.data.harmful[fold.rows]
        return SourceStatistics.from_scores(
            self._by_source(scores, "val"),
            train=(in_sample[harmful], in_sample[~harmful]),
            like_shots=self._by_source(scores, "train") if len(self.data.sources) > 1 else None,
        )

    def _by_source(
        self, scores: Mapping[str, np.ndarray], split: str
    ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return each source's left-out scores on a split's prompts as (harmful, harmless)."""
        pools = {s: threshold_prompts(self.data.pool(s, split)) for s in self.data.sources}
        rows = {s: self.data.sides(pool) for s, pool in pools.items()}
        return {s: (scores[s][a], scores[s][b]) for s, (a, b) in rows.items()}

    def judge(self, layers: Sequence[int], l2: float) -> Choice:
        """Return what a set of layers achieves on source languages left out one at a time."""
        values: dict[Contrast, list[Sides]] = {contrast: [] for contrast in CONTRASTS}
        for source in self.data.sources:
            fold = source if source in self._folds else None
            probe = self.probe(layers, fold, l2)
            for contrast in CONTRASTS:
                a, b = self.data.held_out(source, contrast)
                parts = (self._coordinates(layers, fold, rows) for rows in (a, b))
                harmful, harmless = (probe.score(part) for part in parts)
                values[contrast].append((harmful, harmless))
        pooled = [np.concatenate(side) for side in zip(*values["topic"])]
        threshold = source_rule(*pooled) if all(len(side) for side in pooled) else math.nan
        return Choice(
            layers=tuple(sorted(layers)),
            l2=l2,
            by_contrast={c: _mean(auroc(*pair) for pair in pairs) for c, pairs in values.items()},
            balanced_accuracy=_mean(
                balanced_accuracy(*pair, threshold) for pair in values["topic"]
            ),
        )

    def best_l2(self, layers: Sequence[int]) -> Choice:
        """Return the choice with the regularisation of highest merit; the strongest on ties."""
        grid = SHRINKAGE_GRID if self.basis == "states" else L2_GRID
        tried = [self.judge(layers, l2) for l2 in sorted(grid, reverse=True)]
        return max(tried, key=lambda c: -1.0 if math.isnan(c.merit) else round(c.merit, 6))

    def choose_layers(self, allowed: Sequence[int], most: int) -> list[Choice]:
        """Return every choice tried, the best first, of up to ``most`` layers.

        With the basis ``directions`` by forward selection: a further layer is taken only where it
        raises the merit. With ``states`` among sets spread evenly over the depth: so many features
        tell the sources' val prompts apart nearly without error, and the sets that a search finds
        on what is left carry over worse to other languages. Uses source languages alone.

        Raises:
            UserError: if the sources' val prompts do not hold both classes.
        """
        for layer in allowed:
            self.read_layer(layer)
        tried = [self.best_l2([layer]) for layer in allowed]
        best = _best(tried)
        if math.isnan(best.merit):
            raise UserError(
                "layers cannot be chosen: the source languages have no val prompts of both "
                "classes. Add a val split, or name the layers with `--layers`"
            )
        if self.basis == "states":
            sets = [x for n in range(2, most + 1) for x in spread_layers(allowed, n)]
            tried += [self.best_l2(layers) for layers in sets]
            best = _best(tried)
            return [best, *(c for c in tried if c is not best)]
        while len(best.layers) < most:
            more = [self.best_l2([*best.layers, x]) for x in allowed if x not in best.layers]
            tried += more
            if not more or (step := _best(more)).merit <= best.merit:
                break
            best = step
        return [best, *(c for c in tried if c is not best)]

    def gate(
        self,
        choice: Choice,
        *,
        position: Position,
        model: ModelIdentity,
        strength: float,
        thresholds: Mapping[str, float],
        default_threshold: float,
        provenance: Mapping[str, object],
    ) -> Gate:
        """Return the gate fitted on all sources, with its steering direction and strength.

        Direction and strength come from all sources' train prompts after the last layer read.
        """
        fold = self._folds[None]
        probe = self.probe(choice.layers, None, choice.l2)
        bases: dict[int, torch.Tensor] = {}
        states = torch.zeros(0)
        for layer in choice.layers:
            states = self.data.states(layer)
            kept = self._features[layer, None].basis
            bases[layer] = self._basis(self._directions(states), fold) if kept is None else kept
        parts = [self._features[layer, None] for layer in choice.layers]
        origin = np.concatenate([part.origin for part in parts])
        unit = np.concatenate([np.full(len(part.origin), part.scale) for part in parts])
        harmful = self.data.harmful[fold.rows]
        pools = states[fold.rows[harmful]], states[fold.rows[~harmful]]
        direction = mean_difference(*pools)
        alpha = steering_strength(*pools, direction, strength)
        return Gate(
            layers=choice.layers,
            position=position,
            bases=bases,
            mean=torch.from_numpy(origin + unit * probe.mean).float(),
            scale=torch.from_numpy(unit * probe.scale).float(),
            weight=torch.from_numpy(probe.weight).float(),
            bias=probe.bias,
            thresholds=dict(thresholds),
            default_threshold=default_threshold,
            direction=direction,
            alpha=alpha,
            model=model,
            provenance=dict(provenance),
        )

    def _coordinates(
        self, layers: Sequence[int], fold: str | None, rows: np.ndarray | slice = slice(None)
    ) -> np.ndarray:
        """Return the coordinates ``[n, sum of r]`` of some prompts, all by default."""
        for layer in layers:
            self.read_layer(layer)
        parts = [self._features[layer, fold].values[rows] for layer in sorted(layers)]
        return np.concatenate(parts, axis=1)


def _principal(states: torch.Tensor, rows: np.ndarray, rank: int) -> _Coordinates:
    """Return all prompts' coordinates in the principal subspace of some rows.

    Centred on these rows, and in units of their root mean square distance from the centre, so that
    blocks with long states do not outweigh those with short ones.
    """
    train = states[rows].numpy()
    basis = principal_subspace(train, rank)
    centre = train.mean(0, dtype=np.float64).astype(np.float32)
    values = (states.numpy() - centre) @ basis
    scale = float(np.sqrt((values[rows].astype(np.float64) ** 2).sum(1).mean()))
    values /= np.float32(max(scale, 1e-12))
    origin = centre.astype(np.float64) @ basis
    return _Coordinates(values, origin, max(scale, 1e-12), torch.from_numpy(basis))


def pick(scores: np.ndarray, sides: Sides) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores of the (harmful, harmless) rows."""
    return scores[sides[0]], scores[sides[1]]


def spread_layers(allowed: Sequence[int], n: int) -> list[tuple[int, ...]]:
    """Return the sets of ``n`` layers spread evenly from the input to each layer in turn.

    For a last layer L they are ``round(L i / n)``, i = 1 .. n, each the nearest that is allowed;
    sets with fewer than ``n`` different layers are left out.
    """
    found: dict[tuple[int, ...], None] = {}
    for last in allowed:
        wanted = [last * i / n for i in range(1, n + 1)]
        layers = {min(allowed, key=lambda x, at=at: (abs(x - at), x)) for at in wanted}
        if len(layers) == n:
            found[tuple(sorted(layers))] = None
    return list(found)


def _best(choices: Sequence[Choice]) -> Choice:
    """Return the choice of highest merit, the first on ties."""
    return max(choices, key=lambda c: -1.0 if math.isnan(c.merit) else c.merit)


def _mean(values: Iterable[float]) -> float:
    """Mean of the values that are not NaN; NaN where there is none."""
    finite = [v for v in values if not math.isnan(v)]
    return float(np.mean(finite)) if finite else math.nan
