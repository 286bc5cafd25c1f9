"""Which prompts a direction is made from and which it is tried on, by what the model did. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ..types import Outcome, Prompt, Split
from .settings import SelectionSettings

#: How a direction was made: as published, or whatever the model did with the prompts.
Contrast = Literal["refused-answered", "harmful-harmless"]
Lack = Literal["never_refuses", "refuses_everything", "too_few_examples"]


@dataclass(frozen=True)
class Examples:
    """Prompts of one language in four cells; ``lack`` says why there is no direction to make."""

    train_harmful: tuple[Prompt, ...] = ()
    train_harmless: tuple[Prompt, ...] = ()
    val_harmful: tuple[Prompt, ...] = ()
    val_harmless: tuple[Prompt, ...] = ()
    contrast: Contrast = "refused-answered"
    lack: Lack | None = None
    words: str = ""
    notes: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        """Return the number of prompts per cell."""
        names = ("train_harmful", "train_harmless", "val_harmful", "val_harmless")
        return {name: len(getattr(self, name)) for name in names}


def choose_examples(
    prompts: Iterable[Prompt], outcomes: Mapping[str, Outcome], settings: SelectionSettings
) -> Examples:
    """Return harmful prompts that the model refuses and harmless ones that it answers.

    Where train lacks either, the result says which, and is empty unless ``settings.fallback``. Val
    is filtered in the same way (as published) unless that leaves too few; then all of it is used.
    """
    pool = list(prompts)
    need = settings.min_examples
    known = [p for p in pool if outcomes.get(p.key, "unparsed") != "unparsed"]

    def side(split: Split, harmful: bool, among: Sequence[Prompt]) -> tuple[Prompt, ...]:
        return tuple(p for p in among if p.split == split and p.harmful == harmful)

    done = [p for p in known if outcomes[p.key] == ("refused" if p.harmful else "answered")]
    judged = side("train", True, known), side("train", False, known)
    train = side("train", True, done), side("train", False, done)
    lack: Lack | None = None
    words = ""
    if min(map(len, judged)) < need:
        lack = "too_few_examples"
        words = (
            f"{len(judged[0])} harmful and {len(judged[1])} harmless train prompts have a judged "
            f"reply; {need} of each are needed"
        )
    elif len(train[0]) < need:
        lack = "never_refuses"
        words = (
            f"the model refuses {len(train[0])} of {len(judged[0])} harmful train prompts; "
            f"{need} are needed"
        )
    elif len(train[1]) < need:
        n_refused = sum(outcomes[p.key] == "refused" for p in judged[1])
        lack = "refuses_everything" if 2 * n_refused >= len(judged[1]) else "too_few_examples"
        words = (
            f"the model answers {len(train[1])} of {len(judged[1])} harmless train prompts "
            f"(it refuses {n_refused}); {need} are needed"
        )
    everything = side("train", True, pool), side("train", False, pool)
    fallback = lack is not None and settings.fallback and min(map(len, everything)) >= need
    if lack is not None and not fallback:
        return Examples(lack=lack, words=words)

    notes = [f"{words}: harmful against harmless prompts instead"] if fallback else []
    whole = side("val", True, pool), side("val", False, pool)
    val = whole if fallback else (side("val", True, done), side("val", False, done))
    if min(map(len, whole)) < need:
        return Examples(
            lack="too_few_examples",
            words=f"{len(whole[0])} harmful and {len(whole[1])} harmless val prompts; "
            f"{need} of each are needed",
        )
    kept = []
    for name, filtered, every in zip(("refused harmful", "answered harmless"), val, whole):
        kept.append(filtered if len(filtered) >= need else every)
        if len(filtered) < need:
            notes.append(f"only {len(filtered)} {name} val prompts: all {len(every)} are used")
    train = everything if fallback else train
    contrast: Contrast = "harmful-harmless" if fallback else "refused-answered"
    return Examples(train[0], train[1], kept[0], kept[1], contrast, notes=tuple(notes))
