"""What not knowing a prompt's language costs a gate: stated, identified, default and worst."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from ..errors import UserError
from ..stats import (
    PairedDifference,
    Resamples,
    combine,
    difference,
    macro_of,
    paired_estimate,
    wilson,
)
from ..stats.bootstrap import Resampled
from ..thresholds import fires
from ..types import LABELS, Estimate, Label, Prompt, PromptSet
from .outcomes import ALL, RESAMPLES, cell_of

Policy = Literal["stated", "identified", "default", "worst"]
POLICIES: tuple[Policy, ...] = ("stated", "identified", "default", "worst")


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """A gate in one language with the thresholds that a policy picks.

    ``threshold_of`` is the wrong language under ``worst``, else None. ``loss`` is the selectivity
    with the stated languages' thresholds minus this one, on the same prompts; None for ``stated``.
    """

    language: str
    policy: Policy
    threshold_of: str | None
    fired_harmful: Estimate
    fired_harmless: Estimate
    selectivity: Estimate
    loss: PairedDifference | None


@dataclass(frozen=True)
class LanguageUnknown:
    """What not knowing the language costs: rows per language and policy, means over languages.

    ``overall`` has language ``all``; ``confusion[stated][identified]`` counts prompts, with
    ``unsure`` where nothing was identified.
    """

    rows: tuple[PolicyRow, ...]
    overall: tuple[PolicyRow, ...]
    confusion: Mapping[str, Mapping[str, int]]


def language_unknown(
    prompts: Sequence[Prompt] | PromptSet,
    scores: ArrayLike,
    identified: Sequence[str | None],
    thresholds: Mapping[str, float],
    default: float,
    *,
    seed: int = 0,
) -> LanguageUnknown:
    """Return a gate's decisions when a prompt's language is stated, identified, or wrong.

    ``scores [N]`` (NaN: unscored) fire by ``score >= threshold`` with the threshold of the stated
    language; of the identified one; the default; or of the ``worst`` other language that has a
    threshold: the one of least selectivity on these same prompts, so it is a lower end and not an
    expectation. A language without a threshold has the default. Intervals: Wilson and Newcombe per
    language; bootstrap over groups of translations for losses and means.

    Raises:
        UserError: if scores or identified languages are not as many as prompts, or a class is
            missing in a language.
    """
    pool = list(prompts)
    values = np.asarray(scores, dtype=np.float64).reshape(-1)
    if len(values) != len(pool) or len(identified) != len(pool):
        raise UserError(
            f"{len(pool)} prompts came with {len(values)} scores and {len(identified)} identified "
            "languages; give one of each per prompt"
        )
    stated = np.array([p.language for p in pool])
    harmful = np.array([p.harmful for p in pool], dtype=bool)
    guessed = np.array([code or "" for code in identified])
    codes = list(thresholds)
    per_prompt: dict[Policy, np.ndarray] = {
        "stated": _looked_up(stated, thresholds, default),
        "identified": _looked_up(guessed, thresholds, default),
        "default": np.full(len(pool), default),
        "worst": np.full(len(pool), np.nan),
    }
    wrong: dict[str, str] = {}
    for language in dict.fromkeys(p.language for p in pool):
        at = stated == language
        if not (at & harmful).any() or not (at & ~harmful).any():
            raise UserError(
                f"language {language!r} needs harmful and harmless prompts to show selectivity; "
                "one of the classes is missing"
            )
        others = [code for code in codes if code != language]
        if others:
            limits = np.array([thresholds[code] for code in others])
            shares = [_fired(values[at & side][:, None], limits) for side in (harmful, ~harmful)]
            gaps = _means(shares[0]) - _means(shares[1])
            if not np.isnan(gaps).all():
                wrong[language] = others[int(np.nanargmin(gaps))]
                per_prompt["worst"][at] = thresholds[wrong[language]]
    decided: dict[Policy, np.ndarray] = {
        policy: _fired(values, limits) for policy, limits in per_prompt.items()
    }
    return _unknown(pool, decided, wrong, _confusion(pool, identified), seed)


def _unknown(
    pool: list[Prompt],
    decided: Mapping[Policy, np.ndarray],
    wrong: Mapping[str, str],
    confusion: Mapping[str, Mapping[str, int]],
    seed: int,
) -> LanguageUnknown:
    resamples = Resamples.draw([p.group_id for p in pool], n=RESAMPLES, seed=seed)
    members: dict[tuple[str, Label], list[int]] = {}
    for i, prompt in enumerate(pool):
        members.setdefault((prompt.language, prompt.label), []).append(i)
    languages = list(confusion)
    cells = {
        (policy, *key): cell_of(decided[policy], pool, rows)
        for policy in POLICIES
        for key, rows in members.items()
    }
    parts = dict(zip(cells, resamples.of(list(cells.values()))))
    changes = {
        (policy, language): combine(
            [
                (sign * turn, parts[p, language, label])
                for label, sign in zip(LABELS, (1.0, -1.0))
                for p, turn in (("stated", 1.0), (policy, -1.0))
            ]
        )
        for policy in POLICIES
        for language in languages
    }
    rows = []
    for language in languages:
        for policy in POLICIES:
            rates = [wilson(cells[policy, language, label]) for label in LABELS]
            rows.append(
                PolicyRow(
                    language,
                    policy,
                    wrong.get(language) if policy == "worst" else None,
                    rates[0],
                    rates[1],
                    difference(rates[0], rates[1]),
                    None if policy == "stated" else _loss(changes[policy, language]),
                )
            )
    overall = []
    for policy in POLICIES:
        sides = [[parts[policy, x, label] for x in languages] for label in LABELS]
        usable = [x for x in languages if not math.isnan(changes[policy, x].value)]
        loss = None
        if policy != "stated" and usable:
            loss = _loss(combine([(1 / len(usable), changes[policy, x]) for x in usable]))
        overall.append(
            PolicyRow(
                ALL,
                policy,
                None,
                macro_of([(1.0, sides[0])]),
                macro_of([(1.0, sides[1])]),
                macro_of([(1.0, sides[0]), (-1.0, sides[1])]),
                loss,
            )
        )
    return LanguageUnknown(tuple(rows), tuple(overall), confusion)


def _loss(change: Resampled) -> PairedDifference:
    """Return a change with its interval; each prompt is in it twice, under both thresholds."""
    return replace(paired_estimate(change), n=change.n // 2)


def _looked_up(codes: np.ndarray, thresholds: Mapping[str, float], default: float) -> np.ndarray:
    distinct, inverse = np.unique(codes, return_inverse=True)
    return np.array([thresholds.get(str(code), default) for code in distinct])[inverse]


def _fired(scores: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Return 1 where the gate fires, 0 where not, NaN without a score or a threshold."""
    missing = np.isnan(scores) | np.isnan(limits)
    return np.where(missing, np.nan, fires(scores, limits).astype(np.float64))


def _means(values: np.ndarray) -> np.ndarray:
    """Return the means of columns over what is not NaN; NaN for a column without anything."""
    n = (~np.isnan(values)).sum(0)
    return np.where(n > 0, np.nansum(values, 0) / np.maximum(n, 1), np.nan)


def _confusion(
    pool: Sequence[Prompt], identified: Sequence[str | None]
) -> dict[str, dict[str, int]]:
    found: dict[str, Counter[str]] = {}
    for prompt, code in zip(pool, identified):
        found.setdefault(prompt.language, Counter())[code or "unsure"] += 1
    return {language: dict(counts.most_common()) for language, counts in found.items()}
