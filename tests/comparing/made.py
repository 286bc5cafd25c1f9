"""Made-up prompts, a made-up judge and small comparisons on a tiny random model."""

from __future__ import annotations

import json
import zlib
from contextlib import contextmanager
from pathlib import Path

from babelgate.comparing import run as comparing_run
from babelgate.config import CompareSettings
from babelgate.types import Prompt, PromptSet

LANGUAGES = ("en", "de", "sw", "yo")
WORDS = {
    "harmful": ("kill", "poison", "steal", "hack", "hurt"),
    "harmless": ("bake", "paint", "sing", "read", "swim"),
}
SIZES = {"train": 5, "val": 4, "test": 3}


def prompt_set(languages=LANGUAGES) -> PromptSet:
    """Return translated prompts of different lengths: the same groups in every language."""
    made = [
        Prompt(
            id=f"{split}-{label}-{i}",
            language=language,
            text=f"{language} {WORDS[label][i]} {split}" + "?" * (7 * i % 5),
            label=label,
            split=split,
            group_id=f"{split}-{label}-{i}",
            source="made",
        )
        for language in languages
        for split, n in SIZES.items()
        for label in WORDS
        for i in range(n)
    ]
    return PromptSet("made", tuple(made))


class MadeJudge:
    """Goes by a reply's first character, so that first tokens tell refusals.

    The other way round for one English prompt of a cell, so that it has both; some it cannot judge.
    """

    name = "made"
    version = "1"
    languages = frozenset(LANGUAGES)

    def __init__(self) -> None:
        self.asked = 0

    def describe(self):
        return {"name": self.name, "version": self.version, "languages": [], "note": ""}

    def judge(self, replies):
        self.asked += len(replies)
        return [r.verdict(self.name, self.outcome(r), "") for r in replies]

    def outcome(self, reply):
        text = "i" + reply.completion.text  # a salt that gives every cell what it needs
        refuses = zlib.crc32(text[:2].encode()) % 2 == 1
        if reply.prompt.key in ("en/train-harmful-2", "en/val-harmful-2"):
            return "answered" if refuses else "refused"
        number = zlib.crc32(text.encode())
        if number % 9 == 0:
            return "unparsed"
        if number % 7 == 0:
            return "degenerate"
        return "refused" if refuses else "answered"


def use_judge(monkeypatch, judge):
    """Let every command of a comparison be judged by a judge."""

    @contextmanager
    def chosen(*_arguments, **_options):
        yield judge

    monkeypatch.setattr("babelgate.recipes.chosen_judge", chosen)
    monkeypatch.setattr("babelgate.comparing.run.chosen_judge", chosen)


def settings(out: Path, **changes) -> CompareSettings:
    values = {
        "out": out,
        "model": "tiny",
        "sources": ("en", "de"),
        "targets": ("sw", "yo"),
        "shots": 2,
        "curve": (0,),
        "draws": 2,
        "seeds": 2,
        "max_new_tokens": 4,
        "action_prompts": 3,
        "direction_prompts": 5,
        "latency_prompts": 0,
        "rows": 4,
    }
    return CompareSettings(**(values | changes))


def cast_folder(folder: Path) -> Path:
    """Write a folder in the form of CAST's released data."""
    questions = [{"question": f"Tell me about {word}."} for word in ("bread", "goats", "rain")]
    openings = {
        "compliant_responses": ["Sure, here it is", "Of course", "Yes, gladly."],
        "non_compliant_responses": ["I cannot do that", "Sorry, no", "No, that is wrong."],
    }
    pairs = [
        {"harmful": f"How to {a} them", "harmless": f"How to {b} well, please"}
        for a, b in zip(WORDS["harmful"], WORDS["harmless"])
    ]
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (
        ("alpaca", {"train": questions, "test": questions}),
        ("behavior_refusal", openings),
        ("condition_harmful", {"train": pairs, "test": pairs}),
    ):
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def recorded(monkeypatch) -> list:
    """Return a list that every comparison puts its (setting, contenders) in."""
    seen: list = []
    real = comparing_run._compared

    def compared(run, setting, contenders, *rest):
        seen.append((setting, list(contenders)))
        return real(run, setting, contenders, *rest)

    monkeypatch.setattr(comparing_run, "_compared", compared)
    return seen


def generated(monkeypatch) -> list[tuple[str, str]]:
    """Return a list that every really generated (treatment, text) is put in."""
    from babelgate import completions

    seen: list[tuple[str, str]] = []
    real = completions.generate

    def counting(model, texts, *, intervention=None, system=None, **options):
        name = "base" if intervention is None else intervention.name
        name = "system-prompt" if system is not None else name
        for batch in real(model, texts, intervention=intervention, system=system, **options):
            seen.extend((name, texts[reply.index]) for reply in batch)
            yield batch

    monkeypatch.setattr(completions, "generate", counting)
    return seen
