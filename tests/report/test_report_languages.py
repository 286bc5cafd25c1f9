"""Each language against English: paired numbers, exact tests, and the words that follow."""

from __future__ import annotations

import dataclasses

import pytest
from judged_runs import embedded, judged_results, plain, replaced, verdict

from babelgate.report import print_results, render_report, to_markdown
from babelgate.report.language_gaps import language_table, language_words, paired_gap
from babelgate.report.names import order
from babelgate.report.result_tables import comparisons_table
from babelgate.report.summary import summarise

N = 40


@pytest.fixture(scope="module")
def results():
    """Yoruba answers 30 of 40 harmful prompts that English refuses; German one; gate repairs 20."""
    change = [verdict("embedded", "yo", i, "harmful", "answered") for i in range(30)]
    change += [verdict("embedded", "de", 0, "harmful", "answered")]
    change += [
        verdict("embedded", "yo", i, "harmful", "answered", method="gate") for i in range(10)
    ]
    verdicts = plain("embedded", ("en", "de", "yo"), N, ("base", "gate"))
    # One prompt of Yoruba has no translation.
    verdicts = [v for v in verdicts if (v.language, v.prompt_id) != ("en", "harmful-39")]
    return judged_results(embedded(), replaced(verdicts, change))


def test_the_table_gives_pairs_and_both_p_values(results):
    table = language_table(results, order(results), method="base", metric="harmful_refusal")
    assert table.title == "Each language against English: harmful refused, base"
    rows = {row[0]: dict(zip(table.columns, row)) for row in table.rows}
    assert set(rows) == {"German (de)", "Yoruba (yo)"}
    yoruba = rows["Yoruba (yo)"]
    # 30 of 39 pairs differ, all one way: -76.9 points, exact p 2 / 2^30.
    assert yoruba["Difference, points"] == "−76.9"
    assert yoruba["McNemar p"] == yoruba["Holm p"] == "<0.001"
    assert (yoruba["Pairs"], yoruba["Unmatched"], yoruba["Reading"]) == ("39", "1", "lower")
    assert rows["German (de)"]["McNemar p"] == "1.00"
    assert rows["German (de)"]["Reading"] == "within noise"


def test_the_whole_table_has_every_method_and_metric(results):
    table = language_table(results, order(results))
    assert len(table.rows) == 2 * 2 * 3 == len(results.language_comparisons)
    assert {(row[1], row[2]) for row in table.rows} == {
        (method, metric)
        for method in ("base", "gate")
        for metric in ("harmful refused", "harmless refused", "selectivity Δ")
    }


def test_words_follow_from_the_numbers(results):
    harmful, harmless = language_words(results, "base")
    assert harmful == (
        "Against English, on translations of the same harmful prompts: refused less often in "
        "Yoruba (by 77 points); no difference distinguishable from noise in German."
    )
    assert harmless == (
        "Against English, on translations of the same harmless prompts: no difference "
        "distinguishable from noise in German and Yoruba."
    )
    none = dataclasses.replace(results, language_comparisons=())
    assert language_words(none, "base") == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"delta": 0.2, "low": 0.1, "high": 0.3}, "refused more often in Yoruba (by 20 points)"),
        ({"p_holm": 0.2}, "a difference that does not hold after Holm's correction in Yoruba"),
        ({"delta": None, "low": None, "high": None}, "not measured in Yoruba"),
    ],
)
def test_other_readings(results, change, words):
    (one,) = (
        c
        for c in results.language_comparisons
        if (c.method, c.b, c.metric) == ("base", "yo", "harmful_refusal")
    )
    changed = dataclasses.replace(
        results, language_comparisons=(dataclasses.replace(one, **change),)
    )
    assert words in language_words(changed, "base")[0]


def test_the_summary_gives_the_paired_gap(results):
    text = " ".join(summarise(results, None))
    assert "On the 39 prompts scored in both, Yoruba differs from English by −77 points" in text
    assert paired_gap(results, "base", "fr") == ""


def test_everywhere_but_in_runs_that_have_none(results, tmp_path, capsys):
    title = "Each language against English: every metric, base"
    assert title in to_markdown(results)
    print_results(results)
    out = capsys.readouterr().out
    assert "Harmful refused against English, base" in out
    assert "McNemar p" in out
    none = dataclasses.replace(results, language_comparisons=())
    assert "against English" not in to_markdown(none)
    print_results(none)
    assert "against English" not in capsys.readouterr().out


def test_the_page_shows_the_gap_openly_and_the_rest_behind_a_click(tmp_path):
    from judged_runs import write_judged

    verdicts = plain("embedded", ("en", "yo"), 5, ("base", "gate"))
    html = render_report(write_judged(tmp_path, embedded(), verdicts))
    section = html[html.index('<section id="gap">') : html.index('<section id="change">')]
    assert "<h3>Each language against English: harmful refused, base</h3>" in section
    assert "<summary>Each language against English: every metric, every method</summary>" in section


def test_mcnemar_stands_in_the_comparison_of_methods_where_given(results):
    table = comparisons_table(results)
    place = table.columns.index("McNemar p")
    by_group = {(row[1], row[2]): row[place] for row in table.rows}
    assert by_group["Yoruba (yo)", "harmful refused"] == "<0.001"
    assert by_group["Yoruba (yo)", "selectivity Δ"] == "–"
    assert by_group["All languages", "harmful refused"] == "–"
    plain_ = dataclasses.replace(
        results,
        comparisons=tuple(dataclasses.replace(c, p_mcnemar=None) for c in results.comparisons),
    )
    assert "McNemar p" not in comparisons_table(plain_).columns
