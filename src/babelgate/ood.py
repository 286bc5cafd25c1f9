"""How a gate fares out of its distribution: other prompts, categories, forms, unknown languages.

Pure: prompts and scores in, counted and estimated values out. Missing is NaN.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from .errors import PromptError, UserError
from .metrics import auroc
from .prompts.leakage import find_duplicates, leaks
from .stats import (
    Cell,
    PairedDifference,
    Resamples,
    align,
    combine,
    difference,
    estimate,
    macro_of,
    paired_difference,
    paired_estimate,
    wilson,
)
from .stats.bootstrap import Resampled
from .thresholds import fires
from .types import LABELS, Estimate, Label, Prompt, PromptSet

#: A category with fewer independent prompts is shown, but marked.
FEW = 10
_RESAMPLES = 2000
ALL = "all"


# ---------------------------------------------------------------------------------------------
# harmful prompts of one set with harmless prompts of another, nothing of it seen by the gate


@dataclass(frozen=True, slots=True)
class Dropped:
    """How many prompts of one language and label were left out, and why."""

    language: str
    label: Label
    reason: str
    n: int


@dataclass(frozen=True)
class Unseen:
    """Prompts that a gate has not seen in any language, and what was left out."""

    prompts: PromptSet
    dropped: tuple[Dropped, ...]


def seen_by(provenance: Mapping[str, Any], known: Iterable[Prompt]) -> list[Prompt]:
    """Return what a gate was made with: ``fitted_on``, ``shots``, and its sources' val prompts.

    ``known`` are the prompt sets of the calibration; layers and thresholds are chosen on the val
    prompts of the languages that ``roles`` calls sources.

    Raises:
        PromptError: if prompts that the gate names are not among ``known``.
    """
    pool = list(known)
    named = {*provenance.get("fitted_on", ()), *provenance.get("shots", ())}
    if absent := sorted(named - {p.key for p in pool}):
        raise PromptError(
            f"the gate was fitted on {len(absent)} prompts that are not in the sets given, such as "
            f"{absent[0]!r}; load every prompt set of its calibration, in its source languages too"
        )
    roles = provenance.get("roles", {})
    sources = {language for language, role in roles.items() if role == "source"}
    return [p for p in pool if p.key in named or (p.split == "val" and p.language in sources)]


def unseen_set(
    harmful: PromptSet,
    harmless: PromptSet,
    seen: Iterable[Prompt],
    *,
    languages: Iterable[str] | None = None,
) -> Unseen:
    """Return the harmful prompts of one set and the harmless test prompts of another, both unseen.

    Left out, and counted: prompts that were seen; that repeat a seen one exactly or nearly (Jaccard
    index of character n-grams >= 0.7) in their language; exact repeats within the set; translations
    of any of these; languages that lack one of the classes. ``languages`` selects after the
    checks, so that what only the English version shows goes in all languages.

    Raises:
        PromptError: if no language has both classes left.
    """
    chosen = [p for p in harmful if p.harmful]
    chosen += [p for p in harmless if not p.harmful and p.split == "test"]
    pool = PromptSet.union([PromptSet(harmful.name, ()), PromptSet(harmless.name, tuple(chosen))])
    reasons = _repeats(pool, list(seen))
    wanted = pool.languages if languages is None else tuple(dict.fromkeys(languages))
    kept = pool.select(languages=wanted, where=lambda p: p.key not in reasons)
    sides = {(p.language, p.label) for p in kept}
    complete = [x for x in wanted if all((x, label) in sides for label in LABELS)]
    counts: Counter[tuple[str, Label, str]] = Counter()
    for prompt in pool.select(languages=wanted):
        reason = reasons.get(prompt.key)
        if reason is None and prompt.language not in complete:
            other = "harmless" if prompt.harmful else "harmful"
            reason = f"its language has no {other} prompts"
        if reason is not None:
            counts[prompt.language, prompt.label, reason] += 1
    if not complete:
        raise PromptError(
            f"{pool.name}: none of the languages {', '.join(wanted)} has both harmful and harmless "
            "prompts that the gate has not seen; add prompts or choose other languages"
        )
    return Unseen(
        kept.select(languages=complete), tuple(Dropped(*cell, n) for cell, n in counts.items())
    )


def _repeats(pool: PromptSet, seen: Sequence[Prompt]) -> dict[str, str]:
    """Return why prompts of the pool must not be scored, by key."""
    seen_keys = {p.key for p in seen}
    reasons = {p.key: "was seen by the gate" for p in pool if p.key in seen_keys}
    rest = [replace(p, split="test") for p in pool if p.key not in seen_keys]
    # Seen prompts first: near duplicates are looked for with the first of texts that are equal.
    both = PromptSet(pool.name, (*(replace(p, split="train") for p in seen), *rest))
    duplicates = find_duplicates(both.select(languages={p.language for p in rest}))
    for duplicate in duplicates:
        ours = [key for key in duplicate.keys if key not in seen_keys]
        if duplicate.leaks:
            near = "" if duplicate.similarity == 1.0 else "nearly "
            for key in ours:
                reasons.setdefault(key, f"{near}repeats a seen prompt")
    for key in leaks(both, duplicates):
        in_another = any(key in d.keys[1:] and d.similarity == 1.0 for d in duplicates)
        why = (
            "repeats another prompt of the set"
            if in_another
            else "its translation was seen or is left out"
        )
        reasons.setdefault(key, why)
    return reasons


# ---------------------------------------------------------------------------------------------
# by category


@dataclass(frozen=True, slots=True)
class CategoryRow:
    """The rate of one category of prompts in one language, or in ``all``; ``few``: n below 10."""

    category: str
    label: Label
    language: str
    rate: Estimate
    few: bool


def by_category(
    prompts: Sequence[Prompt] | PromptSet, values: ArrayLike, *, seed: int = 0
) -> list[CategoryRow]:
    """Return the rate of ``values [N]`` (1 fired or refused, 0 not, NaN unscored) per category.

    A prompt filed under ``A; B`` counts in both. Rows of one language have Wilson intervals; rows
    of ``all`` pool the languages and resample groups of translations. Where all values of a
    category are equal the pooled interval has no width: read those of the languages.
    ``few`` counts independent prompts: scored groups, not translations.

    Raises:
        UserError: if there are not as many values as prompts, or values other than 0, 1 and NaN.
    """
    pool = list(prompts)
    outcomes = _outcomes(values, len(pool))
    rows: dict[tuple[str, Label, str], list[int]] = {}
    several = len({p.language for p in pool}) > 1
    for i, prompt in enumerate(pool):
        for name in dict.fromkeys(part.strip() for part in (prompt.category or "").split(";")):
            for language in (prompt.language, *((ALL,) if several else ())):
                if name:
                    rows.setdefault((name, prompt.label, language), []).append(i)
    resamples = Resamples.draw([p.group_id for p in pool], n=_RESAMPLES, seed=seed)
    cells = {key: _cell(outcomes, pool, members) for key, members in rows.items()}
    pooled = {key: cell for key, cell in cells.items() if key[2] == ALL}
    rates = dict(zip(pooled, map(estimate, resamples.of(list(pooled.values())))))
    found = []
    for key in sorted(cells, key=lambda key: (key[1], key[0], key[2] != ALL)):
        rate = rates[key] if key in rates else wilson(cells[key])
        found.append(CategoryRow(*key, rate, few=rate.n_groups < FEW))
    return found


# ---------------------------------------------------------------------------------------------
# by form


@dataclass(frozen=True, slots=True)
class FormRow:
    """A gate on the prompts of one language in one form.

    ``loss`` is the plain form's selectivity minus this one's, on the prompts that both have;
    None for the plain form itself, or without it. ``auroc`` (NaN without scores) tells a reading
    that is lost from one that has only moved past the threshold.
    """

    language: str
    form: str
    fired_harmful: Estimate
    fired_harmless: Estimate
    selectivity: Estimate
    loss: PairedDifference | None
    auroc: float


def by_form(
    prompts: Sequence[Prompt] | PromptSet,
    fired: ArrayLike,
    *,
    scores: ArrayLike | None = None,
    seed: int = 0,
) -> list[FormRow]:
    """Return what a gate does per language and form (``extra["form"]``, else ``plain``).

    ``fired [N]`` is 1, 0 or NaN; ``scores [N]`` the gate's scores, for the AUROC. Selectivity is
    the share fired on harmful prompts minus that on harmless ones. A prompt is paired with its own
    plain form, and groups are resampled.

    Raises:
        UserError: if there are not as many values as prompts, or outcomes other than 0, 1 and NaN.
    """
    pool = list(prompts)
    outcomes = _outcomes(fired, len(pool))
    values = np.full(len(pool), np.nan) if scores is None else _numbers(scores, len(pool))
    members: dict[tuple[str, str, Label], list[int]] = {}
    for i, prompt in enumerate(pool):
        form = str(prompt.extra.get("form", "plain"))
        members.setdefault((prompt.language, form, prompt.label), []).append(i)
    cells = {key: _cell(outcomes, pool, rows) for key, rows in members.items()}
    resamples = Resamples.draw([p.group_id for p in pool], n=_RESAMPLES, seed=seed)
    nothing = Cell(np.empty(0), ())
    found = []
    for language, form in dict.fromkeys(key[:2] for key in cells):
        own = {label: cells.get((language, form, label), nothing) for label in LABELS}
        plain = {label: cells.get((language, "plain", label), nothing) for label in LABELS}
        loss = None
        if form != "plain" and any(cell.groups for cell in plain.values()):
            two = {label: align(own[label], plain[label]) for label in LABELS}
            loss = paired_difference(
                [
                    (1, two["harmful"].a, two["harmful"].b),
                    (-1, two["harmless"].a, two["harmless"].b),
                ],
                resamples,
            )
        rates = wilson(own["harmful"]), wilson(own["harmless"])
        area = auroc(*(values[members.get((language, form, label), [])] for label in LABELS))
        found.append(FormRow(language, form, *rates, difference(*rates), loss, area))
    return found


# ---------------------------------------------------------------------------------------------
# language unknown

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
    resamples = Resamples.draw([p.group_id for p in pool], n=_RESAMPLES, seed=seed)
    members: dict[tuple[str, Label], list[int]] = {}
    for i, prompt in enumerate(pool):
        members.setdefault((prompt.language, prompt.label), []).append(i)
    languages = list(confusion)
    cells = {
        (policy, *key): _cell(decided[policy], pool, rows)
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


def _cell(values: np.ndarray, pool: Sequence[Prompt], rows: Sequence[int]) -> Cell:
    return Cell(values[list(rows)], tuple(pool[i].group_id for i in rows))


def _outcomes(values: ArrayLike, n: int) -> np.ndarray:
    array = _numbers(values, n)
    if not np.isin(array[~np.isnan(array)], (0.0, 1.0)).all():
        raise UserError(
            "outcomes are 1 (fired or refused), 0 (not) or NaN (unscored), nothing else"
        )
    return array


def _numbers(values: ArrayLike, n: int) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64).reshape(-1)
    if len(array) != n:
        raise UserError(f"{n} prompts came with {len(array)} values; give one per prompt")
    return array
