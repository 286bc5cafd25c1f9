"""The next-token distribution after a prompt, with and without interventions: cheap evidence.

What a model is about to say first tells much about whether it will refuse; reading it costs one
prefill per intervention and prompt instead of a whole reply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .generate import next_token_logits
from .interventions.base import Intervention
from .models.chat import ChatModel
from .types import Completion, Verdict

# Tokens of refusals are told from others by how often replies that refuse begin with them.
_MIN_COUNT = 2
_MIN_RATIO = 3.0


@dataclass(frozen=True)
class FirstTokens:
    """What one intervention does to the first token: ``[N]`` arrays in the order of the prompts.

    ``refusal`` is the log-odds ``log(P / (1 - P))`` of P, the probability that the reply begins
    with a refusal's first token (arXiv 2406.11717); ``kl`` is ``KL(base || intervened)`` in nats.
    Of interventions that say words it is what the model would say itself.
    """

    refusal: np.ndarray
    kl: np.ndarray


def refusal_tokens(
    model: ChatModel, completions: Iterable[Completion], verdicts: Iterable[Verdict]
) -> dict[str, frozenset[int]]:
    """Return the first tokens of refusals per language, from the model's own judged replies.

    A token counts where at least two refusals begin with it and its share among refusals is at
    least three times that among other replies (one added to each count). A language in which
    nothing was refused, or no token stands out, has the tokens of all languages together.

    Replies of one intervention on the untouched model's own words are enough: no list by hand, as
    in arXiv 2505.17306, which lacks several of its languages.
    """
    outcome = {(v.method, v.key): v.outcome for v in verdicts}
    counts: dict[str, dict[bool, dict[int, int]]] = {}
    languages: dict[str, None] = {}
    for made in completions:
        languages[made.language] = None
        found = outcome.get((made.method, made.key), "unparsed")
        first = model.template.bare_tokens(made.text)[:1] if made.text else ()
        if found == "unparsed" or not first:
            continue
        for language in (made.language, ""):
            side = counts.setdefault(language, {True: {}, False: {}})[found == "refused"]
            side[first[0]] = side.get(first[0], 0) + 1
    none: dict[bool, dict[int, int]] = {True: {}, False: {}}
    everyone = _typical(counts.get("", none))
    return {x: _typical(counts.get(x, none)) or everyone for x in languages}


def _typical(sides: Mapping[bool, Mapping[int, int]]) -> frozenset[int]:
    refused, other = sides[True], sides[False]
    n, m = sum(refused.values()), sum(other.values())
    return frozenset(
        token
        for token, count in refused.items()
        if count >= _MIN_COUNT
        and (count + 1) / (n + 1) >= _MIN_RATIO * (other.get(token, 0) + 1) / (m + 1)
    )


def first_tokens(
    model: ChatModel,
    texts: Sequence[str],
    interventions: Mapping[str, Intervention | None],
    tokens: Sequence[frozenset[int]],
    *,
    languages: Sequence[str | None] | None = None,
    rows: int = 32,
    on_rows: Callable[[int], None] | None = None,
) -> dict[str, FirstTokens]:
    """Return the first token's refusal log-odds and KL under each intervention, and under none.

    The untouched model is the entry ``base``. ``tokens[i]`` are the refusal tokens of prompt i. One
    batch's distributions are in memory at a time, ``2 x rows x vocabulary`` floats.
    """
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    given = [None] * len(texts) if languages is None else list(languages)
    found = {
        name: FirstTokens(np.full(len(texts), np.nan), np.full(len(texts), np.nan))
        for name in ("base", *interventions)
    }
    for at in range(0, len(order), rows):
        batch = order[at : at + rows]
        words = [texts[i] for i in batch]
        own = [given[i] for i in batch]
        sets = [tokens[i] for i in batch]
        base = next_token_logits(model, words, None, own).log_softmax(-1)
        for name in found:
            change = None if name == "base" else interventions[name]
            now = (
                base
                if change is None
                else next_token_logits(model, words, change, own).log_softmax(-1)
            )
            kl = (base.exp() * (base - now)).sum(-1)
            found[name].refusal[batch] = _log_odds(now, sets)
            found[name].kl[batch] = kl.double().cpu().numpy()
        if on_rows is not None:
            on_rows(len(batch))
    return found


def _log_odds(logs: torch.Tensor, sets: Sequence[frozenset[int]]) -> np.ndarray:
    """Return ``log(P / (1 - P))`` of the summed probability of each row's tokens."""
    inside = torch.zeros(logs.shape, dtype=torch.bool)
    for row, ids in enumerate(sets):
        inside[row, sorted(ids)] = True
    inside = inside.to(logs.device)
    # Both in log space: 1 - P would round to 0 where the model is sure.
    yes = logs.masked_fill(~inside, -torch.inf).logsumexp(-1)
    no = logs.masked_fill(inside, -torch.inf).logsumexp(-1)
    return (yes - no).double().cpu().numpy()
