"""The comparison's page, terminal tables and Markdown: the file's numbers, missing as missing."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest
from synthetic_comparisons import (
    FIXED,
    LANGUAGES,
    METHODS,
    build_actions,
    build_comparison,
    write_comparison_folder,
)

from babelgate import console
from babelgate.comparing.results import Comparison
from babelgate.errors import StoreError
from babelgate.report.compared import (
    comparison_markdown,
    print_comparison,
    render_comparison,
    write_comparison,
)
from babelgate.report.compared_differences import differences_table, language_differences_table
from babelgate.report.compared_tables import costs_table, language_tables, methods_tables
from babelgate.report.compared_values import estimate_of, ordered, worst_rise
from babelgate.report.numbers import decimal, p_value, percent, points

EVIL = "<script>alert('x')</script>|*"


def printed(comparison: Comparison, capsys: pytest.CaptureFixture[str], width: int) -> str:
    console.out.width = width
    print_comparison(comparison)
    return capsys.readouterr().out


@pytest.fixture(autouse=True)
def same_width():
    width = console.out.width
    yield
    console.out.width = width


def cells(table):
    return {row[0]: dict(zip(table.columns[1:], row[1:])) for row in table.rows}


def test_methods_are_sorted_by_selectivity_within_families():
    comparison = build_comparison(missing=[("guard", "all")])
    names = [m.name for m in ordered(comparison)]
    expected = []
    for family in ("base", "gate", "paper", "rival", "control"):
        own = [m for m, spec in METHODS.items() if spec[0] == family and m != "guard"]
        expected += sorted(own, key=lambda m: METHODS[m][2] - METHODS[m][1])
        expected += ["guard"] if family == "rival" else []
    value = {m: round(METHODS[m][1] - METHODS[m][2], 6) for m in METHODS}
    assert len(names) == len(METHODS)
    for a, b, c in zip(names, expected, expected[1:]):
        assert a == b or value[a] == value[b] == value.get(c, value[b]) or value[a] == value[b]
    assert names.index("guard") == names.index("shuffled-labels") - 2


def test_the_table_of_methods_holds_the_numbers_of_the_file():
    comparison = build_comparison()
    table = cells(methods_tables(comparison)[0])
    assert set(table) == set(METHODS)
    for name, row in table.items():
        all_ = comparison.row(name, "all")
        assert all_ is not None
        found = [
            d
            for d in comparison.differences
            if (d.b, d.group, d.metric) == (name, "all", "selectivity")
        ]
        assert row["Harmful %"] == percent(all_.values["harmful_refusal"].value)
        assert row["Harmless %"] == percent(all_.values["harmless_refusal"].value)
        assert row["Selectivity"].startswith(points(all_.values["selectivity"].value))
        assert row["Decides"] == points(all_.values["gate_selectivity"].value)
        assert row["AUROC"] == decimal(all_.auroc)
        assert row["Seed SD"] == percent(all_.seed_sd)
        change = (points(found[0].delta), p_value(found[0].p_holm)) if found else ("–", "–")
        assert (row["Change"], row["Holm p"]) == change
    assert table["base"]["Worst rise"] == "–"
    assert table["base"]["Latency"] == "–"


def test_the_worst_rise_is_the_largest_over_languages():
    comparison = build_comparison(missing=[("paper", "yo")])
    found = 0
    for name in METHODS:
        rises = {
            d.group: d.delta
            for d in comparison.differences
            if (d.b, d.metric) == (name, "harmless_refusal") and d.group != "all"
            if d.delta is not None
        }
        if not rises:
            continue
        code = max(rises, key=lambda x: rises[x])
        assert worst_rise(comparison, name) == (rises[code], code)
        found += 1
    assert found == len(METHODS) - 1
    assert worst_rise(comparison, "base") is None


def test_fixed_words_are_no_divergence_of_zero():
    table = cells(methods_tables(build_comparison())[0])
    for name in FIXED:
        assert table[name]["KL, nats"].endswith("% fixed words")
    assert table["always-refuse"]["KL, nats"] == "100 % fixed words"
    costs = cells(costs_table(build_comparison()))
    assert costs["guard"]["KL, nats"] == costs["guard"]["n"] == "–"
    assert costs["gate"]["n"] == "50"


def test_missing_cells_are_dashes_everywhere(capsys):
    comparison = build_comparison(
        ("base", "gate", "paper"), missing=[("paper", "all"), ("paper", "yo")], latency=False
    )
    for text in (printed(comparison, capsys, 1000), comparison_markdown(comparison)):
        assert "nan" not in text.lower()
        assert "None" not in text
    row = cells(methods_tables(comparison)[0])["paper"]
    assert {row[c] for c in ("Selectivity", "Change", "Harmful %", "Decides")} == {"–"}
    assert cells(language_tables(comparison)[0])["paper"]["Yoruba (yo)"] == "–"
    assert cells(language_tables(comparison)[0])["paper"]["Thai (th)"] != "–"
    assert set(cells(differences_table(comparison))["paper"].values()) == {"–"}


def test_a_row_or_metric_that_the_file_lacks_is_a_dash():
    comparison = build_comparison(("base", "gate"))
    rows = [
        dataclasses.replace(r, values={k: v for k, v in r.values.items() if k != "degenerate"})
        for r in comparison.rows
        if (r.method, r.group) != ("gate", "ko")
    ]
    cut = dataclasses.replace(comparison, rows=tuple(rows), differences=())
    assert estimate_of(cut, "gate", "degenerate").missing
    table = cells(methods_tables(cut)[0])
    assert table["gate"]["Degenerate %"] == table["gate"]["Change"] == "–"
    assert cells(language_tables(cut)[0])["gate"]["Korean (ko)"] == "–"
    assert not differences_table(cut).rows


def test_differences_by_language_are_all_there():
    comparison = build_comparison(("base", "gate", "paper"))
    table = language_differences_table(comparison)
    assert len(table.rows) == 2 * len(LANGUAGES) * 4
    assert table.rows[0][:3] == ("gate", "Arabic (ar)", "selectivity Δ")


def test_the_terminal_shows_one_table_where_there_is_room_and_three_where_not(capsys):
    comparison = build_comparison()
    wide = printed(comparison, capsys, 1000)
    assert wide.count("Methods over all languages") == 1
    narrow = printed(comparison, capsys, 80)
    assert narrow.count("Methods over all languages") == 3
    for text in (wide, narrow):
        for name in METHODS:
            assert name in text
        assert "…" not in text
        assert "two prompts were left out" in text
    assert max(map(len, narrow.splitlines())) <= 80
    line = next(x for x in wide.splitlines() if x.startswith("gate "))
    assert "+81 (74..88)" in line


def test_languages_that_do_not_fit_go_into_further_tables(capsys):
    languages = tuple(f"l{i}" for i in range(30))
    comparison = build_comparison(("base", "gate"), languages)
    text = printed(comparison, capsys, 100)
    titles = [x for x in text.splitlines() if x.startswith("Selectivity Δ by language")]
    assert len(titles) == 3
    for code in languages:
        assert re.search(rf"\b{code}\b", text)


@pytest.mark.parametrize("methods", [tuple(METHODS), ("base",), ("gate",), ("base", "guard")])
@pytest.mark.parametrize("latency", [True, False])
def test_the_page_has_what_there_is_and_needs_nothing_from_outside(tmp_path, methods, latency):
    comparison = build_comparison(methods, latency=latency, missing=[(methods[-1], "yo")])
    html = write_comparison(write_comparison_folder(tmp_path, comparison)).read_text()
    assert (tmp_path / "compare.html").exists()
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    links = re.findall(r'href="#([^"]+)"', html) + re.findall(r"url\(#([^)]+)\)", html)
    assert set(links) <= set(ids)
    assert set(re.findall(r"https?://[^\"'<> ]+", html)) == {"http://www.w3.org/2000/svg"}
    assert {"compared", "pareto", "methods", "languages", "reading", "about"} <= set(ids)
    assert ("differences" in ids) == ("base" in methods and len(methods) > 1)
    assert "actions" not in ids
    assert "It matches phrases." in html
    assert "two prompts were left out" in html
    assert "nan" not in re.sub(r"<style>.*?</style>|<script>.*?</script>", "", html, flags=re.S)
    for m in methods:
        assert f">{m}</th>" in html


def test_the_page_has_the_action_search_of_the_folder(tmp_path):
    folder = write_comparison_folder(tmp_path, build_comparison(("base", "gate")), build_actions())
    html = render_comparison(folder)
    assert 'id="actions"' in html
    assert 'id="fig-actions-tried"' in html


def test_names_are_escaped(tmp_path):
    comparison = build_comparison(("base", EVIL, "x" * 90), ("en", EVIL))
    html = render_comparison(write_comparison_folder(tmp_path, comparison))
    assert html.count("<script") == 1
    assert "&lt;script&gt;" in html
    markdown = comparison_markdown(comparison)
    assert "<script>" not in markdown
    for line in markdown.splitlines():
        if line.startswith("|"):
            assert line.endswith("|")


def test_markdown_has_a_row_per_method_in_every_table():
    markdown = comparison_markdown(build_comparison())
    for part in re.split(r"^### ", markdown, flags=re.M)[1:]:
        names = re.findall(r"^\| ([\w-]+) \|", part, flags=re.M)[1:]  # after the heading
        assert set(names) - {"---"} >= set(METHODS) - {"base"}


def test_the_summary_does_not_claim_what_overlap_leaves_open():
    close = comparison_markdown(build_comparison(("base", "gate", "gate-identified-language")))
    assert "which of them is best is open" in close
    apart = comparison_markdown(build_comparison(("base", "gate", "paper")))
    assert "highest selectivity is that of “gate”" in apart
    assert "is open" not in apart
    noise = comparison_markdown(build_comparison(("base", "cast-adapted")))
    assert "noise alone could explain" in noise
    controls = comparison_markdown(build_comparison(("base", "shuffled-labels")))
    assert "nothing can be compared" in controls


# ---------------------------------------------------------------------------------------------
# damage


def test_no_comparison_in_the_folder(tmp_path):
    with pytest.raises(StoreError, match=r"no .*compare\.json"):
        write_comparison(tmp_path)
    assert not (tmp_path / "compare.html").exists()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '"x"', '{"schema": 99}', '{"schema": 1}', "\udcff"]
)
def test_damaged_comparison(tmp_path, text):
    (tmp_path / "compare.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(StoreError, match=r"compare\.json"):
        render_comparison(tmp_path)


def paths(value, path=()):
    """Yield the path of every value, the first element of a list standing for all."""
    yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from paths(item, (*path, key))
    elif isinstance(value, list) and value:
        yield from paths(value[0], (*path, 0))


@pytest.mark.parametrize("wrong", ["x", {"a": []}, None, -5, 1e308])
def test_one_wrong_value_anywhere_is_a_page_or_a_store_error(tmp_path, wrong):
    comparison = build_comparison(("base", "gate"), ("yo",))
    folder = write_comparison_folder(tmp_path, comparison)
    text = (folder / "compare.json").read_text()
    refused = unnamed = 0
    tried = [p for p in paths(json.loads(text)) if p]
    for path in tried:
        document = json.loads(text)
        node = document
        for step in path[:-1]:
            node = node[step]
        node[path[-1]] = wrong
        (folder / "compare.json").write_text(json.dumps(document))
        try:
            assert render_comparison(folder).startswith("<!doctype html>")
        except StoreError as error:
            refused += 1
            unnamed += "compare.json" not in str(error)
    assert len(tried) > 80
    assert refused > 0
    assert unnamed == 0
