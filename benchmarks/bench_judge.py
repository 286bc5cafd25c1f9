"""Replies judged per second on one core: the embedded judge against the lexicon judge.

python benchmarks/bench_judge.py LABELS --json OUT.json

LABELS is a folder of MODEL.LANGUAGE.jsonl files with labelled replies.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy starts its threads

import argparse
import time
from pathlib import Path

from common import finish

from babelgate.judges import Judge, Reply, get_judge
from babelgate.judges.agreement import read_labelled

ROUNDS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labels", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    labelled = read_labelled(options.labels)
    sets = {
        "all": [item.reply for item in labelled],
        "refusals": [item.reply for item in labelled if item.refused],
        "answers": [item.reply for item in labelled if not item.refused],
    }
    judges = [get_judge("embedded"), get_judge("lexicon")]
    for judge in judges:
        judge.judge(sets["all"][:200])  # what is read once is not part of it
    rows = []
    for name, replies in sets.items():
        # In turn, so that a noisy minute hits both; the best round is the least disturbed.
        taken = {judge.name: float("inf") for judge in judges}
        for _ in range(ROUNDS):
            for judge in judges:
                taken[judge.name] = min(taken[judge.name], _seconds(judge, replies))
        rows.append(
            {
                "replies": name,
                "n": len(replies),
                "embedded, per second": len(replies) / taken["embedded"],
                "lexicon, per second": len(replies) / taken["lexicon"],
                "ratio": taken["lexicon"] / taken["embedded"],
            }
        )
    finish("Replies judged on one core", rows, options.json)


def _seconds(judge: Judge, replies: list[Reply]) -> float:
    # Copies of the texts would be cheating: caches hold what this run has seen, as in a real one.
    from babelgate.judges import normalise, outcomes

    normalise._clean_short.cache_clear()
    outcomes._letters.cache_clear()
    start = time.process_time()
    judge.judge(replies)
    return time.process_time() - start


if __name__ == "__main__":
    main()
