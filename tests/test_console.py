"""Tables and progress without a terminal: plain, whole, in order."""

from __future__ import annotations

import subprocess
import sys

from babelgate import console


def test_piped_table_keeps_long_titles_and_cells_whole():
    script = (
        "from babelgate.console import table\n"
        "table('A title ' * 20 + '[red]', ['language', 'rate'], [['x' * 300, '1.5'], ['yo', '']])"
    )
    made = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    lines = made.stdout.splitlines()
    assert lines[0].strip() == ("A title " * 20 + "[red]").strip()
    assert "x" * 300 in made.stdout
    assert "\x1b" not in made.stdout
    assert len(lines) == 4


def test_plain_progress_counts_and_speaks_rarely(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    said = []
    monkeypatch.setattr(console, "note", said.append)
    with console.PlainProgress(bytes_=False) as bar:
        task = bar.add_task("reading", total=10)
        bar.advance(task, 4)
        assert said == []
        now[0] = 30.0
        bar.advance(task, 1)
        bar.advance(task, 1)
    assert said == ["reading: 5 of 10"]
    with console.PlainProgress(bytes_=True) as bar:
        task = bar.add_task("fetching", total=2e6, completed=5e5)
        now[0] = 60.0
        bar.advance(task, 5e5)
    assert said[-1] == "fetching: 1 of 2 MB"
