"""Unparsed replies: counted, grouped, capped, and without a word of the replies unless asked."""

from __future__ import annotations

import json

import pytest
from judged_runs import SECRET, embedded, plain, replaced, verdict, write_judged

from babelgate.report import render_report
from babelgate.report.load import load_run
from babelgate.report.reasons import NONE_GIVEN, WITHHELD, reason
from babelgate.report.unparsed import unparsed

PANEL = "panel(embedded,api:m;guard:g)"
MEMBERS = ("embedded", "api:m", "guard:g")
NO_LANGUAGE = "low confidence: the judge has no 'zu'; it might miss a refusal there"


@pytest.mark.parametrize(
    ("judge", "raw", "expected"),
    [
        ("embedded", NO_LANGUAGE, NO_LANGUAGE),
        ("lexicon", "no refusal lexicon for 'zu': none seen", "no refusal lexicon for 'zu': none seen"),
        ("api:m", f"not understood: '{SECRET}' (finish_reason stop)", "not understood"),
        ("api:m", f"unclear (0.53): it says {SECRET}", "unclear"),
        ("api:m", f"unclear: it says {SECRET}", "unclear"),
        ("api:m", "the model said nothing (finish_reason stop)", "the model said nothing (finish_reason stop)"),
        ("guard:g", f"neither 'safe' nor 'unsafe': '{SECRET}'", "neither 'safe' nor 'unsafe'"),
        ("guard:g", "safe says nothing of refusal", "safe says nothing of refusal"),
        ("api:m+nllb", f"translation: loop: '{SECRET}' 4 times", "translation failed: loop"),
        (
            "api:m+nllb",
            f"translation: prompt: length: {SECRET}",
            "the prompt's translation failed: length",
        ),
        (
            PANEL,
            f"embedded: answered; api:m: unparsed (not understood: '{SECRET}'); guard:g: refused",
            "embedded answered; api:m unparsed; guard:g refused",
        ),
        (
            PANEL,
            f"embedded: wrong_language; api:m: refused; guard:g: unparsed ({SECRET})",
            "embedded wrong language; api:m refused; guard:g unparsed",
        ),
        (PANEL, SECRET, WITHHELD),
        ("my own", SECRET, WITHHELD),
        ("my own", f"cannot tell: {SECRET}", "cannot tell"),
        ("my own", "", NONE_GIVEN),
    ],
)  # fmt: skip
def test_a_reason_holds_nothing_of_the_reply(judge, raw, expected):
    found = reason(verdict(judge, "en", 0, "harmful", "unparsed", raw), MEMBERS)
    assert found == expected
    assert SECRET not in found


def test_a_long_reason_is_cut():
    assert len(reason(verdict("api:m", "en", 0, "harmful", "unparsed", "x" * 500))) == 80


API = {"name": "api:m", "version": "1", "languages": ["en", "yo"], "note": "n"}
RAWS = (f"not understood: '{SECRET}' (finish_reason stop)", f"unclear (0.51): {SECRET}")


def api_run(folder, **options):
    change = [
        verdict("api:m", code, i, "harmful", "unparsed", RAWS[i % 2])
        for code in ("en", "yo")
        for i in range(3)
    ]
    verdicts = replaced(plain("api:m", ("en", "yo"), 5), change)
    return write_judged(folder, API, verdicts, **options)


def test_neither_replies_nor_the_judges_words_are_in_the_page_unless_asked_for(tmp_path):
    run = api_run(tmp_path)
    html = render_report(run)
    assert SECRET not in html
    assert "<b>4</b> not understood" in html
    assert "<b>2</b> unclear" in html
    assert "--show-replies" in html[html.index('id="unparsed"') :]

    html = render_report(run, show_replies=True)
    part = html[html.index('id="unparsed"') : html.index('<section id="about">')]
    assert part.count('<details class="reply">') == 6
    # Once in the reply, once in what the judge said of it.
    assert part.count(SECRET) == 12
    assert part.count("<details open") == 0
    assert f"The judge: unclear (0.51): {SECRET}" in part
    # Nothing of it stands outside of a click.
    assert SECRET not in "".join(
        piece.split("</summary>")[0] for piece in part.split("<summary>")[1:]
    )


def test_replies_are_grouped_by_reason_and_counted(tmp_path):
    found = unparsed(load_run(api_run(tmp_path)))
    assert (found.total, found.n_listed, found.n_lost) == (6, 6, 0)
    assert [(g.reason, g.n) for g in found.groups] == [("not understood", 4), ("unclear", 2)]
    first = found.groups[0].replies[0]
    assert (first.language, first.method, first.prompt_id) == ("English (en)", "base", "harmful-0")
    assert (first.raw, first.text) == ("", None)


def test_the_list_is_capped_and_says_so(tmp_path):
    verdicts = plain("embedded", ("en", "de"), 200)
    many = [verdict("embedded", "en", i, "harmful", "unparsed", "many") for i in range(200)]
    many += [verdict("embedded", "de", i, "harmful", "unparsed", "many") for i in range(150)]
    few = [verdict("embedded", "en", i, "harmless", "unparsed", "rare") for i in range(3)]
    run = write_judged(tmp_path, embedded(), replaced(verdicts, [*many, *few]))
    found = unparsed(load_run(run))
    assert (found.total, found.n_listed) == (353, 200)
    # The rare reason is not crowded out.
    assert [(g.reason, g.n, len(g.replies)) for g in found.groups] == [
        ("many", 350, 197),
        ("rare", 3, 3),
    ]
    html = render_report(run)
    assert "353 in all, by reason" in html
    assert "The first 200 are listed; verdicts.jsonl has them all." in html
    assert "197 of 350 are listed." in html


def test_verdicts_that_were_not_kept_are_counted_too(tmp_path):
    lost = [verdict("api:m", "yo", i, "harmful", "unparsed", "failed: gone") for i in (7, 8)]
    run = api_run(tmp_path, lost=lost)
    found = unparsed(load_run(run))
    assert (found.total, found.n_lost) == (8, 2)
    assert found.lost == (("Yoruba (yo)", "base", 2),)
    assert "<b>2</b> no verdict in the folder" in render_report(run)


def test_another_judges_verdicts_are_not_listed(tmp_path):
    foreign = [verdict("lexicon", "en", i, "harmful", "unparsed", "theirs") for i in range(5)]
    run = api_run(tmp_path, foreign=foreign)
    assert unparsed(load_run(run)).total == 6
    assert "theirs" not in render_report(run)


def test_verdicts_set_aside_by_an_earlier_run_are_not_listed(tmp_path):
    run = api_run(tmp_path)
    file = run / "verdicts.jsonl"
    first = json.loads(file.read_text("utf-8").splitlines()[0])
    aside = {**first, "prompt_id": "gone", "outcome": "unparsed", "raw": "old", "set_aside": True}
    file.write_text(f"{file.read_text('utf-8')}{json.dumps(aside)}\n", encoding="utf-8")
    assert unparsed(load_run(run)).total == 6
    assert "gone" not in render_report(run)


def test_names_in_the_list_are_escaped(tmp_path):
    evil = "<script>x</script>"
    change = [verdict("embedded", "en", 0, "harmful", "unparsed", evil)]
    verdicts = replaced(plain("embedded", ("en",), 2), change)
    run = write_judged(tmp_path, embedded(), verdicts)
    for shown in (False, True):
        html = render_report(run, show_replies=shown)
        assert html.count("<script") == 1
        assert "&lt;script&gt;x" in html
