"""The judge in the report: its known errors, what follows from them, and what nobody measured."""

from __future__ import annotations

import dataclasses
import re

import pytest
from judged_runs import (
    embedded,
    errors,
    judged_results,
    plain,
    replaced,
    verdict,
    write_judged,
)

from babelgate.report import print_results, render_report, to_markdown
from babelgate.report.judge_facts import judges_of, n_unparsed, own_verdicts
from babelgate.report.judge_tables import (
    bounds_table,
    corrected_table,
    errors_table,
    parts_table,
    usage_table,
)
from babelgate.report.judge_words import judge_paragraphs, judge_warning
from babelgate.report.names import order
from babelgate.stats import Validation

LEXICON = {"name": "lexicon", "version": "1", "languages": ["de", "en"], "note": "Phrases only."}
API = {
    "name": "api:m",
    "version": "1-m",
    "languages": ["de", "en", "yo"],
    "note": "A model read it.",
    "model": "m",
    "usage": {
        "requests": 240,
        "tries": 251,
        "failures": 2,
        "prompt_tokens": 1_234_567,
        "completion_tokens": 8000,
        "unmetered": 3,
        "cost": 0.25,
    },
}
PANEL = {
    "name": "panel(embedded,api:m;lexicon)",
    "version": "1:1:x",
    "languages": ["de", "en", "yo"],
    "note": "Agreement is no proof.",
    "quorum": 1,
    "judges": [embedded(), API],
    "adjudicator": LEXICON,
}


def results_of(judge, codes=("en", "de", "yo"), n=10, change=()):
    return judged_results(judge, replaced(plain(judge["name"], codes, n), change))


def table_of(results, verdicts=()):
    return errors_table(judges_of(results)[0], results, order(results), verdicts)


def test_weak_and_unmeasured_languages_are_named():
    judge = embedded({"en": 0.8, "yo": 0.41, "am": 0.594, "de": 0.599})
    results = results_of(judge, ("en", "yo", "am", "de", "zu"))
    text = judge_paragraphs(results)[0]
    assert "the judge “embedded”, version 1-cafe" in text
    assert "It is weakest in Yoruba (0.41) and Amharic (0.59)" in text
    assert "unmeasured in zu." in text
    assert "does not claim to tell refusals in zu." in text
    warning = judge_warning(results)
    assert warning.startswith("The judge, embedded, is weak in Yoruba and Amharic (kappa under 0.6")
    assert warning.endswith("and has unmeasured errors in zu.")


def test_a_judge_that_is_good_everywhere_has_no_warning():
    results = results_of(embedded({"en": 0.8, "de": 0.6}), ("en", "de"))
    assert judge_warning(results) == ""
    text = judge_paragraphs(results)[0]
    assert "In every language of this run its kappa on labelled replies is at least 0.6" in text
    assert "lowest in German (0.60)" in text


@pytest.mark.parametrize("judge", [LEXICON, API, PANEL], ids=["lexicon", "api", "panel"])
def test_a_judge_without_known_errors_is_unmeasured_everywhere(judge):
    results = results_of(judge)
    assert "unmeasured in every language of this run" in judge_paragraphs(results)[0]
    table = table_of(results)
    assert [row[1] for row in table.rows] == ["unmeasured"] * 3
    assert corrected_table(results, order(results)).rows == ()


def test_the_table_of_errors_gives_them_as_they_are():
    results = results_of(embedded({"en": 0.8, "yo": 0.41}), ("en", "yo", "zu"))
    verdicts = [
        verdict("embedded", "yo", 0, "harmful", "refused", "low confidence; phrase: no"),
        verdict("embedded", "yo", 1, "harmful", "answered", "low confidence"),
        verdict("embedded", "zu", 1, "harmful", "unparsed", "low confidence: has no 'zu'"),
        verdict("embedded", "en", 1, "harmful", "answered", ""),
        verdict("lexicon", "en", 2, "harmful", "answered", "low confidence"),
    ]
    rows = {row[0]: row[1:] for row in table_of(results, verdicts).rows}
    assert rows["English (en)"] == (
        *("0.80", "0.90", "0.80", "0.95", "0.06", "400", "model left out"),
        *("20", "0", "0"),
    )
    assert rows["Yoruba (yo)"][0] == "0.41"
    assert rows["Yoruba (yo)"][-1] == "2"
    assert rows["zu"] == ("unmeasured", *"–––––", "–", "20", "0", "0")


def test_rates_are_corrected_by_rogan_and_gladen():
    """Of 10 harmful prompts 9 are called refused: (0.9 + 0.8 - 1) / (0.9 + 0.8 - 1) = 1.

    Of 10 harmless ones 4: (0.4 + 0.8 - 1) / 0.7 = 2/7. With 0 of 10 it is -2/7, cut to 0.
    """
    change = [verdict("embedded", "en", 0, "harmful", "answered")]
    change += [verdict("embedded", "en", i, "harmless", "refused") for i in range(4)]
    results = results_of(embedded({"en": 0.8, "de": 0.8}), ("en", "de"), change=change)
    rows = {row[0]: row[1:] for row in corrected_table(results, order(results)).rows}
    assert rows["English (en)"][:2] == ("90.0", "100.0")
    assert rows["English (en)"][3:5] == ("40.0", "28.6")
    assert rows["English (en)"][6] == ""
    assert rows["German (de)"][:2] == ("100.0", "100.0")
    assert rows["German (de)"][4] == "0.0"
    assert rows["German (de)"][6] == "both out of range"
    for row in rows.values():
        assert re.fullmatch(r"\d+\.\d to \d+\.\d", row[2])


def test_a_judge_no_better_than_chance_corrects_nothing():
    judge = embedded({"en": 0.0})
    judge["errors"]["en"] = errors(0.0, sensitivity=0.3, specificity=0.7)
    results = results_of(judge, ("en",))
    (row,) = corrected_table(results, order(results)).rows
    assert row[2:4] == ("–", "–")
    assert row[-1] == "no better than chance"


def test_labelled_replies_are_reconstructed_from_the_rates():
    known = judges_of(results_of(embedded()))[0].known("en")
    assert known is not None
    assert known.validation == Validation(270, 300, 80, 100)
    assert dataclasses.replace(known, refused=400).validation is None
    assert dataclasses.replace(known, sensitivity=None).validation is None
    assert judges_of(results_of(embedded({"zh": 0.7}), ("zh-Hant",)))[0].known("zh-Hant")


def test_bounds_are_shown_where_replies_are_unparsed_and_only_there():
    """2 of 10 unparsed among refusals: between 8/10 and 10/10, while the rate is 8/8."""
    change = [verdict("embedded", "yo", i, "harmful", "unparsed", "why") for i in range(2)]
    results = results_of(embedded(), change=change)
    table = bounds_table(results, order(results))
    assert table.rows == (("Yoruba (yo)", "base", "harmful", "80.0 and 100.0", "100.0", "2 of 10"),)
    assert "2 of 60 replies (3.3\u202f%) are unparsed" in judge_paragraphs(results)[1]
    old = dataclasses.replace(
        results, rows=tuple(dataclasses.replace(r, bounds=None) for r in results.rows)
    )
    assert bounds_table(old, order(old)).rows[0][3] == "–"


def test_it_is_said_once_that_nothing_is_unparsed():
    results = results_of(embedded())
    assert bounds_table(results, order(results)).rows == ()
    assert "Nothing is unparsed: each of the 60 replies" in judge_paragraphs(results)[1]
    assert to_markdown(results).count("Nothing is unparsed") == 1


def test_a_panel_shows_its_members_and_what_they_used():
    results = results_of(PANEL)
    text = judge_paragraphs(results)[0]
    assert "a panel of embedded and api:m; what they agree on counts." in text
    assert "Where they differ, lexicon decides." in text
    rows = parts_table(results, order(results)).rows
    assert [(row[0], row[1], row[-1]) for row in rows] == [
        ("embedded", "member", "known in 3 of 3 languages"),
        ("api:m", "member", "unmeasured"),
        ("lexicon", "adjudicator", "unmeasured"),
    ]
    table = usage_table(results)
    assert table.rows == (
        ("api:m", "240", "251", "2", "1\u202f234\u202f567", "8\u202f000", "0.2500"),
    )
    assert "3 answers to api:m came without token counts" in table.note


def test_the_page_has_it_all(tmp_path):
    html = render_report(write_judged(tmp_path / "p", PANEL, plain(PANEL["name"], ["en", "yo"], 5)))
    section = html[html.index('<section id="judge">') : html.index('<section id="about">')]
    for text in ("Agreement is no proof.", "Reads the opening only.", "Known errors of embedded"):
        assert section.count(text) >= 1, text
        assert text not in html[html.index('<section id="about">') :]
    html = render_report(write_judged(tmp_path / "e", embedded(), plain("embedded", ["en"], 5)))
    assert "Rates of base corrected for the judge&#39;s known errors" in html
    assert 'id="unparsed"' not in html


def test_a_translated_judge_shows_who_reads_the_english():
    judge = {"name": "api:m+nllb", "version": "1", "note": "Translated.", "judge": API}
    results = results_of(judge)
    assert "translated into English before they were read" in judge_paragraphs(results)[0]
    assert [row[:2] for row in parts_table(results, order(results)).rows] == [
        ("api:m", "reads translations")
    ]
    assert len(usage_table(results).rows) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"name": None, "errors": [], "usage": 3, "judges": {"a": 1}, "languages": "en"},
        {"name": "x", "errors": {"en": {"n": -1, "kappa": "high", "sensitivity": 7}}},
        {"name": "x", "errors": {"en": None}, "judges": [None, 1], "adjudicator": []},
        {"name": "x", "usage": {"requests": None, "cost": float("nan")}},
    ],
)
def test_what_a_judge_says_wrongly_of_itself_is_left_out(wrong, capsys):
    results = dataclasses.replace(results_of(embedded()), judge=wrong)
    assert corrected_table(results, order(results)).rows == ()
    assert "### The judge" in to_markdown(results)
    print_results(results)
    assert "nan" not in capsys.readouterr().out


def test_a_judge_within_itself_ends():
    judge: dict = {"name": "x"}
    judge["judge"] = judge
    assert len(judges_of(dataclasses.replace(results_of(embedded()), judge=judge))) < 10


def test_only_the_verdicts_that_the_results_rest_on_count():
    results = results_of(embedded(), ("en",))
    mine = verdict("embedded", "en", 0, "harmful", "unparsed")
    others = [
        verdict("lexicon", "en", 0, "harmful", "unparsed"),
        verdict("embedded", "fr", 0, "harmful", "unparsed"),
        verdict("embedded", "en", 0, "harmful", "unparsed", method="gone"),
    ]
    assert list(own_verdicts(results, [mine, *others])) == [mine]
    assert sum(map(n_unparsed, results.rows)) == 0


def test_the_terminal_is_short_and_says_where_to_mistrust(capsys):
    change = [verdict("embedded", "yo", 0, "harmful", "unparsed", "why")]
    print_results(results_of(embedded(), change=change))
    out = capsys.readouterr().out
    assert "It is weakest in Yoruba (0.41)" in out
    assert "1 of 60 replies" in out
    assert "Known errors of embedded" in out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "Yoruba (yo) 0.41 0.90 0.80 400 model left out" in lines
    assert "Yoruba (yo) base harmful 90.0 and 100.0 100.0 1 of 10" in lines
