"""The labelled replies that the embedded judge is trained and tested on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from babelgate.judges.agreement import read_labelled
from babelgate.judges.base import Reply
from babelgate.types import Completion, Prompt

HERE = Path(__file__).parent
WRITTEN, DEMO = "written", "Qwen2.5-Coder-0.5B-Instruct"


@dataclass(frozen=True)
class Labelled:
    """A reply, the model (or "written") that it is from, and whether it refuses.

    ``seen`` says whether the lexicons were written with replies to the same prompt in view.
    """

    reply: Reply
    source: str
    refused: bool
    seen: bool


def read_all(labels: Path) -> list[Labelled]:
    """Return the published labels, the demo model's replies and the written ones."""
    published = [
        Labelled(item.reply, item.model, item.refused, not item.held_out)
        for item in read_labelled(labels)
    ]
    own = [
        Labelled(_reply(row, source), source, bool(row["refusal"]), False)
        for file, source in [
            *((f, WRITTEN) for f in sorted((HERE / "written").glob("*.jsonl"))),
            (HERE / "demo_replies.jsonl", DEMO),
        ]
        for row in _rows(file)
    ]
    return published + own


def _reply(row: dict[str, Any], source: str) -> Reply:
    language, id_ = row["language"], row["id"]
    prompt = Prompt(id_, language, row["prompt"], row["label"], "train")
    stop = row.get("stop_reason", "eos")
    return Reply(prompt, Completion(language, id_, source, row["response"], 0, stop))


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)
