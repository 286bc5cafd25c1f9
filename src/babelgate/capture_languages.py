"""Capturing prompt sets of many languages: a store each, so that a new one computes only itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from .capture import Activations, capture
from .console import progress
from .models.chat import ChatModel
from .plan import POSITION, States
from .types import Position, PromptSet


def capture_languages(
    model: ChatModel,
    prompts: PromptSet,
    folder: Path,
    *,
    layers: Sequence[int] | None = None,
    positions: Sequence[Position] = (POSITION,),
    batch_tokens: int | None = None,
) -> States:
    """Capture activations into one store per language and source of prompts, so that adding a
    language or a contrast set computes only what is new.
    """
    stores: list[Activations] = []
    parts = dict.fromkeys((p.language, p.source) for p in prompts)
    with progress() as bar:
        task = bar.add_task("reading activations", total=len(prompts))
        for language, source in parts:
            own = prompts.select(languages=[language], where=lambda p, s=source: p.source == s)
            stores.append(
                capture(
                    model,
                    own.prompts,
                    folder / language / (re.sub(r"[^\w.-]+", "_", source) or "prompts"),
                    layers=layers,
                    positions=positions,
                    batch_tokens=batch_tokens,
                    on_batch=lambda n: bar.advance(task, n),
                )
            )
    return States(tuple(stores))
