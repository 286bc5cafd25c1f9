"""The search for actions: all pairs, the finalists, the chosen one; in every report that has it."""

from __future__ import annotations

import copy
import dataclasses
import json
import re

import pytest
from synthetic_comparisons import build_actions
from synthetic_runs import FULL

from babelgate.action_search import Bounds, PairTried, SideTried
from babelgate.errors import StoreError
from babelgate.report import render_report, write_report
from babelgate.report.actions_tried import (
    ActionBounds,
    ActionsTried,
    PairRow,
    SideRow,
    load_actions_tried,
)
from babelgate.report.figure import LAYOUTS, WIDE
from babelgate.report.figures_actions import (
    actions_figure,
    finalists_table,
    pairs_table,
    predicted_within,
    sides_table,
)
from babelgate.report.terminal import print_actions


@pytest.fixture
def load(tmp_path):
    def make(document) -> ActionsTried:
        (tmp_path / "actions_tried.json").write_text(json.dumps(document))
        found = load_actions_tried(tmp_path)
        assert found is not None
        return found

    return make


@pytest.mark.parametrize(
    ("written", "read"), [(SideTried, SideRow), (PairTried, PairRow), (Bounds, ActionBounds)]
)
def test_the_report_reads_the_fields_that_a_search_writes(written, read):
    assert [f.name for f in dataclasses.fields(written)] == [
        f.name for f in dataclasses.fields(read)
    ]


def test_a_document_of_a_search_is_read_whole(load):
    document = build_actions()
    tried = load(document)
    assert [dataclasses.asdict(p) for p in tried.pairs] == document["pairs"]
    assert [dataclasses.asdict(s) for s in tried.sides] == document["sides"]
    assert len(tried.finalists) == 4
    assert tried.finalists[0] is tried.chosen
    judged = [p.judged_selectivity for p in tried.finalists[1:]]
    assert judged == sorted(judged, reverse=True)  # type: ignore[type-var]


def test_without_a_search_there_is_nothing(tmp_path, capsys):
    assert load_actions_tried(tmp_path) is None
    print_actions(tmp_path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("layout", LAYOUTS, ids=["wide", "narrow"])
def test_every_pair_is_drawn_once_and_finalists_twice(load, layout):
    tried = load(build_actions())
    svg = actions_figure(tried).svg(layout)  # type: ignore[union-attr]
    assert len(re.findall(r"<title>[^<]*: predicted Δ", svg)) == len(tried.pairs) == 80
    assert len(re.findall(r"<title>[^<]*: judged Δ", svg)) == 4
    body = svg[svg.index(">bound</text>") :]  # below the legend
    beyond = len(re.findall(r'class="s0 tried open"', body))
    assert beyond == sum(not predicted_within(p, tried) for p in tried.pairs) > 0
    assert len(re.findall(r'<circle class="ring"', body)) == 1
    assert svg.count('class="bound"') == 1


def test_predictions_are_judged_by_the_predicted_bounds_alone(load):
    document = build_actions()
    pair = document["pairs"][0]
    pair.update(harmless_rise=0.05, kl=0.5, within=False)
    tried = load(document)
    assert predicted_within(tried.pairs[0], tried)
    pair["kl"] = 1.01
    tried = load(document)
    assert not predicted_within(tried.pairs[0], tried)
    pair.update(kl=None, harmless_rise=0.11)
    tried = load(document)
    assert not predicted_within(tried.pairs[0], tried)


def test_tables_say_what_was_chosen_and_what_is_missing(load):
    document = build_actions()
    tried = load(document)
    rows = finalists_table(tried).rows
    assert [r[-1] == "chosen" for r in rows] == [True, False, False, False]
    everything = pairs_table(tried).rows
    assert len(everything) == 80
    assert sum(r[6] == "–" for r in everything) == 76
    assert len(sides_table(tried).rows) == len(document["sides"])
    assert any(r[2] == r[4] == "–" for r in sides_table(tried).rows)
    document["pairs"][0]["within"] = False
    assert finalists_table(load(document)).rows[0][-1] == "chosen, beyond a bound"


def test_values_that_nobody_knows_are_left_out(load):
    document = build_actions(4, 3, finalists=2)
    document["pairs"][0].update(judged_selectivity=None, judged_harmless_rise=None)
    document["pairs"][1].update(selectivity=None)
    tried = load(document)
    assert len(tried.finalists) == 2
    figure = actions_figure(tried)
    assert figure is not None
    assert "nan" not in figure.svg(WIDE)
    empty = copy.deepcopy(document)
    empty["pairs"] = []
    assert actions_figure(load(empty)) is None


def test_the_terminal_shows_the_finalists(tmp_path, capsys):
    document = build_actions()
    (tmp_path / "actions_tried.json").write_text(json.dumps(document))
    print_actions(tmp_path)
    text = capsys.readouterr().out
    chosen = next(p for p in document["pairs"] if p["chosen"])
    line = next(x for x in text.splitlines() if x.rstrip().endswith("chosen"))
    assert chosen["fired"] in line
    assert chosen["silent"] in line
    assert "Bounds: rise in harmless refusals 10.0 points" in text


def test_the_report_of_a_run_has_the_section_if_there_was_a_search(make_run):
    run = make_run(FULL)
    assert 'id="actions"' not in render_report(run)
    (run / "actions_tried.json").write_text(json.dumps(build_actions()))
    html = render_report(run)
    assert 'id="actions"' in html
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    write_report(run, figures=run / "figures")
    assert (run / "figures" / "actions-tried.svg").exists()


DAMAGE = ["", "{", "[]", "null", '{"schema": 2}', '{"schema": 1}', '{"schema": 1, "pairs": 3}']


@pytest.mark.parametrize("text", DAMAGE)
def test_a_damaged_search_is_one_clear_error(make_run, text):
    run = make_run(FULL)
    (run / "actions_tried.json").write_text(text)
    for read in (render_report, print_actions, load_actions_tried):
        with pytest.raises(StoreError, match=r"actions_tried\.json") as caught:
            read(run)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", ["x", {"a": []}, -5, float("nan"), 1e308, None])
def test_one_wrong_value_anywhere_is_a_figure_or_a_store_error(load, wrong):
    document = build_actions(4, 3, finalists=2)
    tried = 0
    for part in ("bounds", "sides", "pairs"):
        first = document[part] if part == "bounds" else document[part][0]
        for name in first:
            changed = copy.deepcopy(document)
            (changed[part] if part == "bounds" else changed[part][0])[name] = wrong
            tried += 1
            try:
                found = load(changed)
            except StoreError:
                continue
            figure = actions_figure(found)
            assert figure is not None
            svg = figure.svg(WIDE)
            assert "nan" not in svg
            assert [t for t in (finalists_table, pairs_table, sides_table) if t(found).rows]
    assert tried == 3 + 5 + 11
