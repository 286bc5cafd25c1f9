"""What a transfer matrix is asked to do."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ConfigError
from .results import EVIDENCE, NULL_KINDS, Evidence, Kind


@dataclass(frozen=True)
class TransferSettings:
    """Which evidence, which controls and how strictly.

    ``evidence``: ``first_token`` for every cell (log-odds of refusal, one prefill per edit and
    prompt) and ``replies`` (generated and judged) for the cells of ``reply_sources`` and
    ``reply_languages``; None means all. ``selectivity`` also measures harmless prompts under
    projection and harmful ones under addition.

    Controls: ``random_seeds`` random directions; the shuffled and language-identity directions that
    the sources bring; ``reply_controls`` are the kinds that replies are generated for. Of
    ``control_scope``, ``layer`` makes one set of random and shuffled controls per block that
    directions are added at, as long as the longest of them; ``source`` one set per source, exactly
    as long as it. ``mean`` adds, for each target, the mean direction of all other languages.

    A rate with less than ``least_room`` left to move is marked; ``reference`` is the language that
    native directions are compared with.

    Raises:
        ConfigError: with every field that is out of range.
    """

    evidence: tuple[Evidence, ...] = EVIDENCE
    reply_languages: tuple[str, ...] | None = None
    reply_sources: tuple[str, ...] | None = None
    reply_controls: tuple[Kind, ...] = NULL_KINDS
    selectivity: bool = True
    random_seeds: int = 3
    control_scope: str = "layer"
    mean: bool = True
    reference: str = "en"
    max_new_tokens: int = 48
    rows: int | None = None
    batch_tokens: int | None = None
    resamples: int = 10_000
    least_room: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        wrong = []
        if not self.evidence or set(self.evidence) - set(EVIDENCE):
            wrong.append(f"evidence {self.evidence} is not one or both of {EVIDENCE}")
        if set(self.reply_controls) - set(NULL_KINDS):
            wrong.append(f"reply_controls {self.reply_controls} are not all among {NULL_KINDS}")
        if self.control_scope not in ("layer", "source"):
            wrong.append(f"control_scope {self.control_scope!r} is not 'layer' or 'source'")
        if not 0 <= self.least_room < 1:
            wrong.append(f"least_room {self.least_room} is not in 0..1")
        for name, least in (("random_seeds", 0), ("max_new_tokens", 1), ("resamples", 100)):
            if getattr(self, name) < least:
                wrong.append(f"{name} {getattr(self, name)} is not at least {least}")
        for name in ("rows", "batch_tokens"):
            if (given := getattr(self, name)) is not None and given < 1:
                wrong.append(f"{name} {given} is not at least 1")
        if wrong:
            raise ConfigError("; ".join(wrong))
