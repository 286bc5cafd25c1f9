"""The fitter on planted activations: what is shared is found, what is left out stays out.

In ``planted`` every language has an offset of its own; harm lies along one direction that all
languages share, with a strength per layer; and plain harmless prompts lie elsewhere along a topic
direction, which harmful prompts and their twins do not share.
"""

import dataclasses
import hashlib
import math

import numpy as np
import pytest
import torch

from babelgate.directions import mean_difference, source_subspace
from babelgate.discriminant import SHRINKAGE_GRID, discriminant, principal_subspace, spread
from babelgate.errors import UserError
from babelgate.fit import L2_GRID, Fitter, spread_layers
from babelgate.fit_data import Data
from babelgate.metrics import auroc, balanced_accuracy
from babelgate.probe import balanced_weights, fit_probe
from babelgate.thresholds import SourceStatistics, source_rule
from babelgate.types import ModelIdentity, Prompt

D = 16
HARM, TOPIC = 0, 1
#: Per layer: how strongly harm and topic are written there. Topic alone is loudest at block 2.
HARM_AT = (0.0, 0.7, 0.0, 3.0, 1.5)
TOPIC_AT = (0.0, 1.0, 8.0, 3.0, 1.0)
SOURCES = ("en", "de", "fr")
IDENTITY = ModelIdentity("planted", "", "float32", "t", "w", n_layers=len(HARM_AT), d_model=D)


def prompts_of(languages=(*SOURCES, "sw"), plain=16, pairs=10, splits=("train", "val")):
    """``plain`` harmful and harmless prompts and ``pairs`` of twins per language and split."""
    found = []
    for language in languages:
        for split in splits:
            for label in ("harmful", "harmless"):
                for kind, n in (("plain", plain), ("twin", pairs)):
                    for i in range(n):
                        word = hashlib.sha256(f"{language}{split}{label}{kind}{i}".encode())
                        found.append(
                            Prompt(
                                f"{split}-{label}-{kind}{i}", language, word.hexdigest(), label,
                                split, pair_id=f"{split}-{i}" if kind == "twin" else None,
                            )
                        )  # fmt: skip
    return tuple(found)


def noise(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def planted(prompts, layer):
    """Return ``h [N, d]`` of a layer; a prompt's row does not depend on the other prompts."""
    rows = []
    for p in prompts:
        seed = int(hashlib.sha256(f"{p.key}/{layer}".encode()).hexdigest()[:8], 16)
        language = int(hashlib.sha256(f"{p.language}/{layer}".encode()).hexdigest()[:8], 16)
        offset = 2 * noise(language, D)
        offset[[HARM, TOPIC]] = 0
        row = noise(seed, D) + offset
        row[HARM] += HARM_AT[layer] * (1 if p.harmful else -1)
        row[TOPIC] -= TOPIC_AT[layer] * (not p.harmful and p.pair_id is None)
        rows.append(row)
    return torch.stack(rows)


PROMPTS = prompts_of()
STATES = {layer: planted(PROMPTS, layer) for layer in range(len(HARM_AT))}


def data(prompts=PROMPTS, sources=SOURCES, states=None):
    found = states or (STATES if prompts is PROMPTS else None)
    made = found or {layer: planted(prompts, layer) for layer in range(len(HARM_AT))}
    return Data(tuple(prompts), made.__getitem__, tuple(sources))


@pytest.fixture(scope="module")
def fitter():
    return Fitter(data(), rank=4)


# ---------------------------------------------------------------------------------------------
# data


def test_sides_and_pools():
    found = data()
    assert found.harmful.tolist() == [p.harmful for p in PROMPTS]
    harmful, harmless = found.sides(found.pool("de", "val"))
    assert [PROMPTS[i].key for i in harmful] == [
        p.key for p in PROMPTS if p.language == "de" and p.split == "val" and p.harmful
    ]
    assert len(harmful) == len(harmless) == 26
    twins = found.held_out("de", "twins")
    assert [len(side) for side in twins] == [10, 10]
    assert all(PROMPTS[i].pair_id for side in twins for i in side)
    assert not any(PROMPTS[i].pair_id for side in found.held_out("de", "topic") for i in side)
    assert all(PROMPTS[i].split == "val" for side in twins for i in side)


def test_train_groups_are_the_sources_train_prompts_of_both_classes():
    found = data().train_groups
    assert set(found) == {(s, c) for s in SOURCES for c in ("topic", "twins")}
    rows = np.concatenate([side for sides in found.values() for side in sides])
    assert {PROMPTS[i].split for i in rows} == {"train"}
    no_twins = [p for p in PROMPTS if p.language != "de" or p.pair_id is None or p.harmful]
    assert ("de", "twins") not in data(no_twins).train_groups
    assert ("de", "topic") in data(no_twins).train_groups


# ---------------------------------------------------------------------------------------------
# layers


def test_the_planted_layer_is_chosen_and_topic_does_not_fool_it(fitter):
    """Block 2 tells topics apart perfectly and harm not at all; block 3 tells both."""
    best, *others = fitter.choose_layers([0, 1, 2, 3, 4], 1)
    assert best.layers == (3,)
    assert {c.layers for c in others} == {(0,), (1,), (2,), (4,)}
    assert all(best.merit >= c.merit for c in others)
    assert best.by_contrast["twins"] > 0.95
    assert best.by_contrast["topic"] > 0.95
    assert best.balanced_accuracy > 0.9
    topic_only = next(c for c in others if c.layers == (2,))
    assert topic_only.by_contrast["topic"] > 0.99
    assert abs(topic_only.by_contrast["twins"] - 0.5) < 0.2
    nothing = next(c for c in others if c.layers == (0,))
    assert abs(nothing.by_contrast["topic"] - 0.5) < 0.2
    assert {c.l2 for c in (best, *others)} <= set(L2_GRID)


def test_a_layer_is_added_only_where_it_helps():
    """Blocks 1 and 4 carry weak independent signs of harm; together they are better than alone."""
    fitter = Fitter(data(), rank=4)
    single = fitter.best_l2([4])
    best, *others = fitter.choose_layers([1, 4], 3)
    pair = fitter.best_l2([4, 1])
    assert pair.layers == (1, 4)
    assert pair.merit > single.merit
    assert best.layers == (1, 4)
    assert best.merit == pytest.approx(pair.merit)
    assert len(others) == 2
    # A layer of noise is not added to a good one.
    assert Fitter(data(), rank=4).choose_layers([0, 3], 2)[0].layers == (3,)
    assert Fitter(data(), rank=4).choose_layers([3], 8)[0].layers == (3,)


def test_merit_is_the_mean_over_contrasts_and_left_out_languages(fitter):
    choice = fitter.judge([4], 0.01)
    scores = fitter.scores([4], 0.01, SOURCES)
    want = []
    for contrast in ("topic", "twins"):
        values = []
        for language in SOURCES:
            a, b = fitter.data.held_out(language, contrast)
            values.append(auroc(scores[language][a], scores[language][b]))
        assert choice.by_contrast[contrast] == pytest.approx(np.mean(values))
        want.append(np.mean(values))
    assert choice.merit == pytest.approx(np.mean(want))
    sides = [fitter.data.held_out(s, "topic") for s in SOURCES]
    pooled = [np.concatenate([scores[s][x[i]] for s, x in zip(SOURCES, sides)]) for i in (0, 1)]
    threshold = source_rule(*pooled)
    assert choice.balanced_accuracy == pytest.approx(
        np.mean([balanced_accuracy(scores[s][a], scores[s][b], threshold)
                 for s, (a, b) in zip(SOURCES, sides)])
    )  # fmt: skip


def test_without_twins_layers_are_chosen_by_topic():
    plain = [p for p in PROMPTS if p.pair_id is None]
    best = Fitter(data(plain), rank=4).choose_layers([0, 2, 4], 1)[0]
    assert best.layers == (2,)  # nothing in the data says that topic is not harm
    assert math.isnan(best.by_contrast["twins"])
    assert best.merit == best.by_contrast["topic"]


def test_without_val_prompts_layers_cannot_be_chosen():
    train = [p for p in PROMPTS if p.split == "train"]
    fitter = Fitter(data(train), rank=4)
    with pytest.raises(UserError, match="no val prompts of both classes"):
        fitter.choose_layers([1, 3], 1)
    # Named layers can still be fitted; what cannot be known is NaN.
    assert math.isnan(fitter.best_l2([3]).merit)


# ---------------------------------------------------------------------------------------------
# folds


def poisoned(language, split, layer=3):
    """Harm turned round, and a shift, in the states of one language and split."""
    states = {k: v.clone() for k, v in STATES.items()}
    rows = [i for i, p in enumerate(PROMPTS) if (p.language, p.split) == (language, split)]
    assert len(rows) == 52
    states[layer][rows] = -3 * states[layer][rows] + 5
    return states


def test_a_left_out_language_does_not_touch_its_own_scores(fitter):
    """Ruin the German train prompts: German left-out scores stay, bit by bit; others change."""
    other = Fitter(data(states=poisoned("de", "train")), rank=4)
    before = fitter.scores([3], 0.01, [*SOURCES, "sw"])
    after = other.scores([3], 0.01, [*SOURCES, "sw"])
    val = {x: [i for i, p in enumerate(PROMPTS) if (p.language, p.split) == (x, "val")]
           for x in (*SOURCES, "sw")}  # fmt: skip
    assert (before["de"][val["de"]] == after["de"][val["de"]]).all()
    for language in ("en", "fr", "sw"):
        change = np.abs(before[language][val[language]] - after[language][val[language]])
        assert change.max() > 0.1


@pytest.mark.parametrize(("language", "split"), [("de", "val"), ("sw", "train"), ("sw", "val")])
def test_nothing_is_fitted_on_val_prompts_or_targets(fitter, language, split):
    other = Fitter(data(states=poisoned(language, split)), rank=4)
    for fold in (None, "en", "de"):
        a, b = fitter.probe([3], fold, 0.01), other.probe([3], fold, 0.01)
        assert (a.weight == b.weight).all()
        assert a.bias == b.bias


def test_a_target_is_scored_by_the_fit_on_all_sources(fitter):
    scores = fitter.scores([1, 3], 0.01, ["sw", "xx", "en"])
    probe = fitter.probe([1, 3], None, 0.01)
    direct = probe.score(fitter._coordinates([1, 3], None))
    assert (scores["sw"] == direct).all()
    assert (scores["xx"] == direct).all()
    assert (scores["en"] != direct).any()


def test_each_fold_by_the_slow_way(fitter):
    """Directions of English and French, both contrasts; their subspace; a probe on their train."""
    train = [i for i, p in enumerate(PROMPTS) if p.split == "train" and p.language in ("en", "fr")]
    h = STATES[3]
    directions = []
    for language in ("en", "fr"):
        for twin in (False, True):
            side = {
                harmful: [
                    i
                    for i in train
                    if PROMPTS[i].language == language
                    and PROMPTS[i].harmful is harmful
                    and (PROMPTS[i].pair_id is not None) is twin
                ]
                for harmful in (True, False)
            }
            directions.append(mean_difference(h[side[True]], h[side[False]]))
    basis = source_subspace(torch.stack(directions), 4)
    harmful = np.array([PROMPTS[i].harmful for i in train])
    cells = [(PROMPTS[i].language, str(PROMPTS[i].pair_id is None)) for i in train]
    weights = balanced_weights(cells, harmful)
    probe = fit_probe((h[train] @ basis).numpy(), harmful, weights, 0.01)
    want = probe.score((h @ basis).double().numpy())
    assert fitter.scores([3], 0.01, ["de"])["de"] == pytest.approx(want, abs=1e-4)


def test_one_source_has_no_left_out_fold():
    pool = [p for p in PROMPTS if p.language in ("en", "sw")]
    fitter = Fitter(data(pool, sources=("en",)), rank=4)
    scores = fitter.scores([3], 0.01, ["en", "sw"])
    assert (scores["en"] == scores["sw"]).all()
    assert fitter.choose_layers([0, 3], 1)[0].layers == (3,)


def test_order_of_prompts_and_layers_does_not_matter(fitter):
    order = np.random.default_rng(0).permutation(len(PROMPTS))
    shuffled = [PROMPTS[i] for i in order]
    other = Fitter(data(shuffled, states={k: v[order.copy()] for k, v in STATES.items()}), rank=4)
    a, b = (f.scores([3, 1], 0.01, ["de"])["de"] for f in (fitter, other))
    assert b == pytest.approx(a[order], abs=1e-4)
    assert (fitter.scores([1, 3], 0.01, ["de"])["de"] == a).all()


def test_layers_are_read_once():
    read = []

    def states(layer):
        read.append(layer)
        return STATES[layer]

    fitter = Fitter(Data(PROMPTS, states, SOURCES), rank=4)
    fitter.choose_layers([1, 3, 4], 3)
    fitter.statistics([1, 3], 0.01)
    assert sorted(read) == [1, 3, 4]


@pytest.mark.parametrize("label", ["harmful", "harmless"])
def test_sources_of_one_class_are_a_clear_error(label):
    """German alone keeps both classes: leaving it out leaves nothing to train on."""
    lame = [p for p in PROMPTS if p.language == "de" or p.label == label]
    with pytest.raises(UserError, match="source languages en, fr have no train prompts of both"):
        Fitter(data(lame), rank=4)
    with pytest.raises(UserError, match="source languages en have no train prompts of both"):
        Fitter(data(lame, sources=("en",)), rank=4)


# ---------------------------------------------------------------------------------------------
# statistics and the gate


def test_statistics_come_from_left_out_scores(fitter):
    scores = fitter.scores([3], 0.01, SOURCES)
    pairs, drawn = {}, {}
    for language in SOURCES:
        for found, split in ((pairs, "val"), (drawn, "train")):
            a, b = fitter.data.sides(fitter.data.pool(language, split))
            found[language] = scores[language][a], scores[language][b]
    got = fitter.statistics([3], 0.01)
    want = SourceStatistics.from_scores(pairs, like_shots=drawn)
    assert want.midpoint != SourceStatistics.from_scores(pairs).midpoint
    for name in ("threshold", "midpoint", "between", "within", "n_languages"):
        assert getattr(got, name) == getattr(want, name)
    # The paper sets its threshold on the scores of the train prompts themselves.
    in_sample = fitter.scores([3], 0.01, ["sw"])["sw"]
    rows = [i for i, p in enumerate(PROMPTS) if p.split == "train" and p.language in SOURCES]
    harmful = np.array([PROMPTS[i].harmful for i in rows])
    train = in_sample[rows][harmful], in_sample[rows][~harmful]
    assert got.paper_threshold == SourceStatistics.from_scores(pairs, train=train).paper_threshold


def gate_of(fitter, layers, strength=1.0):
    choice = fitter.judge(layers, 0.01)
    return fitter.gate(
        choice, position="t_post", model=IDENTITY, strength=strength,
        thresholds={"sw": 0.5}, default_threshold=-0.25, provenance={"seed": 3},
    )  # fmt: skip


@pytest.mark.parametrize("layers", [(3,), (1, 3), (0, 1, 4)])
def test_gate_scores_equal_the_probes_the_slow_way(fitter, layers):
    """s = sum over features of ((B^T h - mean) / scale) weight + bias, one prompt at a time."""
    gate = gate_of(fitter, layers)
    assert gate.layers == layers
    got = gate.score(STATES)
    assert got.shape == (len(PROMPTS),)
    for i in range(0, len(PROMPTS), 7):
        z = [float(STATES[x][i] @ gate.bases[x][:, j])
             for x in layers for j in range(gate.bases[x].shape[1])]  # fmt: skip
        parts = zip(z, gate.mean.tolist(), gate.scale.tolist(), gate.weight.tolist())
        slow = sum((value - mean) / scale * weight for value, mean, scale, weight in parts)
        assert float(got[i]) == pytest.approx(slow + gate.bias, abs=1e-4)
    in_sample = fitter.scores(layers, 0.01, ["sw"])["sw"]
    assert got.numpy() == pytest.approx(in_sample, abs=1e-4)


def test_gate_direction_and_strength_by_formula(fitter):
    """After the last layer read, over all sources' train prompts pooled."""
    gate = gate_of(fitter, (1, 3), strength=0.5)
    train = [i for i, p in enumerate(PROMPTS) if p.split == "train" and p.language in SOURCES]
    h = STATES[3].double()
    harmful = h[[i for i in train if PROMPTS[i].harmful]]
    harmless = h[[i for i in train if not PROMPTS[i].harmful]]
    difference = harmful.mean(0) - harmless.mean(0)
    v = difference / difference.norm()
    torch.testing.assert_close(gate.direction.double(), v, atol=1e-6, rtol=0)
    high = np.quantile((harmful @ v).numpy(), 0.75)
    low = np.quantile((harmless @ v).numpy(), 0.25)
    assert gate.alpha == pytest.approx(0.5 * (high - low), rel=1e-5)
    assert gate.steer_layer == 3
    assert gate_of(fitter, (1, 3), strength=0.0).alpha == 0
    # The planted directions, and little else, are in it.
    assert float(gate.direction[[HARM, TOPIC]].norm()) > 0.95


def test_gate_keeps_what_it_was_given(fitter):
    gate = gate_of(fitter, (3,))
    assert gate.thresholds == {"sw": 0.5}
    assert gate.default_threshold == -0.25
    assert gate.model == IDENTITY
    assert gate.provenance == {"seed": 3}
    for basis in gate.bases.values():
        torch.testing.assert_close(basis.T @ basis, torch.eye(4), atol=1e-5, rtol=0)


def test_rank_is_bounded_by_languages_and_contrasts():
    pool = [p for p in PROMPTS if p.pair_id is None]
    gate = gate_of(Fitter(data(pool), rank=10), (3,))
    assert gate.bases[3].shape == (D, 3)
    assert gate_of(Fitter(data(), rank=10), (3,)).bases[3].shape == (D, 6)
    assert gate_of(Fitter(data(), rank=1), (3, 4)).weight.shape == (2,)


def test_the_fit_is_deterministic(fitter):
    a, b = gate_of(fitter, (1, 3)), gate_of(Fitter(data(), rank=4), (1, 3))
    for name in ("mean", "scale", "weight", "direction"):
        assert torch.equal(getattr(a, name), getattr(b, name))
    assert (a.bias, a.alpha) == (b.bias, b.alpha)
    assert dataclasses.asdict(fitter.statistics([3], 0.1)) == dataclasses.asdict(
        Fitter(data(), rank=4).statistics([3], 0.1)
    )


# ---------------------------------------------------------------------------------------------
# principal components of the states


@pytest.fixture(scope="module")
def by_states():
    return Fitter(data(), rank=10, basis="states")


def test_the_planted_layer_is_chosen_with_components_too(by_states):
    best, *others = by_states.choose_layers([0, 1, 2, 3, 4], 1)
    assert best.layers == (3,)
    assert best.by_contrast["twins"] > 0.95
    assert {c.l2 for c in (best, *others)} <= set(SHRINKAGE_GRID)
    more, *others = by_states.choose_layers([1, 4], 3)
    assert {c.layers for c in (more, *others)} == {(1,), (4,), (1, 4)}
    assert more.layers == (1, 4)
    assert more.merit > by_states.best_l2([4]).merit


def test_sets_of_layers_are_spread_evenly():
    assert spread_layers(range(1, 20), 3)[-2:] == [(6, 12, 18), (6, 13, 19)]
    assert (4, 8, 12, 16) in spread_layers(range(1, 20), 4)
    assert spread_layers(range(1, 20), 1) == [(x,) for x in range(1, 20)]
    # Where few layers are allowed, the nearest of them; never the same twice.
    assert spread_layers([2, 8, 9], 2) == [(2, 8), (2, 9)]
    assert spread_layers([5], 2) == []
    for n in (2, 3, 5):
        sets = spread_layers(range(1, 20), n)
        assert len(sets) == len(set(sets)) > 10
        for layers in sets:
            steps = np.diff((0, *layers))
            assert len(layers) == n
            assert steps.max() - steps.min() <= 2


def test_a_fold_with_components_by_the_slow_way(by_states):
    """Components of the fold's train states per block, one scale per block, one discriminant."""
    train = [i for i, p in enumerate(PROMPTS) if p.split == "train" and p.language in ("en", "fr")]
    harmful = np.array([PROMPTS[i].harmful for i in train])
    # The two contrasts weigh the same; so they do here, with one set of either in each language.
    cells = [(PROMPTS[i].language, str(PROMPTS[i].pair_id is None)) for i in train]
    columns = []
    for layer in (1, 3):
        h = STATES[layer].numpy()
        away = h - h[train].mean(0)
        z = away @ principal_subspace(h[train], 10)
        columns.append(z / np.sqrt((z[train] ** 2).sum(1).mean()))
    z = np.concatenate(columns, axis=1)
    part = spread(z[train], harmful, balanced_weights(cells, harmful))
    probe = discriminant(part.means, (part.rows.T @ part.rows).astype(float), 0.1)
    got = by_states.scores([3, 1], 0.1, ["de"])["de"]
    assert got == pytest.approx(probe.score(z), abs=1e-3)


@pytest.mark.parametrize("layers", [(3,), (1, 3, 4)])
def test_a_gate_of_components_scores_as_its_probe(by_states, layers):
    choice = by_states.judge(layers, 0.1)
    gate = by_states.gate(
        choice, position="t_post", model=IDENTITY, strength=1.0,
        thresholds={}, default_threshold=0.0, provenance={},
    )  # fmt: skip
    want = by_states.scores(layers, 0.1, ["sw"])["sw"]
    assert gate.score(STATES).numpy() == pytest.approx(want, abs=1e-3)
    for basis in gate.bases.values():
        torch.testing.assert_close(basis.T @ basis, torch.eye(10), atol=1e-5, rtol=0)


def test_folds_with_components_see_nothing_they_should_not(by_states):
    before = by_states.scores([3], 0.1, [*SOURCES, "sw"])
    ruined = Fitter(data(states=poisoned("de", "train")), rank=10, basis="states")
    val = [i for i, p in enumerate(PROMPTS) if (p.language, p.split) == ("de", "val")]
    assert (before["de"][val] == ruined.scores([3], 0.1, ["de"])["de"][val]).all()
    assert (before["en"] != ruined.scores([3], 0.1, ["en"])["en"]).any()
    for language, split in (("de", "val"), ("sw", "train"), ("sw", "val")):
        other = Fitter(data(states=poisoned(language, split)), rank=10, basis="states")
        for fold in (None, "en", "de"):
            a, b = by_states.probe([3], fold, 0.1), other.probe([3], fold, 0.1)
            assert (a.weight == b.weight).all()


def test_each_set_of_twins_weighs_the_same():
    """Nine tenths of German's twins from one set: the other still counts half."""
    marked = tuple(
        dataclasses.replace(p, source="few" if p.id.endswith("twin0") else "many")
        if p.pair_id is not None
        else p
        for p in PROMPTS
    )
    fold = Fitter(data(marked, states=STATES), rank=4)._folds[None]
    total = {"few": 0.0, "many": 0.0}
    for row, weight in zip(fold.rows, fold.weights):
        if marked[row].language == "de" and marked[row].pair_id is not None:
            total[marked[row].source] += weight
    assert total["few"] == pytest.approx(total["many"])
    assert total["few"] > 0


@pytest.mark.parametrize(("basis", "share"), [("directions", 1 / 3), ("states", 1 / 2)])
def test_the_share_of_plain_prompts(basis, share):
    """Two sets of twins and plain prompts: by cells a third each, by contrasts half and half."""
    marked = tuple(
        dataclasses.replace(p, source=p.id[-1]) if p.pair_id is not None else p for p in PROMPTS
    )
    marked = tuple(p for p in marked if p.source in ("", "0", "1"))
    fold = Fitter(data(marked), rank=4, basis=basis)._folds[None]
    plain = np.array([marked[row].pair_id is None for row in fold.rows])
    assert fold.weights[plain].sum() / fold.weights.sum() == pytest.approx(share)
