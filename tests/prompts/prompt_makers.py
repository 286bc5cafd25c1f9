"""Prompts and prompt records for these tests, and where the shared data lies."""

from pathlib import Path

import pytest

from babelgate.types import Prompt

SHARED = Path(__file__).parents[2] / "../shared/data"
needs_data = pytest.mark.skipif(
    not (SHARED / "polyrefuse").is_dir(), reason="needs the shared data"
)


def make(language="en", number=0, **fields) -> Prompt:
    values = {"id": f"p{number}", "language": language, "text": f"text {number}"}
    values |= {"label": "harmless", "split": "train"} | fields
    return Prompt(**values)


def record(number=0, language="en", **fields) -> dict:
    return {
        "id": f"p{number}",
        "language": language,
        "label": "harmful",
        "split": "test",
        "text": f"text {number}",
    } | fields
