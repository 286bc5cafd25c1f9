"""Every command in README and docs exists with the flags it is shown with; cheap ones are run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from babelgate.cli import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands() -> list[tuple[str, str]]:
    """Return (page, command line) of every `babelgate …` line in a console block."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```(?:console|sh|bash)\n(.*?)```", page.read_text(), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                text = line.removeprefix("$ ").split(" #")[0].strip()
                if text.startswith("babelgate "):
                    found.append((page.name, text))
    return found


def test_there_are_commands_to_check():
    assert len(commands()) >= 10
    assert {page for page, _ in commands()} >= {"README.md", "gate.md", "models.md", "prompts.md"}


@pytest.mark.parametrize(("page", "line"), commands())
def test_command_parses(page, line):
    name, *arguments = shlex.split(line)[1:]
    command = app.commands[name]
    with click.Context(app) as parent:
        command.make_context(name, arguments, parent=parent)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_flags_in_running_text_exist(page):
    options = [o for c in (app, *app.commands.values()) for o in c.params]
    flags = {name for o in options for name in (*o.opts, *o.secondary_opts)} | {"--help"}
    for code in re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8")):
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", code)) <= flags, code
        assert set(re.findall(r"^babelgate ([a-z-]+)", code)) <= set(app.commands), code


CHEAP = [line for _, line in commands() if line.startswith("babelgate prompts") and ":" not in line]


@pytest.mark.parametrize("line", sorted({c for c in CHEAP if "--model" not in c}))
def test_cheap_command_runs(line, tmp_path):
    words = [sys.executable, "-m", *shlex.split(line)]
    if not all((ROOT / w).exists() or "/" not in w for w in words[3:]):
        pytest.skip("reads a file of the reader's own")
    made = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False)
    if "no such" in made.stderr.lower() or "does not exist" in made.stderr.lower():
        pytest.skip("reads a file of the reader's own")
    assert made.returncode == 0, made.stderr


def test_python_example_in_readme_names_real_functions():
    import babelgate

    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    assert len(block[1].strip().splitlines()) < 10
    used = set(re.findall(r"babelgate\.(\w+)\(", block[1]))
    assert used >= {"load_model", "load_prompts", "calibrate", "evaluate", "write_report"}
    assert all(callable(getattr(babelgate, name)) for name in used)


def test_links_between_pages_lead_somewhere():
    broken = []
    seen = 0
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            seen += 1
            if not (page.parent / target).exists():
                broken.append(f"{page.name}: {target}")
    assert seen > 10
    assert not broken
