"""Every number of the fast path against loops over pairs and prompts, written out."""

import math

import numpy as np
import pytest
import torch

from babelgate.geometry.driver import pairwise_geometry
from babelgate.geometry.members import KINDS, Members
from babelgate.geometry.table import Settings
from babelgate.metrics import auroc, balanced_accuracy
from babelgate.rivals.omniguard import u_score
from babelgate.thresholds import source_rule

from .made import LANGUAGES, SOURCES, D, made_states, made_table

TABLE = made_table()
STATES = made_states(TABLE)
SETTINGS = Settings(halvings=3, ranks=4, projection_layers=(1,))
CLOSE = 2e-6


@pytest.fixture(scope="module")
def found():
    return pairwise_geometry(
        lambda layer, position: STATES[layer],
        TABLE,
        layers=(0, 1),
        positions=("t_post",),
        sources=SOURCES,
        settings=SETTINGS,
    ).tables


def rows_of(language=None, harmful=None, split=None, refused=None):
    return [
        i
        for i in range(len(TABLE))
        if (language is None or TABLE.language[i] == language)
        and (harmful is None or TABLE.harmful[i] == harmful)
        and (split is None or TABLE.split[i] == split)
        and (refused is None or TABLE.refused[i] == refused)
    ]


def mean(layer, rows):
    total = np.zeros(D)
    for i in rows:
        total += STATES[layer, i].astype(np.float64)
    return total / len(rows)


def cos(a, b):
    return float(a @ b / math.sqrt((a @ a) * (b @ b)))


def direction(layer, language, kind="harmfulness"):
    if kind == "harmfulness":
        sides = [rows_of(language, side, "train") for side in (True, False)]
    else:
        among = {"refusal": None, "refusal_harmful": True, "refusal_harmless": False}[kind]
        sides = [rows_of(language, among, refused=value) for value in (1, 0)]
    return mean(layer, sides[0]) - mean(layer, sides[1])


def pooled(layer, language, what=direction):
    return np.mean([what(layer, s) for s in SOURCES if s != language], axis=0)


def scores(layer, vector, rows):
    u = vector / np.linalg.norm(vector)
    return np.array([STATES[layer, i].astype(np.float64) @ u for i in rows])


def judged_rows(language):
    return [rows_of(language, side, "val") for side in (True, False)]


def test_cosines_of_all_kinds_and_their_counts(found):
    assert {(m.layer, m.kind) for m in found.cosines} == {(x, k) for x in (0, 1) for k in KINDS}
    for matrix in found.cosines:
        assert matrix.languages == LANGUAGES
        for i, a in enumerate(LANGUAGES):
            for j, b in enumerate(LANGUAGES):
                pair = [direction(matrix.layer, code, matrix.kind) for code in (a, b)]
                assert matrix.cosines[i][j] == pytest.approx(cos(*pair), abs=CLOSE)
    first = found.cosines[0]
    assert first.n_positive[0] == len(rows_of("en", True, "train"))
    refusal = next(m for m in found.cosines if m.kind == "refusal_harmless")
    assert refusal.n_negative[1] == len(rows_of("de", False, refused=0))


def test_reliability_is_the_stepped_up_mean_cosine_of_the_same_halves(found):
    present = np.ones(len(TABLE), dtype=bool)
    for matrix in found.cosines:
        for i, code in enumerate(LANGUAGES):
            members = Members.of(TABLE, code, present, SETTINGS)
            weights = members.halves(matrix.kind)
            assert len(weights) == 2 * SETTINGS.halvings
            c = []
            for first, second in zip(weights[:3], weights[3:]):
                assert not ((first != 0) & (second != 0)).any()
                halves = []
                for row in (first, second):
                    places = [members.rows[row > 0], members.rows[row < 0]]
                    assert min(map(len, places)) >= 2
                    halves.append(mean(matrix.layer, places[0]) - mean(matrix.layer, places[1]))
                c.append(cos(*halves))
            r = 2 * np.mean(c) / (1 + np.mean(c))
            assert matrix.reliability[i] == pytest.approx(r, abs=CLOSE)
    i, j = 0, 2
    product = max(matrix.reliability[i], 0) * max(matrix.reliability[j], 0)
    assert matrix.ceiling[i, j] == pytest.approx(math.sqrt(product))


def shared_groups(a, b, harmful):
    groups = [{TABLE.group[i] for i in rows_of(code, harmful)} for code in (a, b)]
    return sorted(groups[0] & groups[1])


def test_parallelism_uses_the_same_translations_on_both_sides(found):
    assert len(found.parallelism) == 2
    for row in found.parallelism:
        middles = [
            (
                mean(row.layer, rows_of(c, True, "train"))
                + mean(row.layer, rows_of(c, False, "train"))
            )
            / 2
            for c in LANGUAGES
        ]
        _, values, vt = np.linalg.svd(np.array(middles) - np.mean(middles, axis=0))
        basis = vt[: (values > 1e-9).sum()]
        assert len(basis) == 3
        for i, a in enumerate(LANGUAGES):
            for j, b in enumerate(LANGUAGES):
                groups = {side: shared_groups(a, b, side) for side in (True, False)}
                assert row.n_harmful[i][j] == len(groups[True])
                assert row.n_harmless[i][j] == len(groups[False])
                pair = []
                for code in (a, b):
                    sides = [
                        [x for x in rows_of(code, side) if TABLE.group[x] in groups[side]]
                        for side in (True, False)
                    ]
                    pair.append(mean(row.layer, sides[0]) - mean(row.layer, sides[1]))
                assert row.cosines[i][j] == pytest.approx(cos(*pair), abs=CLOSE)
                outside = [v - basis.T @ (basis @ v) for v in pair]
                assert row.without_language[i][j] == pytest.approx(cos(*outside), abs=CLOSE)
                if i != j:
                    assert row.angles[i, j] == pytest.approx(
                        math.degrees(math.acos(cos(*pair))), abs=1e-3
                    )
        assert row.n_harmful[0][1] < row.n_harmful[0][0]


def test_subspace_shares_leave_a_source_out(found):
    assert len(found.shares) == 2 * len(LANGUAGES)
    for row in found.shares:
        others = [s for s in SOURCES if s != row.language]
        stack = [direction(row.layer, s) for s in others]
        stack = [v / np.linalg.norm(v) for v in stack]
        _, _, vt = np.linalg.svd(np.array(stack), full_matrices=False)
        u = direction(row.layer, row.language)
        u = u / np.linalg.norm(u)
        assert row.n_sources == len(others)
        for r, (share, random) in enumerate(zip(row.shares, row.random), 1):
            assert random == pytest.approx(r / D)
            if r > len(others):
                assert math.isnan(share)
            else:
                assert share == pytest.approx(sum((v @ u) ** 2 for v in vt[:r]), abs=CLOSE)


def test_separability_at_the_threshold_of_other_languages(found):
    assert len(found.separability) == 2 * 2 * len(LANGUAGES)
    for row in found.separability:
        own = direction(row.layer, row.language)
        vector = own if row.direction == "own" else pooled(row.layer, row.language)
        harmful, harmless = (scores(row.layer, vector, side) for side in judged_rows(row.language))
        assert row.auroc.value == pytest.approx(auroc(harmful, harmless), abs=1e-12)
        assert row.auroc.low <= row.auroc.value <= row.auroc.high
        spread = math.sqrt(
            (
                np.square(harmful - harmful.mean()).sum()
                + np.square(harmless - harmless.mean()).sum()
            )
            / (len(harmful) + len(harmless) - 2)
        )
        assert row.gap == pytest.approx((harmful.mean() - harmless.mean()) / spread, abs=1e-5)
        assert (row.n_harmful, row.n_harmless) == (len(harmful), len(harmless))
        if row.direction == "own":
            assert row.balanced_source is None
            assert math.isnan(row.threshold)
            continue
        others = [s for s in SOURCES if s != row.language]
        sides = [
            np.concatenate([scores(row.layer, vector, judged_rows(s)[side]) for s in others])
            for side in (0, 1)
        ]
        cut = source_rule(*sides)
        assert row.threshold == pytest.approx(cut, abs=1e-4)
        expected = balanced_accuracy(harmful, harmless, cut)
        assert row.balanced_source.value == pytest.approx(expected, abs=1e-12)


def test_length_is_partialled_out_of_states_and_of_projections(found):
    assert len(found.lengths) == 2 * 2 * len(LANGUAGES)
    length = np.log(TABLE.tokens)

    def fitted(values, language):
        """Values of all prompts minus the line through this language's train prompts."""
        train = rows_of(language, split="train")
        x, y = length[train], values[train]
        slope = ((x - x.mean()) @ (y - y.mean())) / ((x - x.mean()) @ (x - x.mean()))
        return values - y.mean(0) - np.multiply.outer(length - x.mean(), slope)

    def residual(layer, language):
        states = fitted(STATES[layer].astype(np.float64), language)
        sides = [states[rows_of(language, side, "train")] for side in (True, False)]
        return sides[0].mean(0) - sides[1].mean(0)

    for row in found.lengths:
        harmful, harmless = judged_rows(row.language)
        vector = residual(row.layer, row.language)
        if row.direction == "source":
            vector = pooled(row.layer, row.language, residual)
        projected = fitted(scores(row.layer, vector, range(len(TABLE))), row.language)
        expected = auroc(projected[harmful], projected[harmless])
        assert row.residual_auroc.value == pytest.approx(expected, abs=1e-12)
        assert row.length_auroc.value == pytest.approx(auroc(length[harmful], length[harmless]))
        plain = next(
            s
            for s in found.separability
            if (s.layer, s.language, s.direction) == (row.layer, row.language, row.direction)
        )
        assert row.auroc == plain.auroc


def test_translations_against_all_pairs_and_against_the_rival_that_uses_the_score(found):
    assert len(found.translation) == 2 * (len(LANGUAGES) - 1)
    for row in found.translation:
        groups = {(TABLE.group[i], TABLE.harmful[i]): i for i in rows_of("en")}
        pairs = [
            (i, groups[TABLE.group[i], TABLE.harmful[i]])
            for i in rows_of(row.language)
            if (TABLE.group[i], TABLE.harmful[i]) in groups
        ]
        x, y = (STATES[row.layer, list(side)].astype(np.float64) for side in zip(*pairs))
        for centred in (False, True):
            if centred:
                x, y = x - x.mean(0), y - y.mean(0)
            table = np.array([[cos(a, b) for b in y] for a in x])
            name = "centred" if centred else "raw"
            matched = np.mean([table[i, i] for i in range(len(x))])
            hits = [table[i].argmax() == i for i in range(len(x))]
            expected = u_score(torch.from_numpy(x)[:, None], torch.from_numpy(y)[:, None])[0]
            assert getattr(row, f"u_{name}") == pytest.approx(expected, abs=CLOSE)
            assert getattr(row, f"matched_{name}") == pytest.approx(matched, abs=CLOSE)
            assert getattr(row, f"identified_{name}").value == pytest.approx(np.mean(hits))
        assert row.n == len(pairs)
        assert row.chance == 1 / len(pairs)
        assert row.identified_centred.value > 3 * row.chance


def test_harm_against_refusal(found):
    assert len(found.harm_refusal) == 2 * len(LANGUAGES)
    for row in found.harm_refusal:
        harm, every, harmful, harmless = (direction(row.layer, row.language, k) for k in KINDS)
        assert row.overall == pytest.approx(cos(harm, every), abs=CLOSE)
        assert row.among_harmful == pytest.approx(cos(harm, harmful), abs=CLOSE)
        assert row.among_harmless == pytest.approx(cos(harm, harmless), abs=CLOSE)
        assert row.between == pytest.approx(cos(harmful, harmless), abs=CLOSE)
        assert row.n_refused_harmful == len(rows_of(row.language, True, refused=1))
        assert row.n_answered_harmless == len(rows_of(row.language, False, refused=0))


def test_nearest_centroids_by_distance(found):
    assert len(found.centroids) == 2 * len(LANGUAGES)
    for row in found.centroids:

        def centroids(codes, layer=row.layer):
            return [
                np.mean([mean(layer, rows_of(c, side, "train")) for c in codes], axis=0)
                for side in (True, False)
            ]

        origins = {
            "own": centroids([row.language]),
            "pivot": centroids(["en"]),
            "source": centroids([s for s in SOURCES if s != row.language]),
        }
        harmful, harmless = judged_rows(row.language)
        decisions = {}
        for name, (h, n) in origins.items():
            decisions[name] = [
                np.linalg.norm(STATES[row.layer, i] - h) <= np.linalg.norm(STATES[row.layer, i] - n)
                for i in harmful + harmless
            ]
            hits = np.mean(decisions[name][: len(harmful)])
            alarms = np.mean(decisions[name][len(harmful) :])
            assert getattr(row, name).value == pytest.approx((hits + 1 - alarms) / 2)
        for a, b in (("own", "pivot"), ("own", "source"), ("pivot", "source")):
            same = np.mean(np.array(decisions[a]) == np.array(decisions[b]))
            assert getattr(row, f"{a}_{b}") == pytest.approx(same)
    assert any(row.own_pivot < 1 for row in found.centroids)


def test_pictures_hold_projections_on_axes_and_principal_components(found):
    (picture,) = found.projections
    assert (picture.layer, picture.position) == (1, "t_post")
    assert sorted(picture.rows) == list(range(len(TABLE)))
    for row, code, harmful, refused in zip(
        picture.rows, picture.languages, picture.harmful, picture.refused
    ):
        assert (TABLE.language[row], TABLE.harmful[row]) == (code, harmful)
        known = TABLE.refused[row]
        assert refused is None if math.isnan(known) else refused == bool(known)
    origin = mean(1, rows_of(split="train"))
    rows = list(picture.rows)
    harm = np.mean([direction(1, s) for s in SOURCES], axis=0)
    refusal = np.mean([direction(1, s, "refusal") for s in SOURCES], axis=0)
    for name, vector in (("harmfulness", harm), ("refusal", refusal)):
        u = vector / np.linalg.norm(vector)
        expected = (STATES[1, rows].astype(np.float64) - origin) @ u
        assert getattr(picture, name) == pytest.approx(expected, abs=1e-4)
    assert picture.harm_refusal_cosine == pytest.approx(cos(harm, refusal), abs=CLOSE)
    train = STATES[1, rows_of(split="train")].astype(np.float64)
    _, values, vt = np.linalg.svd(train - origin, full_matrices=False)
    for k, name in enumerate(("first", "second")):
        expected = (STATES[1, rows] - origin) @ vt[k]
        got = np.array(getattr(picture, name))
        assert abs(cos(got, expected)) == pytest.approx(1, abs=1e-4)
        assert np.linalg.norm(got) == pytest.approx(np.linalg.norm(expected), rel=1e-4)
        share = values[k] ** 2 / (values**2).sum()
        assert picture.explained[k] == pytest.approx(share, abs=1e-4)
    middles = np.array(
        [np.mean([mean(1, rows_of(c, s, "train")) for s in (True, False)], 0) for c in LANGUAGES]
    )
    _, _, vt = np.linalg.svd(middles - middles.mean(0))
    expected = (STATES[1, rows] - origin) @ vt[0]
    assert abs(cos(np.array(picture.language), expected)) == pytest.approx(1, abs=1e-5)
