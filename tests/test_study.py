"""The study as a job: stored activations in; JSON, Markdown and a picture out."""

import json
import math

import numpy as np
import pytest

from babelgate.config import CalibrateSettings
from babelgate.errors import StoreError
from babelgate.report.figures_study import print_study, study_figure, study_markdown, study_table
from babelgate.study import StudyOptions, study_thresholds, summarise_study
from babelgate.study_results import StudyResults, load_study
from babelgate.threshold_study import Readout, Study
from babelgate.types import Prompt, PromptSet
from tiny import tiny_model

SOURCES, TARGETS = ("en", "de", "fr"), ("yo", "th")
OPTIONS = StudyOptions(ranks=(1, 2), shots=(0, 1, 2, 9), draws=4, unlabelled=(2, 2))


@pytest.fixture(scope="module")
def prompts():
    made = []
    for language in (*SOURCES, *TARGETS):
        for split, n in (("train", 6), ("val", 4)):
            for label, word in (("harmful", "attack"), ("harmless", "cook")):
                for i in range(n):
                    name = f"{label}-{split}-{i}"
                    text = f"{language} how to {word} number {i} {split}"
                    made.append(Prompt(name, language, text, label, split, group_id=name))
    return PromptSet("made", tuple(made))


@pytest.fixture(scope="module")
def studied(prompts, tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    settings = CalibrateSettings(
        sources=SOURCES, targets=TARGETS, shot_pool=6, shots=0, readout_layers=2, out=out
    )
    return study_thresholds(tiny_model("llama"), prompts, settings, OPTIONS), out


def test_the_job_writes_what_it_returns(studied):
    results, out = studied
    assert load_study(out) == results
    assert (out / "study.md").read_text() == study_markdown(results)
    assert (out / "study.svg").read_text().startswith("<svg")
    n_cells = len({(r.layers, r.rank) for r in results.rows})
    assert len(results.rows) == n_cells * 6 * 4 * 5
    assert {r.role for r in results.rows if r.language in TARGETS} == {"target"}
    assert results.model["n_layers"] == 4
    # Four shots a class at most are left beside the pool: nine are missing and not 0.
    assert {r.value for r in results.rows if r.k == 9} == {None}
    assert all(0 <= r.value <= 1 for r in results.rows if r.k < 9)


def test_means_over_languages_by_hand():
    """Two targets, two draws: at k = 1 the rule has .5 .7 and .9 .9, the source .8 and .6.

    By draw .7 and .8: mean .75, sd .0707. By language .6 and .9: the worst is the first, which lost
    .2 to the source's .8; the second gained .3; on average +.05.
    """
    values = np.full((1, 3, 2, 2, 2), math.nan)
    values[0, 0, 0, 1], values[0, 1, 0, 1] = 0.8, 0.6
    values[0, 0, 1, 1], values[0, 1, 1, 1] = [0.5, 0.7], [0.9, 0.9]
    values[0, 0, 1, 0] = 0.4  # the other language has none: no mean
    values[0, 2] = 1.0
    study = Study(
        cells=((Readout((3,), 0.1, (5,)), 5),),
        languages=("yo", "th", "en"),
        sources=("en",),
        rules=("source", "shrunken"),
        shots=(0, 1),
        values=values,
        counts={"yo": (2, 3), "th": (2, 3), "en": (4, 4)},
    )
    results = summarise_study(study, {}, ((3,), 5))
    (mean,) = [m for m in results.curve("target") if (m.rule, m.k) == ("shrunken", 1)]
    assert (mean.value, mean.sd) == (0.75, pytest.approx(0.0707, abs=1e-4))
    assert (mean.worst, mean.worst_language) == (0.6, "yo")
    assert (mean.change, mean.worst_change) == (0.05, -0.2)
    (none,) = [m for m in results.curve("target") if (m.rule, m.k) == ("shrunken", 0)]
    assert (none.value, none.worst, none.change) == (None, None, None)
    row = next(r for r in results.rows if (r.language, r.rule, r.k) == ("yo", "shrunken", 1))
    assert (row.value, row.sd, row.n) == (0.6, pytest.approx(0.1414, abs=1e-4), 5)
    assert (row.role, row.layers, row.rank, row.l2) == ("target", (3,), 5, 0.1)
    assert StudyResults.from_json(json.loads(json.dumps(results.to_json()))) == results

    table = study_table(results, "target")
    (line,) = [r for r in table.rows if r[:2] == ("shrunken", "1")]
    assert line == ("shrunken", "1", "0.750", "0.071", "0.600", "Yoruba (yo)", "+5.0", "−20.0")
    (line,) = [r for r in table.rows if r[:2] == ("shrunken", "0")]
    assert set(line[2:]) == {"–"}
    drawing = study_figure(results).standalone()
    assert "shrunken, k = 1: 0.750" in drawing
    assert "shrunken, k = 0" not in drawing.replace("sources", "").split("Left-out")[0]


def test_the_tables_are_printed(studied, capsys):
    print_study(studied[0])
    printed = capsys.readouterr().out
    assert "Thresholds for target languages" in printed
    assert "Thresholds for source languages" in printed


def test_damaged_files_are_refused(studied):
    document = studied[0].to_json()
    with pytest.raises(StoreError, match="schema"):
        StudyResults.from_json({**document, "schema": 99})
    with pytest.raises(StoreError, match="damaged"):
        StudyResults.from_json({**document, "rows": {"columns": ["k"], "rows": [[1, 2]]}})
