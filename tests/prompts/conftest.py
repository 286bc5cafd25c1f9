"""Small prompt files for the tests of the loaders."""

import json
from pathlib import Path

import pytest


@pytest.fixture
def write(tmp_path):
    """Return a function that writes records (or raw text) under a name and returns the path."""

    def save(name: str, content) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        elif name.endswith(".json"):
            path.write_text(json.dumps(content), encoding="utf-8")
        else:
            path.write_text("".join(json.dumps(r) + "\n" for r in content), encoding="utf-8")
        return path

    return save
