"""``actions_tried.json`` as a report needs it: what was tried where, in types without a model."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ..errors import StoreError

SCHEMA = 1

Number = float | None


@dataclass(frozen=True)
class ActionBounds:
    """What harmless prompts may lose: refusals and degenerate replies (shares), KL (nats)."""

    harmless_refusal: float
    degenerate: float
    kl: float


@dataclass(frozen=True)
class SideRow:
    """A candidate where the gate fires (on harmful prompts) or is silent (on harmless ones)."""

    side: str
    name: str
    log_odds: Number
    refusal: Number
    kl: Number


@dataclass(frozen=True)
class PairRow:
    """A pair of actions, predicted from first tokens, and judged by replies for the finalists."""

    fired: str
    silent: str
    selectivity: Number
    harmless_rise: Number
    kl: Number
    within: bool
    judged_selectivity: Number = None
    judged_harmless_rise: Number = None
    judged_degenerate_rise: Number = None
    chosen: bool = False
    false_alarm: Number = None

    @property
    def name(self) -> str:
        """Both actions, and the false-alarm rate that thresholds are raised to, if they are."""
        rate = self.false_alarm
        known = rate is not None and math.isfinite(rate)
        raised = f" | {100 * rate:g} % false alarms" if known and rate is not None else ""
        return f"{self.fired} | {self.silent}{raised}"

    @property
    def predicted(self) -> tuple[float, float] | None:
        """Rise in harmless refusal and selectivity, or None where one is missing."""
        return _point(self.harmless_rise, self.selectivity)

    @property
    def judged(self) -> tuple[float, float] | None:
        """The same by judged replies; None for a pair that did not generate."""
        return _point(self.judged_harmless_rise, self.judged_selectivity)

    @property
    def finalist(self) -> bool:
        """Whether the pair generated replies, so that anything of it was judged."""
        judged = (self.judged_selectivity, self.judged_harmless_rise, self.judged_degenerate_rise)
        return self.chosen or any(value is not None for value in judged)


@dataclass(frozen=True)
class ActionsTried:
    """All of ``actions_tried.json``; pairs come as ranked, the best prediction first."""

    bounds: ActionBounds
    sides: tuple[SideRow, ...]
    pairs: tuple[PairRow, ...]

    @property
    def finalists(self) -> tuple[PairRow, ...]:
        """The pairs that generated, the chosen one first, then by judged selectivity."""
        found = [pair for pair in self.pairs if pair.finalist]

        def merit(pair: PairRow) -> tuple[bool, bool, float]:
            value = pair.judged_selectivity
            missing = value is None or math.isnan(value)
            return not pair.chosen, missing, 0.0 if value is None or missing else -value

        return tuple(sorted(found, key=merit))

    @property
    def chosen(self) -> PairRow | None:
        """The pair in use, or None where none is marked."""
        return next((pair for pair in self.pairs if pair.chosen), None)


def load_actions_tried(folder: Path) -> ActionsTried | None:
    """Read a run folder's ``actions_tried.json``; None where there is none.

    Raises:
        StoreError: if it is damaged or of another schema.
    """
    path = folder / "actions_tried.json"
    if not path.exists():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise StoreError(f"{path} should hold a JSON object, not {type(data).__name__}")
        if data.get("schema") != SCHEMA:
            raise StoreError(
                f"{path} has schema {data.get('schema')!r}; this version reads schema {SCHEMA}"
            )
        kept = {name: value for name, value in data.items() if name != "schema"}
        return TypeAdapter(ActionsTried).validate_python(kept)
    except ValidationError as error:
        details = error.errors()[0]
        where = ".".join(map(str, details["loc"]))
        raise StoreError(f"{path} does not fit: {where}: {details['msg']}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path} is damaged ({type(error).__name__}: {error})") from error


def _point(x: float | None, y: float | None) -> tuple[float, float] | None:
    if x is None or y is None or not (math.isfinite(x) and math.isfinite(y)):
        return None
    return x, y
