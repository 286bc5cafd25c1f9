"""A gate's decisions, or a model's refusals, by category of prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from numpy.typing import ArrayLike

from ..stats import Resamples, estimate, wilson
from ..types import Estimate, Label, Prompt, PromptSet
from .outcomes import ALL, RESAMPLES, cell_of, outcomes_of

#: A category with fewer independent prompts is shown, but marked.
FEW = 10


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
    outcomes = outcomes_of(values, len(pool))
    rows: dict[tuple[str, Label, str], list[int]] = {}
    several = len({p.language for p in pool}) > 1
    for i, prompt in enumerate(pool):
        for name in dict.fromkeys(part.strip() for part in (prompt.category or "").split(";")):
            for language in (prompt.language, *((ALL,) if several else ())):
                if name:
                    rows.setdefault((name, prompt.label, language), []).append(i)
    resamples = Resamples.draw([p.group_id for p in pool], n=RESAMPLES, seed=seed)
    cells = {key: cell_of(outcomes, pool, members) for key, members in rows.items()}
    pooled = {key: cell for key, cell in cells.items() if key[2] == ALL}
    rates = dict(zip(pooled, map(estimate, resamples.of(list(pooled.values())))))
    found = []
    for key in sorted(cells, key=lambda key: (key[1], key[0], key[2] != ALL)):
        rate = rates[key] if key in rates else wilson(cells[key])
        found.append(CategoryRow(*key, rate, few=rate.n_groups < FEW))
    return found
