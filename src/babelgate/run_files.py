"""Opening a run folder for a job: what it runs on goes into ``run.json`` and ``prompts.jsonl``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .artifacts import JsonLines, RunFolder
from .models.chat import ChatModel
from .types import PromptSet, side_of


def open_run(
    out: Path, command: str, settings: Any, model: ChatModel, prompts: PromptSet
) -> RunFolder:
    """Open or create a run folder and record model, prompts and seed."""
    run = RunFolder.open(out, command=command, config=settings.model_dump(mode="json"))
    run.set("model", model.identity.to_json())
    run.set("prompts", {"name": prompts.name, "fingerprint": prompts.fingerprint()})
    run.set("seed", settings.seed)
    _write_index(out, prompts)
    return run


def _write_index(out: Path, prompts: PromptSet) -> None:
    """Keep which prompt is which, so that a run folder can be read without its prompt files."""
    rows = [
        {"key": p.key, "group_id": p.group_id, "pair_id": p.pair_id, "split": p.split,
         "category": p.category, "source": p.source, "side": side_of(p)}
        for p in prompts
    ]  # fmt: skip
    JsonLines(out / "prompts.jsonl").rewrite(rows)


def prompt_facts(prompts: PromptSet) -> dict[str, Any]:
    """Return what results say of the prompts that they are on."""
    return {
        "name": prompts.name,
        "fingerprint": prompts.fingerprint(),
        "n": len(prompts),
        "languages": list(prompts.languages),
    }
