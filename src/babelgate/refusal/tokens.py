"""The first tokens of refusals per language, from the model's own judged replies."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..first_token import refusal_tokens
from ..models.chat import ChatModel
from ..types import Completion, Verdict

# arXiv 2406.11717, appendix B: English only, by model family; all others have "I" alone.
_PUBLISHED = {"qwen": ("I", "As")}
_PUBLISHED_OTHERS = ("I",)


@dataclass(frozen=True)
class RefusalTokens:
    """The tokens that refusals in one language begin with, and how well they tell refusals.

    ``borrowed``: no token stands out among this language's own refusals, so these are the tokens of
    all languages together. ``share_refused`` and ``share_other`` are the shares (0 to 1) of its
    judged refusals and of its other replies that begin with one of ``ids``; ``published_...`` the
    same for the published English tokens. NaN where there are no such replies.
    """

    language: str
    ids: tuple[int, ...]
    texts: tuple[str, ...]
    borrowed: bool
    n_refused: int
    n_other: int
    share_refused: float
    share_other: float
    published: tuple[int, ...]
    published_share_refused: float
    published_share_other: float

    @property
    def overlap(self) -> tuple[int, ...]:
        """The published tokens that were found too."""
        return tuple(i for i in self.published if i in self.ids)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a dict, with ``null`` for missing shares."""
        return {
            k: None if isinstance(v, float) and math.isnan(v) else v
            for k, v in asdict(self).items()
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> RefusalTokens:
        """Inverse of :meth:`to_json`."""
        shares = [k for k in data if "share_" in k]
        lists = ("ids", "texts", "published")
        return RefusalTokens(
            **{
                **data,
                **{k: math.nan if data[k] is None else float(data[k]) for k in shares},
                **{k: tuple(data[k]) for k in lists},
            }
        )


def published_tokens(model: ChatModel) -> tuple[int, ...]:
    """Return the English refusal tokens of arXiv 2406.11717 in this model's vocabulary."""
    kind = str(getattr(model.model.config, "model_type", ""))
    words = next((w for name, w in _PUBLISHED.items() if kind.startswith(name)), _PUBLISHED_OTHERS)
    return tuple(model.template.bare_tokens(word)[0] for word in words)


def derive_tokens(
    model: ChatModel, completions: Sequence[Completion], verdicts: Iterable[Verdict]
) -> dict[str, RefusalTokens]:
    """Return the refusal tokens of every language that has replies.

    By :func:`babelgate.first_token.refusal_tokens`: a token counts where at least two refusals
    begin with it and its share among refusals is at least three times that among other replies.
    Give it replies to train prompts: scores on val should not depend on val replies.
    """
    judged = list(verdicts)
    together = refusal_tokens(model, completions, judged)
    outcome = {(v.method, v.key): v.outcome for v in judged}
    published = published_tokens(model)
    found = {}
    for language in together:
        own = [c for c in completions if c.language == language]
        # Of one language alone the tokens of all languages are its own, or none.
        borrowed = not refusal_tokens(model, own, judged)[language]
        firsts: dict[bool, list[int]] = {True: [], False: []}
        for made in own:
            result = outcome.get((made.method, made.key), "unparsed")
            first = model.template.bare_tokens(made.text)[:1] if made.text else ()
            if result != "unparsed" and first:
                firsts[result == "refused"].append(first[0])
        ids = tuple(sorted(together[language]))
        found[language] = RefusalTokens(
            language,
            ids,
            tuple(model.tokenizer.decode([i]) for i in ids),
            borrowed,
            len(firsts[True]),
            len(firsts[False]),
            _share(firsts[True], ids),
            _share(firsts[False], ids),
            published,
            _share(firsts[True], published),
            _share(firsts[False], published),
        )
    return found


def _share(firsts: Sequence[int], ids: Sequence[int]) -> float:
    return sum(token in ids for token in firsts) / len(firsts) if firsts else math.nan
