"""Why a reply is unparsed, in words that hold nothing of the reply.

A judge's ``raw`` may quote what it read. The package's own judges write reasons of their own; of a
judge that is a model only what stands before its answer is taken.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..types import OUTCOMES, Verdict

#: Judges whose ``raw`` of an unparsed reply is written by the package, whole.
_OWN = frozenset({"embedded", "lexicon"})
_MODELS = ("api:", "guard:")
_TRANSLATION = "translation: "
_LONGEST = 80
NONE_GIVEN = "no reason given"
WITHHELD = "in the judge's own words, which may quote the reply"


def reason(verdict: Verdict, members: Sequence[str] = ()) -> str:
    """Return why a reply is unparsed, without a word of the reply; ``members`` are a panel's.

    Of judges that are models: up to the first colon, after which their answer may follow. Of a
    panel: its votes. Of a judge that is not known: likewise up to a colon, and nothing without one.
    """
    raw, judge = verdict.raw.strip(), verdict.judge
    if not raw:
        return NONE_GIVEN
    if judge in _OWN:
        return raw
    if judge.startswith("panel("):
        return _votes(raw, members) or WITHHELD
    if raw.startswith(_TRANSLATION):
        rest = raw.removeprefix(_TRANSLATION)
        of, rest = ("the prompt's ", rest[8:]) if rest.startswith("prompt: ") else ("", rest)
        return f"{of}translation failed: {_head(rest)}"
    head, colon, _ = raw.partition(":")
    if not colon and not judge.startswith(_MODELS):
        return WITHHELD
    return _head(head)


def _head(text: str) -> str:
    head = " ".join(text.partition(":")[0].split())
    # The confidence would make a reason of its own out of every reply.
    head = re.sub(r"\s*\(\d\.\d+\)$", "", head)
    return head if len(head) <= _LONGEST else f"{head[: _LONGEST - 1]}…"


def _votes(raw: str, members: Sequence[str]) -> str:
    """Return a panel's votes, put together from known names and outcomes only."""
    found = []
    for name in members:
        outcomes = "|".join(OUTCOMES)
        if vote := re.search(rf"(?:^|; |: ){re.escape(name)}: ({outcomes})\b", raw):
            found.append(f"{name} {vote[1].replace('_', ' ')}")
    return "; ".join(found)
