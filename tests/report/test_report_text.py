"""Markdown and terminal: the same numbers as the results, plain where there is no terminal."""

from __future__ import annotations

import dataclasses
import re

from synthetic_runs import FULL, MEASURED, build_diagnosis, build_results

from babelgate.report import print_results, to_markdown
from babelgate.report.names import language_label
from babelgate.report.numbers import percent, points, span


def _tables(markdown: str) -> dict[str, list[list[str]]]:
    found: dict[str, list[list[str]]] = {}
    title = ""
    for line in markdown.splitlines():
        if line.startswith("### "):
            title = line[4:]
        elif line.startswith("|"):
            cells = re.split(r"(?<!\\)\|", line)[1:-1]
            found.setdefault(title, []).append([c.strip() for c in cells])
    return found


def test_markdown_holds_exactly_the_numbers_of_the_results():
    results = build_results(FULL)
    rows = _tables(to_markdown(results, build_diagnosis(FULL)))["Refusal by language"]
    found = {(r[0], r[3]): r[4:] for r in rows[2:]}
    assert len(found) == len(results.rows) == 24
    for row in results.rows:
        a, b, d = row.harmful_refusal, row.harmless_refusal, row.selectivity
        assert found[language_label(row.language), row.method] == [
            *(percent(a.value), span(a.low, a.high), str(a.n)),
            *(percent(b.value), span(b.low, b.high), str(b.n)),
            *(points(d.value), span(d.low, d.high), str(a.n_unscored + b.n_unscored)),
        ]


def test_markdown_has_a_row_per_mean_comparison_and_verdict():
    results, diagnosis = build_results(FULL), build_diagnosis(FULL)
    tables = _tables(to_markdown(results, diagnosis))
    assert len(tables["Means over languages"]) - 2 == len(results.macro) == 8
    assert len(tables["Paired comparisons"]) - 2 == len(results.comparisons) == 3
    assert len(tables["Harm or form"]) - 2 == len(FULL.languages)
    assert tables["Layer choice"][2][-1] == "chosen"
    assert all(len({len(r) for r in rows}) == 1 for rows in tables.values())


def test_markdown_of_a_measured_run_has_no_gate():
    tables = _tables(to_markdown(build_results(MEASURED)))
    expected = {"Refusal by language", "Means over languages", "The judge by language"}
    assert set(tables) == {*expected, "Bounds, if all unparsed went either way"}


def test_markdown_escapes_names():
    spec = dataclasses.replace(MEASURED, languages=("en", "a|b\n<script>"), methods=("*base*",))
    markdown = to_markdown(build_results(spec))
    assert "<script>" not in markdown
    assert r"a\|b &lt;script&gt;" in markdown
    assert r"\*base\*" in markdown


def test_the_terminal_gets_plain_text(capsys):
    results = build_results(FULL)
    print_results(results, build_diagnosis(FULL))
    out = capsys.readouterr().out
    assert "\x1b" not in out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    for row in results.rows:
        e = row.harmful_refusal
        cell = f"{percent(e.value, 0)} ({percent(e.low, 0)}..{percent(e.high, 0)})"
        start = f"{language_label(row.language)} {row.method} {'–' if e.missing else cell} "
        assert any(line.startswith(start) for line in lines), start
    assert "…" not in out  # nothing is cut off at 80 columns
    assert "Unscored, in no rate: " in out
    assert "Bashkir (ba) base 200" in " ".join(lines)
    for title in (
        "Refusal by language",
        "Means over languages",
        "Paired comparisons",
        "Harm or form",
    ):
        assert title in out


def test_the_terminal_prints_brackets_as_they_are(capsys):
    spec = dataclasses.replace(MEASURED, methods=("[red]base[/red]",))
    print_results(build_results(spec))
    assert "[red]base[/red]" in capsys.readouterr().out
