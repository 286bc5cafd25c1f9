"""Prompts for the tests of what happens out of distribution."""

from __future__ import annotations

from babelgate.types import Prompt


def prompt(number, language="en", label="harmful", split="test", **fields) -> Prompt:
    values = {"text": f"{label} request {number * 7919} about topic {number} in {language}"}
    return Prompt(
        id=f"{label}-{split}-{number}", language=language, label=label, split=split,
        **(values | fields),
    )  # fmt: skip
