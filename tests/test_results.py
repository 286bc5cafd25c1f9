"""``results.json`` and ``diagnosis.json``: round trips, null for missing, damage is a StoreError."""

import copy
import dataclasses
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from babelgate.errors import StoreError
from babelgate.results import (
    SCHEMA,
    Comparison,
    ContrastRow,
    Diagnosis,
    GateRow,
    GateScores,
    LanguageComparison,
    LayerChoice,
    MacroRow,
    Results,
    Row,
    Separability,
    ThresholdRow,
    load_diagnosis,
    load_results,
)
from babelgate.types import Estimate

HALF = Estimate(0.5, 0.25, 0.75, 8, 8, 1, "wilson")
NONE = Estimate(math.nan, math.nan, math.nan, 0, 0, 9, "wilson")


def results() -> Results:
    gate = GateRow(HALF, HALF, HALF, 0.9, None, -0.3, {"en": 7, "unsure": 2})
    outcomes = {"harmful": {"refused": 4, "answered": 4}, "harmless": {"refused": 0}}
    bounds = {"harmful_refusal": (0.4, 0.6)}
    row = Row("gate", "en", "high", "source", HALF, HALF, HALF, outcomes, 1, gate, bounds)
    return Results(
        model={"name": "m"},
        prompts={"name": "p", "languages": ["en"]},
        judge={"name": "lexicon"},
        rows=(row, dataclasses.replace(row, method="base", role=None, gate=None)),
        macro=(MacroRow("base", "all", ("en", "sw"), HALF, HALF, HALF),),
        comparisons=(
            Comparison("base", "gate", "en", "selectivity", 0.1, -0.1, 0.3, 0.2, 0.4, 16),
            Comparison(
                "base", "gate", "sw", "harmful_refusal", None, None, None, None, None, 0, 0.5
            ),
        ),
        language_comparisons=(
            LanguageComparison(
                "base", "en", "sw", "harmful_refusal", -0.1, -0.3, 0.1, 0.2, 0.4, 0.3, 16, 2
            ),
            LanguageComparison(
                "base", "en", "sw", "selectivity", None, None, None, None, None, None, 0, 9
            ),
        ),
    )


def diagnosis() -> Diagnosis:
    return Diagnosis(
        gate={"layers": [1, 3], "alpha": 2.5},
        separability=(Separability("en", "high", "source", "topic", 1, 0.9, 3, 4),),
        gate_scores=(GateScores("en", "high", "source", 0.2, (1.0, 2.0), (-1.0,), ()),),
        layer_choice=(LayerChoice((1, 3), 0.8, 0.9, None, True),),
        thresholds=(ThresholdRow("sw", "shrunken", 4, 0.1, 0.75, 20, 50, True),),
        contrasts=(ContrastRow("sw", "low", "target", "twins", None, None, 0, 4),),
    )


DOCUMENTS = {"results": (Results, results), "diagnosis": (Diagnosis, diagnosis)}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_round_trip_through_json(name):
    kind, make = DOCUMENTS[name]
    document = make().to_json()
    assert next(iter(document)) == "schema"
    assert document["schema"] == SCHEMA == 1
    back = kind.from_json(json.loads(json.dumps(document, allow_nan=False)))
    assert back == make()


def test_missing_numbers_are_null_in_the_file_and_nan_in_memory():
    """``Results`` with an unscored language: null, never 0 and never a bare NaN."""
    rows = tuple(dataclasses.replace(r, harmful_refusal=NONE) for r in results().rows)
    document = dataclasses.replace(results(), rows=rows).to_json()
    text = json.dumps(document, allow_nan=False)
    assert document["rows"][0]["harmful_refusal"]["value"] is None
    assert document["rows"][0]["harmful_refusal"]["n_unscored"] == 9
    assert document["rows"][0]["gate"]["balanced_accuracy"] is None
    assert document["comparisons"][1]["delta"] is None
    back = Results.from_json(json.loads(text))
    assert all(row.harmful_refusal.missing for row in back.rows)
    assert len(back.rows) == 2
    assert back.comparisons[1].delta is None


def test_files_are_read_from_a_run_folder(tmp_path):
    with pytest.raises(StoreError, match=r"results\.json does not exist; run `babelgate"):
        load_results(tmp_path)
    assert load_diagnosis(tmp_path) is None
    (tmp_path / "results.json").write_text(json.dumps(results().to_json()))
    (tmp_path / "diagnosis.json").write_text(json.dumps(diagnosis().to_json()))
    assert load_results(tmp_path) == results()
    assert load_diagnosis(tmp_path) == diagnosis()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"3", b"null", b"\xff\xfe", b"{}", b'{"schema": 2}',
                b'{"schema": 1}', b"[" * 100_000],
)  # fmt: skip
@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_that_are_no_document_are_store_errors(tmp_path, name, content):
    (tmp_path / f"{name}.json").write_bytes(content)
    load = load_results if name == "results" else load_diagnosis
    with pytest.raises(StoreError) as caught:
        load(tmp_path)
    assert f"{name}.json" in str(caught.value)


def places(value, path=()):
    """Yield the path of every value in a document."""
    yield path
    items = value.items() if isinstance(value, dict) else ()
    for key, item in enumerate(value) if isinstance(value, list) else items:
        yield from places(item, (*path, key))


def replaced(document, path, value):
    changed = copy.deepcopy(document)
    at = changed
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return changed


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("rows", 0), 5),  # AttributeError inside
        (("rows", 0), None),
        (("rows", 0, "gate"), "gate"),
        (("rows", 0, "selectivity", "value"), "half"),  # ValueError inside
        (("rows", 0, "selectivity", "n"), "many"),
        (("rows", 0, "selectivity", "n"), math.inf),  # OverflowError inside
        (("rows", 0, "selectivity"), None),
        (("rows", 0, "surprise"), 1),
        (("macro", 0, "languages"), None),
        (("macro", 0), []),
        (("comparisons", 0), [1]),
        (("language_comparisons", 0), [1]),
        (("language_comparisons",), None),
        (("rows", 0, "bounds"), [0.1, 0.2]),
        (("rows", 0, "bounds", "harmful_refusal"), [0.1]),
        (("rows", 0, "bounds", "harmful_refusal"), [None, 0.2]),
        (("rows",), None),
    ],
)
def test_wrong_values_in_results_are_store_errors(path, value):
    with pytest.raises(StoreError, match="damaged"):
        Results.from_json(replaced(results().to_json(), path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("gate_scores", 0), 5),
        (("gate_scores", 0, "harmful"), None),
        (("layer_choice", 0, "layers"), 3),
        (("thresholds", 0), "x"),
        (("separability",), None),
        (("contrasts", 0, "surprise"), 1),
    ],
)
def test_wrong_values_in_a_diagnosis_are_store_errors(path, value):
    with pytest.raises(StoreError, match="damaged"):
        Diagnosis.from_json(replaced(diagnosis().to_json(), path, value))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_missing_field_is_a_store_error(name):
    kind, make = DOCUMENTS[name]
    document = make().to_json()
    tops = [key for key in document if key not in ("schema", "language_comparisons")]
    assert len(tops) == 6
    for key in tops:
        with pytest.raises(StoreError, match=key):
            kind.from_json({k: v for k, v in document.items() if k != key})


def test_results_of_older_versions_are_read():
    """Without bounds, McNemar's p values and comparisons of languages, which came later."""
    document = results().to_json()
    del document["language_comparisons"]
    for row in document["rows"]:
        del row["bounds"]
    for row in document["comparisons"]:
        del row["p_mcnemar"]
    back = Results.from_json(json.loads(json.dumps(document)))
    assert back.language_comparisons == ()
    assert [row.bounds for row in back.rows] == [None, None]
    assert [c.p_mcnemar for c in back.comparisons] == [None, None]
    assert back.macro == results().macro


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)


@pytest.mark.parametrize("name", DOCUMENTS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_value_in_any_place_is_a_document_or_a_store_error(name, data):
    kind, make = DOCUMENTS[name]
    document = make().to_json()
    path = data.draw(st.sampled_from([p for p in places(document) if p]))
    try:
        got = kind.from_json(replaced(document, path, data.draw(json_values)))
    except StoreError:
        return
    assert isinstance(got, kind)
