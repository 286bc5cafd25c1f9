"""A gate on prompts in other forms: code-switched, transliterated, in a harmless frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..metrics import auroc
from ..stats import Cell, PairedDifference, Resamples, align, difference, paired_difference, wilson
from ..types import LABELS, Estimate, Label, Prompt, PromptSet
from .outcomes import RESAMPLES, cell_of, numbers_of, outcomes_of


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
    outcomes = outcomes_of(fired, len(pool))
    values = np.full(len(pool), np.nan) if scores is None else numbers_of(scores, len(pool))
    members: dict[tuple[str, str, Label], list[int]] = {}
    for i, prompt in enumerate(pool):
        form = str(prompt.extra.get("form", "plain"))
        members.setdefault((prompt.language, form, prompt.label), []).append(i)
    cells = {key: cell_of(outcomes, pool, rows) for key, rows in members.items()}
    resamples = Resamples.draw([p.group_id for p in pool], n=RESAMPLES, seed=seed)
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
