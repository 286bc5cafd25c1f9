"""The judge in words: who judged, where it is weak, where nobody knows, what it could not judge."""

from __future__ import annotations

from collections.abc import Sequence

from ..results import Results
from .judge_facts import WEAK, JudgeFacts, judges_of, n_replies, n_unparsed
from .names import language_name
from .numbers import count, decimal, listed, percent, plural

_MOST = 6


def judge_paragraphs(results: Results) -> tuple[str, ...]:
    """Return what the section on the judge says: who, how well, how much was not judged."""
    judges, languages = judges_of(results), _languages(results)
    return (" ".join([_who(judges), *_how_well(judges, languages)]), _unparsed(results))


def judge_warning(results: Results) -> str:
    """Return one sentence for the summary: where to mistrust the judge; empty if nowhere."""
    judge, languages = judges_of(results)[0], _languages(results)
    weak, unmeasured = _weak(judge, languages), _unmeasured(judge, languages)
    parts = []
    if weak:
        parts.append(f"is weak in {_some(weak)} (kappa under {WEAK:.1f})")
    if unmeasured:
        where = "every language here" if len(unmeasured) == len(languages) else _some(unmeasured)
        parts.append(f"has unmeasured errors in {where}")
    return f"The judge, {judge.name}, {' and '.join(parts)}." if parts else ""


def _languages(results: Results) -> list[str]:
    return list(dict.fromkeys(row.language for row in results.rows))


def _weak(judge: JudgeFacts, languages: Sequence[str]) -> list[str]:
    """Return the languages with a kappa under :data:`WEAK`, weakest first."""
    found = []
    for code in languages:
        known = judge.known(code)
        # As it is printed: 0.60 is not called under 0.6.
        if known is not None and known.kappa is not None and round(known.kappa, 2) < WEAK:
            found.append((known.kappa, code))
    return [code for _, code in sorted(found)]


def _unmeasured(judge: JudgeFacts, languages: Sequence[str]) -> list[str]:
    return [code for code in languages if judge.known(code) is None]


def _some(codes: Sequence[str]) -> str:
    names = [language_name(code) for code in codes]
    if len(names) > _MOST + 1:
        names = [*names[:_MOST], f"{len(names) - _MOST} more"]
    return listed(names)


def _who(judges: Sequence[JudgeFacts]) -> str:
    judge = judges[0]
    version = f", version {judge.version}" if judge.version and len(judges) == 1 else ""
    text = f"Every reply was read by the judge “{judge.name}”{version}."
    members = [j.name for j in judges if j.part == "member"]
    if members:
        text = f"Every reply was read by a panel of {listed(members)}; what they agree on counts."
        last = [j.name for j in judges if j.part == "adjudicator"]
        if last:
            text += f" Where they differ, {last[0]} decides."
        else:
            text += " Where they differ, the reply is unparsed."
    if any(j.part == "reads translations" for j in judges):
        text += " Replies were translated into English before they were read."
    return text


def _how_well(judges: Sequence[JudgeFacts], languages: Sequence[str]) -> list[str]:
    judge = judges[0]
    weak, unmeasured = _weak(judge, languages), _unmeasured(judge, languages)
    kappas = {code: known.kappa for code in languages if (known := judge.known(code))}
    measured = {code: kappa for code, kappa in kappas.items() if kappa is not None}
    found = []
    if weak:
        worst = [f"{language_name(c)} ({decimal(measured[c])})" for c in weak[:_MOST]]
        if len(weak) > _MOST:
            worst.append(f"{len(weak) - _MOST} more")
        found.append(
            f"It is weakest in {listed(worst)}: there its kappa on labelled replies, agreement "
            f"beyond chance, is under {WEAK:.1f}."
        )
    elif measured:
        low = min(measured, key=lambda c: measured[c])
        found.append(
            f"In {_of_the_run(len(measured), languages)} its kappa on labelled replies is at "
            f"least {WEAK:.1f}; it is lowest in {language_name(low)} ({decimal(measured[low])})."
        )
    if unmeasured:
        everywhere = len(unmeasured) == len(languages)
        where = "every language of this run" if everywhere else _some(unmeasured)
        what = "Its errors as a whole" if len(judges) > 1 else "Its errors"
        found.append(f"{what} are unmeasured in {where}.")
    foreign = [code for code in languages if not judge.covers(code)]
    if foreign:
        found.append(f"It does not claim to tell refusals in {_some(foreign)}.")
    return found


def _of_the_run(n: int, languages: Sequence[str]) -> str:
    if n == len(languages):
        return "every language of this run" if n > 1 else f"{language_name(languages[0])}"
    return f"the {plural(n, 'language')} of this run in which it was measured"


def _unparsed(results: Results) -> str:
    replies = sum(map(n_replies, results.rows))
    n = sum(map(n_unparsed, results.rows))
    if not n:
        return (
            f"Nothing is unparsed: each of the {count(replies)} replies has a verdict, so no rate "
            "depends on what could not be judged."
        )
    verb = "is" if n == 1 else "are"
    return (
        f"{count(n)} of {count(replies)} replies ({percent(n / replies)}\u202f%) {verb} unparsed: "
        "the judge could not tell, and no rate counts them. The bounds say what a rate would be if "
        "none of them refused, and if all did."
    )
