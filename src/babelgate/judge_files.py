"""Judging replies that exist already: files in, verdicts and their summary out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import console
from .config import JudgeFileSettings
from .judges import Judge, Reply
from .judges.base import FAILED, StreamingJudge
from .judges.choosing import chosen_judge
from .judges.embedded.judge import EmbeddedJudge
from .judges.panel import Panel
from .judges.reckoning import ALL, Reckoning, agreement_between, reckon
from .judges.reply_files import ReplyFile, read_reply_files
from .judges.running import judge_all, stream
from .metrics import known
from .report.names import language_label
from .report.numbers import MISSING, decimal, is_missing, percent, span
from .stats import AgreementRow
from .types import Estimate, Verdict

#: Where verdicts go that took long to get, unless `--out` says otherwise.
VERDICTS = Path("verdicts.jsonl")

_BRACKETS = re.compile(r" \([^()]*\)")


@dataclass(frozen=True)
class JudgedFiles:
    """Verdicts on the replies of some files, one per reply in order, and their summary."""

    judge: dict[str, Any]
    source: ReplyFile
    verdicts: tuple[Verdict, ...]
    rows: tuple[Reckoning, ...]
    members: tuple[AgreementRow, ...]
    notes: tuple[str, ...]
    out: Path | None

    def to_json(self) -> dict[str, Any]:
        """Return the figures over all replies, the same by language, and the judge."""
        *languages, everything = (row.to_json() for row in self.rows)
        everything.pop("language")
        return {
            **everything,
            "by_language": {row.pop("language"): row for row in languages},
            "judge": self.judge,
            "members": [_member_json(row) for row in self.members],
            "notes": list(self.notes),
            "failed": sum(v.raw.startswith(FAILED) for v in self.verdicts),
        }


def judge_files(settings: JudgeFileSettings) -> JudgedFiles:
    """Judge the replies in files, keeping verdicts that took long, and compare with labels.

    Raises:
        UserError: for a file, label or judge that cannot be used, naming it.
        JudgeError: if the judge cannot work at all; what it has decided is kept.
        StoreError: if verdicts cannot be written or read back.
    """
    look_up = _prompt_texts(settings)
    source = read_reply_files(
        settings.files,
        against=settings.against,
        language=settings.language,
        prompt_text=look_up,
    )
    groups = [reply.prompt.group_id for reply in source.replies]
    with chosen_judge(settings, device=settings.device) as judge:
        out = settings.out or (VERDICTS if isinstance(judge, StreamingJudge) else None)
        verdicts = _verdicts(judge, source.replies, out)
        members: list[AgreementRow] = []
        if isinstance(judge, Panel):
            members = agreement_between(judge.votes(source.replies), groups, seed=settings.seed)
        described = judge.describe()
        notes = list(source.notes)
        if isinstance(judge, EmbeddedJudge) and source.labels is not None:
            known_ones = judge.trained_on(source.replies)
            if known_ones:
                notes.append(
                    f"{known_ones} of {len(source.replies)} replies are word for word in the "
                    "judge's training, so its agreement here is better than elsewhere; its model "
                    "card has the errors on models and languages left out"
                )
    for message in notes:
        console.note(message)
    rows = reckon(verdicts, groups, source.labels, seed=settings.seed)
    return JudgedFiles(
        described, source, tuple(verdicts), tuple(rows), tuple(members), tuple(notes), out
    )


def _verdicts(judge: Judge, replies: tuple[Reply, ...], out: Path | None) -> list[Verdict]:
    with console.progress() as bar:
        task = bar.add_task("judging", total=len(replies))
        if out is not None:
            return judge_all(judge, replies, out, on_verdicts=lambda n: bar.advance(task, n))
        found: dict[int, Verdict] = {}
        for portion in stream(judge, replies):
            found.update(portion)
            bar.advance(task, len(portion))
        return [found[i] for i in range(len(replies))]


def _prompt_texts(settings: JudgeFileSettings) -> Callable[[str, str], str | None]:
    if settings.prompts is None:
        return lambda language, id_: None
    from .prompts import load_prompts

    texts = {(p.language, p.id): p.text for p in load_prompts(settings.prompts)}
    return lambda language, id_: texts.get((language, id_))


def _member_json(row: AgreementRow) -> dict[str, Any]:
    return {
        "language": row.language,
        "judges": list(row.judges),
        "agreement": known(row.agreement),
        "kappa": None if row.kappa is None else row.kappa.to_json(),
        "alpha": row.alpha.to_json(),
    }


# ---------------------------------------------------------------------------------------------
# for people


def print_judged(judged: JudgedFiles, settings: JudgeFileSettings) -> None:
    """Print outcomes by language, agreement with labels and between judges, and what is missing."""
    rows = judged.rows if len(judged.rows) > 2 else judged.rows[:1]
    console.table(
        f"Outcomes, judge {judged.judge['name']}",
        ["Language", "Replies", "Refused, %", "95 %", "Answered", "Degenerate",
         "Wrong language", "Unparsed", "Low confidence"],
        [_outcome_row(row) for row in rows],
    )  # fmt: skip
    if any(row.n_unparsed for row in rows):
        console.note("Unparsed replies are in no rate; --unparsed lists them.")
    if judged.source.labels is not None:
        console.out.print()
        console.table(
            f"Agreement with {settings.against!r}",
            ["Language", "Labelled", "Kappa", "95 %", "AUC", "ECE", "Sensitivity", "Specificity"],
            [_agreement_row(row) for row in rows],
        )
    if judged.members:
        console.out.print()
        console.table(
            "Agreement between judges",
            ["Language", "Judges", "n", "Agree, %", "Cohen's kappa", "Krippendorff's alpha"],
            [_member_row(row) for row in judged.members],
        )
    if settings.unparsed:
        _print_unparsed(judged, settings.show_replies)
    if judged.out is not None:
        console.note(f"Verdicts: {judged.out}")


def _outcome_row(row: Reckoning) -> list[Any]:
    rate = percent(row.refusal.value), span(row.refusal.low, row.refusal.high)
    counts = [row.outcomes[k] for k in ("answered", "degenerate", "wrong_language", "unparsed")]
    return [_name(row.language), row.n, *rate, *counts, row.n_low_confidence]


def _agreement_row(row: Reckoning) -> list[Any]:
    kappa = row.kappa
    numbers = (row.auc, row.ece, row.sensitivity, row.specificity)
    value, ends = (MISSING, MISSING) if kappa is None else (decimal(kappa.value), _ends(kappa))
    return [_name(row.language), row.n_labelled, value, ends, *map(decimal, numbers)]


def _ends(estimate: Estimate) -> str:
    if is_missing(estimate.low) or is_missing(estimate.high):
        return MISSING
    return f"{decimal(estimate.low)} to {decimal(estimate.high)}"


def _member_row(row: AgreementRow) -> list[Any]:
    kappa = MISSING if row.kappa is None else decimal(row.kappa.value)
    judges = ", ".join(row.judges)
    share, alpha = percent(row.agreement), decimal(row.alpha.value)
    return [_name(row.language), judges, row.alpha.n, share, kappa, alpha]


def _print_unparsed(judged: JudgedFiles, show_replies: bool) -> None:
    missing = [i for i, v in enumerate(judged.verdicts) if v.outcome == "unparsed"]
    reasons = Counter(_reason(judged.verdicts[i].raw, show_replies) for i in missing)
    console.out.print()
    console.table("Unparsed, by reason", ["Reason", "Replies"], reasons.most_common())
    for i in missing:
        console.out.print(judged.source.where[i], markup=False, soft_wrap=True)
        if show_replies:
            console.out.print(
                f"  {judged.verdicts[i].raw}\n  {judged.source.replies[i].completion.text!r}",
                markup=False,
                soft_wrap=True,
            )


def _reason(raw: str, show_replies: bool) -> str:
    # Behind a colon or in brackets may stand words of the reply, or of a model asked about it.
    if show_replies:
        return raw
    if raw.startswith("low confidence") or ";" in raw:  # ours, or the votes of a panel
        return _BRACKETS.sub("", raw)
    return raw.split(": ")[0]


def _name(code: str) -> str:
    return "All" if code == ALL else language_label(code)
