"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples in every run: a failure is there for everybody, or for nobody.
# No deadlines: a busy machine takes its time.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

sys.path.insert(0, str(Path(__file__).parent))
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the repository; tests that need it are skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the shared data folder is not here")
    return SHARED_DATA


@pytest.fixture(scope="session")
def llama():
    """A tiny random Llama-shaped chat model in float32."""
    from tiny import tiny_model

    return tiny_model("llama")


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Return a function that runs a command line in this process: (exit code, stdout, stderr)."""
    from babelgate.cli import main

    monkeypatch.chdir(tmp_path)
    for name in [n for n in os.environ if n.startswith("BABELGATE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BABELGATE_CACHE", str(tmp_path / "cache"))

    def runner(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in arguments])
        done = capsys.readouterr()
        return stop.value.code, done.out, done.err

    return runner
