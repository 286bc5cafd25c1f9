"""What a calibration reads: which prompts play which part, which layers, and their activations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .capture import Activations
from .config import CalibrateSettings
from .errors import LanguageError, UserError
from .fit_data import threshold_prompts
from .languages import tier
from .prompts import require, take
from .types import Position, PromptSet

POSITION: Position = "t_post"


@dataclass(frozen=True)
class States:
    """Activations of several stores as one: which prompts there are, and their rows by layer."""

    stores: tuple[Activations, ...]

    @property
    def excluded(self) -> dict[str, str]:
        """Prompt keys without activations, with the reason."""
        return {k: why for store in self.stores for k, why in store.excluded.items()}

    def exclusions(self) -> dict[str, int]:
        """Return how many prompts have no activations, by reason (numbers in it dropped)."""
        return dict(Counter(why.split(",")[-1].strip() for why in self.excluded.values()))

    def layer(self, layer: int, keys: Sequence[str], position: Position = POSITION) -> torch.Tensor:
        """Return ``[len(keys), d]`` float32 in the order of ``keys``."""
        rows: dict[str, torch.Tensor] = {}
        wanted = set(keys)
        for store in self.stores:
            own = [k for k in store.keys if k in wanted]
            if own:
                rows |= dict(zip(own, store.select(own).layer(layer, position)))
        return torch.stack([rows[key] for key in keys])


@dataclass(frozen=True)
class Plan:
    """Which prompts play which part: sources' train and val, targets' train (shots) and val."""

    prompts: PromptSet
    sources: tuple[str, ...]
    targets: tuple[str, ...]

    @staticmethod
    def of(prompts: PromptSet, settings: CalibrateSettings) -> Plan:
        """Check languages and counts, and select.

        Raises:
            LanguageError: for a language that is both source and target, or has no prompts.
            PromptError: for an empty cell, or fewer train prompts than shots.
        """
        present = prompts.languages
        sources = settings.sources or tuple(x for x in present if tier(x) == "high")
        targets = settings.targets
        if targets is None:
            targets = tuple(x for x in present if x not in sources)
        if settings.languages is not None:
            targets = tuple(x for x in targets if x in settings.languages)
        if both := set(sources) & set(targets):
            raise LanguageError(f"{', '.join(sorted(both))}: both a source and a target language")
        if missing := [x for x in (*sources, *targets) if x not in present]:
            raise LanguageError(
                f"no prompts in {', '.join(missing)}; the set {prompts.name!r} has "
                f"{', '.join(present)}"
            )
        if not sources:
            raise LanguageError(
                "no source language: none of the prompts is in a high-tier language; name some "
                "with `--sources`"
            )
        pool = prompts.select(
            languages=[*sources, *targets], where=lambda p: p.split in ("train", "val")
        )
        require(pool, sources, "train", at_least=2)
        require(pool, sources, "val", at_least=2)
        require(pool, targets, "train", at_least=max(1, settings.shots))
        seed, train = settings.seed, pool.select(split="train")
        shots = max(settings.shot_pool, settings.shots)
        parts = [
            _limited(train.select(languages=sources), settings.train_per_cell, seed),
            take(_shot_prompts(train, targets), shots, seed),
            _limited(pool.select(split="val"), settings.val_per_cell, seed),
        ]
        return Plan(PromptSet.union(parts), tuple(sources), tuple(targets))


def _shot_prompts(train: PromptSet, targets: Sequence[str]) -> PromptSet:
    pools = [threshold_prompts(train.select(languages=[x]).prompts) for x in targets]
    return PromptSet(train.name, tuple(p for pool in pools for p in pool))


def _limited(prompts: PromptSet, per_cell: int | None, seed: int) -> PromptSet:
    """Limit each source of prompts on its own, so that a contrast set is not crowded out.

    Sets of nothing but twins are taken whole: they are small, and each pair is there to be used.
    """
    if per_cell is None:
        return prompts
    names = dict.fromkeys(p.source for p in prompts)
    mixed = {p.source for p in prompts if p.pair_id is None}
    parts = {n: prompts.select(where=lambda p, n=n: p.source == n) for n in names}
    return PromptSet.union(
        [take(part, per_cell, seed) if n in mixed else part for n, part in parts.items()]
    )


def candidate_layers(n_layers: int, settings: CalibrateSettings) -> list[int]:
    """Return the blocks that may be read: those named, else the first 80 % without block 0.

    Steering acts after the last block read, and late blocks leave it too little to act on; the same
    bound as for refusal directions in arXiv 2406.11717.

    Raises:
        UserError: for layers that the model lacks.
    """
    if settings.layers is None:
        return [layer for layer in range(1, n_layers) if layer < 0.8 * n_layers] or [0]
    layers = sorted(set(settings.layers))
    if not layers or layers[0] < 0 or layers[-1] >= n_layers:
        raise UserError(
            f"layers {list(settings.layers)}: this model has blocks 0 to {n_layers - 1}"
        )
    return layers
