"""Judging that survives a kill: each verdict is on disk as soon as it is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..artifacts import JsonLines, fingerprint
from ..errors import StoreError
from ..types import Verdict
from .base import FAILED, Judge, Reply, StreamingJudge

#: Replies whose verdicts are written together: a judge that needs no model does thousands a second.
_CHUNK = 512
#: Field of lines that are kept for a later run: their replies were not asked about this time.
SET_ASIDE = "set_aside"


def stream(judge: Judge, replies: Sequence[Reply]) -> Iterator[list[tuple[int, Verdict]]]:
    """Yield ``(index into replies, verdict)`` pairs in portions, as the judge gets them done."""
    if isinstance(judge, StreamingJudge):
        for pair in judge.stream(replies):
            yield [pair]
        return
    for start in range(0, len(replies), _CHUNK):
        part = replies[start : start + _CHUNK]
        yield list(enumerate(judge.judge(part), start))


def reply_key(judge: Judge, reply: Reply) -> str:
    """Fingerprint what a verdict depends on: the judge and its version, the prompt, the reply."""
    made = reply.completion
    return fingerprint(
        [judge.name, judge.version, reply.prompt.language, reply.prompt.text, made.text,
         made.stop_reason, made.n_tokens]
    )  # fmt: skip


def judge_all(
    judge: Judge,
    replies: Sequence[Reply],
    file: Path,
    *,
    on_verdicts: Callable[[int], None] | None = None,
) -> list[Verdict]:
    """Return one verdict per reply, in order, asking the judge only for those ``file`` lacks.

    Each line of the file carries a key of judge, version, prompt and reply. A line of this judge
    with another key for the same prompt and method is stale and removed. Lines of prompts and
    methods that were not asked about stay, marked ``set_aside``, and other judges' lines as they
    are. A verdict that failed for a reason outside the reply is returned as ``unparsed`` and not
    kept, so that the next run asks again.

    Raises:
        StoreError: if the file is damaged or cannot be written.
        JudgeError: if the judge cannot work at all; what it has decided is kept.
    """
    keys = [reply_key(judge, reply) for reply in replies]
    wanted = set(keys)
    asked = {(r.completion.method, r.completion.key) for r in replies}
    log = JsonLines(file)
    found: dict[str, Verdict] = {}
    lines = log.read()
    current = []
    for number, line in enumerate(lines, 1):
        try:
            verdict = Verdict.from_json(line)
        except TypeError as error:
            raise StoreError(f"{file}, line {number} is no verdict: {error}") from error
        if verdict.judge != judge.name:
            current.append(line)
        elif line.get("key") in wanted:
            if line["key"] not in found:
                found[line["key"]] = verdict
                current.append({k: v for k, v in line.items() if k != SET_ASIDE})
        elif (verdict.method, verdict.key) not in asked:
            current.append({**line, SET_ASIDE: True})
    if current != lines:
        log.rewrite(current)
    times = Counter(keys)
    if on_verdicts is not None:
        on_verdicts(sum(times[key] for key in found))
    # A reply that occurs twice under one key is asked about once.
    todo = list({key: i for i, key in reversed(list(enumerate(keys))) if key not in found}.values())
    todo.sort()
    for portion in stream(judge, [replies[i] for i in todo]):
        made = [(keys[todo[index]], verdict) for index, verdict in portion]
        log.append({**v.to_json(), "key": key} for key, v in made if not v.raw.startswith(FAILED))
        found.update(made)
        if on_verdicts is not None:
            on_verdicts(sum(times[key] for key, _ in made))
    return [
        replies[i].verdict(judge.name, v.outcome, v.raw, v.p_refusal)
        for i, v in ((i, found[key]) for i, key in enumerate(keys))
    ]
