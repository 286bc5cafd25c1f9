"""The unparsed replies: counted by reason, listed by prompt, their texts only on request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..types import Verdict
from .judge_facts import judges_of, n_unparsed, own_verdicts
from .load import RunFolder
from .names import language_label
from .reasons import reason

#: Prompts listed at most, over all reasons.
MOST = 200


@dataclass(frozen=True)
class UnparsedReply:
    """One reply; ``raw`` and ``text`` only where replies were asked for."""

    language: str
    method: str
    prompt_id: str
    raw: str = ""
    text: str | None = None


@dataclass(frozen=True)
class ReasonGroup:
    """A reason with the number of replies that have it, and the first of them."""

    reason: str
    n: int
    replies: tuple[UnparsedReply, ...]


@dataclass(frozen=True)
class Unparsed:
    """All unparsed replies of a run, those without a verdict in the folder as ``lost``.

    A verdict is lost where the judge failed for a reason outside the reply: it is not kept, so that
    the next run asks again. They are counted by language and method.
    """

    total: int
    groups: tuple[ReasonGroup, ...]
    lost: tuple[tuple[str, str, int], ...]

    @property
    def n_listed(self) -> int:
        """How many are listed one by one."""
        return sum(len(group.replies) for group in self.groups)

    @property
    def n_lost(self) -> int:
        """How many have no verdict in the folder."""
        return sum(n for *_, n in self.lost)


def unparsed(run: RunFolder, *, show_replies: bool = False, most: int = MOST) -> Unparsed:
    """Return the unparsed replies, most frequent reason first; at most ``most`` one by one."""
    members = [j.name for j in judges_of(run.results) if j.part in ("member", "adjudicator")]
    by_reason: dict[str, list[Verdict]] = {}
    kept: dict[tuple[str, str], int] = {}
    for verdict in own_verdicts(run.results, run.verdicts):
        if verdict.outcome == "unparsed":
            by_reason.setdefault(reason(verdict, members), []).append(verdict)
            cell = verdict.method, verdict.language
            kept[cell] = kept.get(cell, 0) + 1
    texts = {(c.method, c.key): c.text for c in run.completions} if show_replies else {}
    room = _shares({why: len(found) for why, found in by_reason.items()}, most)
    groups = [
        ReasonGroup(
            why,
            len(found),
            tuple(
                _reply(v, texts.get((v.method, v.key)), show_replies) for v in found[: room[why]]
            ),
        )
        for why, found in sorted(by_reason.items(), key=lambda item: -len(item[1]))
    ]
    lost = [
        (language_label(row.language), row.method, n_unparsed(row) - kept.get(cell, 0))
        for row in run.results.rows
        if n_unparsed(row) > kept.get(cell := (row.method, row.language), 0)
    ]
    total = sum(kept.values()) + sum(n for *_, n in lost)
    return Unparsed(total, tuple(groups), tuple(lost))


def _reply(verdict: Verdict, text: str | None, show: bool) -> UnparsedReply:
    language = language_label(verdict.language)
    return UnparsedReply(
        language, verdict.method, verdict.prompt_id, verdict.raw if show else "", text
    )


def _shares(sizes: Mapping[str, int], most: int) -> dict[str, int]:
    """Share ``most`` places out evenly, so that a frequent reason does not crowd out a rare one."""
    left, shares = most, {}
    ascending = sorted(sizes, key=lambda why: sizes[why])
    for place, why in enumerate(ascending):
        shares[why] = min(sizes[why], left // (len(ascending) - place))
        left -= shares[why]
    return shares
