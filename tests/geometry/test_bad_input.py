"""What cannot be computed is left out with a reason; only nothing at all is an error."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from babelgate.errors import StoreError, UserError
from babelgate.geometry.codec import encode
from babelgate.geometry.driver import layer_geometry, pairwise_geometry
from babelgate.geometry.results import Geometry, LayerGeometry
from babelgate.geometry.table import PromptTable, Settings
from babelgate.types import Prompt

from .made import LANGUAGES, SOURCES, made_states, made_table

TABLE = made_table()
STATES = made_states(TABLE)


def run(table=TABLE, states=STATES, sources=SOURCES, settings=None, **more):
    return pairwise_geometry(
        lambda layer, position: states[layer],
        table,
        **{"layers": (0,), "positions": ("t_post",), **more},
        sources=sources,
        settings=settings or Settings(halvings=2),
    )


def only(table, keep):
    names = ("language", "harmful", "group", "split", "tokens", "refused")
    return PromptTable(**{n: getattr(table, n)[keep] for n in names})


def reasons(tables, kind, language=None):
    return [s.reason for s in tables.skipped if (s.kind, s.language) == (kind, language)]


def test_a_language_with_one_class_is_left_out_of_what_needs_two():
    keep = (TABLE.language != "sw") | TABLE.harmful
    found = run(only(TABLE, keep), STATES[:, keep]).tables
    assert "0 harmless" in reasons(found, "harmfulness", "sw")[0]
    assert "0 harmless" in reasons(found, "separability", "sw")[0]
    matrix = next(m for m in found.cosines if m.kind == "harmfulness")
    at = matrix.languages.index("sw")
    assert np.isnan(matrix.cosines[at]).all()
    assert math.isnan(matrix.reliability[at])
    assert matrix.n_negative[at] == 0
    assert {r.language for r in found.separability} == {"en", "de", "zh"}
    assert {r.language for r in found.shares} == {"en", "de", "zh"}
    # Translation identification needs no classes; the others are as without this language.
    assert "sw" in {r.language for r in found.translation}
    alone = run(only(TABLE, TABLE.language != "sw"), STATES[:, TABLE.language != "sw"]).tables
    assert encode(found.separability) == encode(alone.separability)


def test_fewer_than_four_examples_are_too_few_and_four_are_enough():
    def with_harmful(n):
        harmful = np.flatnonzero(
            (TABLE.language == "sw") & TABLE.harmful & (TABLE.split == "train")
        )
        keep = np.ones(len(TABLE), dtype=bool)
        keep[harmful[n:]] = False
        return run(only(TABLE, keep), STATES[:, keep]).tables

    three, four = with_harmful(3), with_harmful(4)
    assert reasons(three, "harmfulness", "sw") == [
        "3 harmful and 9 harmless prompts of the split train; at least 4 of each are needed"
    ]
    assert not reasons(four, "harmfulness", "sw")
    assert {r.direction for r in three.separability if r.language == "sw"} == {"source"}
    assert {r.direction for r in four.separability if r.language == "sw"} == {"source", "own"}


def test_without_alignment_the_paired_analyses_are_left_out():
    names = np.array([f"{c}{i}" for i, c in enumerate(TABLE.language)])
    for group in (names, np.full(len(TABLE), "")):
        found = run(replace(TABLE, group=group)).tables
        assert found.parallelism == found.translation == ()
        assert "shares at most 0" in reasons(found, "parallelism", "sw")[0]
        assert "0 translated prompts with en" in reasons(found, "translation", "sw")[0]
        assert len(found.cosines) == 4
        assert len(found.separability) == 2 * len(LANGUAGES)


def test_a_label_that_differs_between_languages_aligns_nothing():
    flipped = np.where(TABLE.language == "sw", ~TABLE.harmful, TABLE.harmful)
    row = run(replace(TABLE, harmful=flipped)).tables.parallelism[0]
    at = row.languages.index("sw")
    assert row.n_harmful[at][0] == row.n_harmless[at][0] == 0
    assert math.isnan(row.cosines[at][0])
    assert row.cosines[0][1] > 0


def test_without_outcomes_lengths_or_pivot():
    bare = replace(TABLE, tokens=None, refused=None)
    found = run(bare, settings=Settings(halvings=2, pivot="fr")).tables
    assert [m.kind for m in found.cosines] == ["harmfulness"]
    assert found.harm_refusal == found.lengths == found.translation == ()
    assert reasons(found, "refusal") == ["no outcomes of replies were given"]
    assert reasons(found, "translation") == ["the pivot language 'fr' has no prompts"]
    assert "lengths are unknown" in reasons(found, "length", "en")[0]
    assert all(c.pivot is None and math.isnan(c.own_pivot) for c in found.centroids)
    assert all(c.own is not None for c in found.centroids)
    same = run(replace(TABLE, tokens=np.full(len(TABLE), 7))).tables
    assert same.lengths == ()


def test_a_language_that_always_refuses_has_no_refusal_direction():
    refused = np.where(TABLE.language == "sw", 1.0, TABLE.refused)
    found = run(replace(TABLE, refused=refused)).tables
    assert "0 answered" in reasons(found, "refusal", "sw")[0]
    assert {r.language for r in found.harm_refusal} == {"en", "de", "zh"}
    among = np.where((TABLE.language == "sw") & TABLE.harmful, 1.0, TABLE.refused)
    row = run(replace(TABLE, refused=among)).tables.harm_refusal[-1]
    assert row.language == "sw"
    assert (row.n_answered_harmful, math.isnan(row.among_harmful)) == (0, True)
    assert math.isnan(row.between)
    assert not math.isnan(row.among_harmless)
    assert not math.isnan(row.overall)


def test_layers_and_positions_that_do_not_exist():
    def states(layer, position):
        if position != "t_post":
            raise KeyError("this template has no post-instruction tokens")
        return STATES[layer]

    shared = {"sources": SOURCES, "settings": Settings(halvings=2)}
    found = pairwise_geometry(
        states, TABLE, layers=(0, 5, -1), positions=("t_post", "t_inst"), n_layers=2, **shared
    )
    assert reasons(found.tables, "layer") == [
        "layer 5 is not one of 0 .. 1",
        "layer -1 is not one of 0 .. 1",
    ]
    assert "layer 0 at t_inst" in reasons(found.tables, "states")[0]
    assert {(r.layer, r.position) for r in found.tables.separability} == {(0, "t_post")}
    # The reader's own error, where nobody said how many layers there are.
    found = pairwise_geometry(states, TABLE, layers=(1, 7), positions=("t_post",), **shared)
    assert "layer 7 at t_post" in reasons(found.tables, "states")[0]
    with pytest.raises(UserError, match="no geometry can be computed; layer: layer 9"):
        pairwise_geometry(states, TABLE, layers=(9,), positions=("t_post",), n_layers=2, **shared)


def test_prompts_without_states_are_left_out():
    gone = np.zeros(len(TABLE), dtype=bool)
    gone[[0, 5, 60]] = True
    holed = STATES.copy()
    holed[:, gone] = np.nan
    holed[:, 5, 3:] = np.inf
    found = run(states=holed, settings=Settings(halvings=2, projection_layers=(0,))).tables
    assert reasons(found, "prompts") == [
        f"3 of {len(TABLE)} prompts have no finite states and are left out"
    ]
    without = run(
        only(TABLE, ~gone),
        STATES[:, ~gone],
        settings=Settings(halvings=2, projection_layers=(0,)),
    ).tables
    assert encode(found.separability) == encode(without.separability)
    assert found.cosines == without.cosines
    assert list(found.projections[0].rows) == np.flatnonzero(~gone).tolist()
    lost = STATES.copy()
    lost[:, TABLE.language == "sw"] = np.nan
    found = run(states=lost).tables
    assert reasons(found, "language", "sw") == ["none of its prompts has states"]
    assert "sw" not in {r.language for r in found.separability}


def test_sources_that_are_missing_or_alone():
    found = run(sources=("fr", "en")).tables
    assert reasons(found, "source", "fr") == ["the source language has no prompts"]
    assert reasons(found, "separability", "en") == ["no other source language is left"]
    assert [r.direction for r in found.separability if r.language == "en"] == ["own"]
    assert {r.language for r in found.shares} == {"de", "zh", "sw"}
    found = run(sources=()).tables
    assert "no source language has enough" in reasons(found, "source")[0]
    assert {r.direction for r in found.separability} == {"own"}
    assert found.shares == ()


def test_nothing_to_compute_is_an_error():
    with pytest.raises(UserError, match="there are none"):
        PromptTable(*(np.empty(0) for _ in range(4)))
    with pytest.raises(UserError, match="split has shape"):
        replace(TABLE, split=TABLE.split[:-1])
    with pytest.raises(UserError, match="at least one layer"):
        run(layers=())
    with pytest.raises(UserError, match=r"states of layer 0 at t_post have shape \[3, 24\]"):
        run(states=STATES[:, :3])
    with pytest.raises(UserError, match="fitted and tested"):
        Settings(fit=("train", "val"))
    with pytest.raises(UserError, match="ranks is 0"):
        Settings(ranks=0)
    two = np.flatnonzero(TABLE.language == "en")[:2]
    with pytest.raises(UserError, match="no geometry can be computed"):
        run(only(TABLE, two), STATES[:, two])
    with pytest.raises(UserError, match="not finite"):
        run(states=STATES * np.nan)


def test_zero_states_and_constant_classes_give_nan_and_no_crash():
    with np.errstate(all="raise"):
        found = run(states=np.zeros_like(STATES)).tables
    assert all(math.isnan(x) for m in found.cosines for row in m.cosines for x in row)
    assert all(math.isnan(r.u_raw) and math.isnan(r.u_centred) for r in found.translation)
    assert all(math.isnan(r.identified_raw.value) for r in found.translation)
    assert found.shares == ()
    assert found.separability == ()


def test_one_dimension_and_few_dimensions():
    for d in (1, 2, 3):
        states = STATES[:, :, :d]
        settings = Settings(halvings=2, projection_layers=(0,))
        found = run(states=states, settings=settings).tables
        assert len(found.projections) == 1
        assert len(found.separability) == 2 * len(LANGUAGES)
        # The language means span everything, and nothing is left outside.
        assert np.isnan(found.parallelism[0].without_language[0][1])


def test_json_there_and_back():
    found = run(settings=Settings(halvings=2, projection_layers=(0,)), layers=(0, 1))
    text = json.dumps(found.to_json(), allow_nan=False)
    back = Geometry.from_json(json.loads(text))
    assert json.dumps(back.to_json()) == text
    assert (back.layers, back.languages, back.pivot) == ((0, 1), LANGUAGES, "en")
    assert back.tables.harm_refusal[0].n_refused_harmful > 0
    assert back.tables.cosines[0].cosines[0][1] == pytest.approx(
        found.tables.cosines[0].cosines[0][1], rel=1e-6
    )
    assert type(back.tables.parallelism[0]) is type(found.tables.parallelism[0])
    document = json.loads(text)
    with pytest.raises(StoreError, match="schema 7"):
        Geometry.from_json({**document, "schema": 7})
    for broken in (
        {k: v for k, v in document.items() if k != "shares"},
        {**document, "shares": {"columns": ["layer"], "rows": [[1]]}},
        {**document, "translation": {**document["translation"], "rows": [[1, 2]]}},
        {k: v for k, v in document.items() if k != "pivot"},
    ):
        with pytest.raises(StoreError, match="incomplete or damaged|incomplete: it lacks"):
            Geometry.from_json(broken)


def test_resumed_layers_are_not_read_again_and_change_nothing():
    read, seen, saved = [], [], {}

    def states(layer, position):
        read.append(layer)
        return torch.from_numpy(STATES[layer])

    shared = {"positions": ("t_post",), "sources": SOURCES, "settings": Settings(halvings=2)}
    whole = pairwise_geometry(
        states, TABLE, layers=(0, 1), on_layer=seen.append,
        save=lambda g: saved.update({g.layer: json.dumps(g.to_json())}), **shared,
    )  # fmt: skip
    assert (read, seen, sorted(saved)) == ([0, 1], [0, 1], [0, 1])
    done = {0: LayerGeometry.from_json(json.loads(saved[0]))}
    again = pairwise_geometry(states, TABLE, layers=(0, 1), done=done, **shared)
    assert read == [0, 1, 1]
    assert json.dumps(again.to_json()) == json.dumps(whole.to_json())
    one = layer_geometry(states, TABLE, 1, **shared)
    assert json.dumps(one.to_json()) == saved[1]
    with pytest.raises(UserError, match="saved geometry is of layer 0"):
        pairwise_geometry(states, TABLE, layers=(1,), done={1: done[0]}, **shared)


def test_layers_side_by_side_are_as_one_after_the_other():
    def states(layer, position):
        return STATES[layer % 2] * (1 + layer)

    shared = {"positions": ("t_post",), "sources": SOURCES, "settings": Settings(halvings=2)}
    layers, told = (0, 1, 2, 9, 3, 4), []
    one = pairwise_geometry(states, TABLE, layers=layers, n_layers=5, **shared)
    done = {1: layer_geometry(states, TABLE, 1, **shared)}
    side_by_side = pairwise_geometry(
        states, TABLE, layers=layers, n_layers=5, threads=3, done=done, on_layer=told.append,
        **shared,
    )  # fmt: skip
    assert json.dumps(side_by_side.to_json()) == json.dumps(one.to_json())
    assert sorted(told) == [0, 1, 2, 3, 4]

    def broken(layer, position):
        if layer == 2:
            raise RuntimeError("the disk is gone")
        return states(layer, position)

    with pytest.raises(RuntimeError, match="the disk is gone"):
        pairwise_geometry(broken, TABLE, layers=(0, 1, 2, 3, 4), threads=2, **shared)


def test_half_precision_states_and_any_order_of_prompts():
    half = torch.from_numpy(STATES).bfloat16()
    found = run(states=half).tables
    same = run(states=half.float().numpy()).tables
    assert found.cosines == same.cosines
    order = np.random.default_rng(0).permutation(len(TABLE))
    mixed = run(only(TABLE, order), STATES[:, order]).tables
    plain = {r.language: r for r in run().tables.separability if r.direction == "source"}
    rows = [r for r in mixed.separability if r.direction == "source"]
    assert len(rows) == len(LANGUAGES)
    for row in rows:
        assert row.auroc.value == pytest.approx(plain[row.language].auroc.value, abs=1e-12)
        assert row.threshold == pytest.approx(plain[row.language].threshold, abs=1e-4)


def test_a_table_of_prompts():
    prompts = [
        Prompt("a", "en", "x", "harmful", "train", group_id="g"),
        Prompt("a", "de", "y", "harmless", "val"),
        Prompt("b", "de", "z", "harmless", "val"),
    ]
    table = PromptTable.of(prompts, [3, 4, 5], ["refused", "degenerate", None])
    assert table.languages == ("en", "de")
    assert table.group.tolist() == ["g", "a", "b"]
    assert table.harmful.tolist() == [True, False, False]
    np.testing.assert_array_equal(table.refused, [1, np.nan, np.nan])
    assert PromptTable.of(prompts).refused is None
