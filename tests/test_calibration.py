"""Calibration on planted activations, end to end: who plays which part, shots, tables, refusals."""

import dataclasses
import json
from collections import Counter

import numpy as np
import pytest
import torch

from babelgate import calibration
from babelgate.config import CalibrateSettings
from babelgate.errors import LanguageError, PromptError, UserError
from babelgate.fit import Fitter
from babelgate.fit_data import Data
from babelgate.metrics import auroc, balanced_accuracy
from babelgate.plan import Plan, States, candidate_layers
from babelgate.results import Diagnosis
from babelgate.thresholds import threshold_for
from babelgate.types import Prompt, PromptSet, side_of
from test_fit import HARM_AT, IDENTITY, SOURCES, planted, prompts_of

TARGETS = ("sw", "yo")
SET = PromptSet("planted", prompts_of((*SOURCES, *TARGETS), plain=9, pairs=5))
SETTINGS = CalibrateSettings(
    sources=SOURCES, targets=TARGETS, readout_layers=1, shots=3, curve=(0, 1, 3), draws=5, rank=4
)


@dataclasses.dataclass(frozen=True)
class Store:
    """Activations in memory, as calibration reads them."""

    keys: tuple[str, ...]
    values: dict
    excluded: dict = dataclasses.field(default_factory=dict)

    def select(self, keys):
        return Store(tuple(keys), self.values, self.excluded)

    def layer(self, layer, position):
        assert position == "t_post"
        return torch.stack([self.values[layer][key] for key in self.keys])


def states_of(prompts, excluded=()):
    """One store per language."""
    stores = []
    for language in prompts.languages:
        own = [p for p in prompts if p.language == language]
        keys = tuple(p.key for p in own)
        values = {x: dict(zip(keys, planted(own, x))) for x in range(len(HARM_AT))}
        out = {key: "of 999 tokens, longer than the context" for key in keys if key in excluded}
        stores.append(Store(keys, values, out))
    return States(tuple(stores))


def settings_with(**changes):
    return CalibrateSettings(**(SETTINGS.model_dump() | changes))


def calibrate(**changes):
    settings = settings_with(**changes)
    plan = Plan.of(SET, settings)
    return plan, calibration.run(plan, STATES, IDENTITY, settings)


STATES = states_of(SET)


@pytest.fixture(scope="module")
def made():
    return calibrate()


# ---------------------------------------------------------------------------------------------
# the plan


def cells(plan):
    return Counter((p.language, p.split, p.label) for p in plan.prompts)


def test_the_plan_takes_train_and_val_and_no_test_prompts():
    test = Prompt("t", "en", "a test prompt", "harmful", "test")
    plan = Plan.of(PromptSet("s", (*SET.prompts, test)), SETTINGS)
    assert plan.sources == SOURCES
    assert plan.targets == TARGETS
    assert set(cells(plan)) == {
        (language, split, label)
        for language in (*SOURCES, *TARGETS)
        for split in ("train", "val")
        for label in ("harmful", "harmless")
    }
    assert set(cells(plan).values()) == {14}


def test_sources_are_the_high_tier_and_targets_the_rest_by_default():
    plan = Plan.of(SET, settings_with(sources=None, targets=None))
    assert (plan.sources, plan.targets) == (SOURCES, TARGETS)
    plan = Plan.of(SET, settings_with(sources=("sw",), targets=None))
    assert plan.targets == (*SOURCES, "yo")
    plan = Plan.of(SET, settings_with(targets=None, languages=("yo", "en")))
    assert (plan.sources, plan.targets) == (SOURCES, ("yo",))


def test_limits_hold_per_cell_and_for_targets_cover_the_shots():
    plan = Plan.of(SET, settings_with(train_per_cell=4, val_per_cell=2, shot_pool=5, shots=3))
    counts = cells(plan)
    assert {counts[x, "train", "harmful"] for x in SOURCES} == {4}
    assert {counts[x, "val", "harmless"] for x in (*SOURCES, *TARGETS)} == {2}
    assert {counts[x, "train", "harmful"] for x in TARGETS} == {5}
    plan = Plan.of(SET, settings_with(shot_pool=1, shots=3))
    assert {cells(plan)[x, "train", "harmless"] for x in TARGETS} == {3}


def test_limits_hold_for_each_source_of_prompts():
    """A large set does not crowd a small contrast set out: 4 of each mixed set, all mere twins."""
    marked = tuple(
        dataclasses.replace(
            p, source="big" if p.pair_id is None else "mixed" if p.language == "en" else "twins"
        )
        for p in SET
    )
    # In one set of twins there is a prompt without one.
    odd = Prompt("odd", "en", "an everyday request", "harmless", "train", source="mixed")
    plan = Plan.of(PromptSet("s", (*marked, odd)), settings_with(train_per_cell=4))
    found = Counter(
        (p.language, p.source)
        for p in plan.prompts
        if p.language in ("en", "de") and (p.split, p.label) == ("train", "harmful")
    )
    assert found == {
        ("en", "big"): 4, ("en", "mixed"): 4, ("de", "big"): 4, ("de", "twins"): 5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"shots": 15}, PromptError, ["sw train harmful", "have 14", "need 15"]),
        ({"targets": ("en", "sw")}, LanguageError, ["en", "both a source and a target"]),
        ({"targets": ("am",)}, LanguageError, ["no prompts in am", "en, de, fr, sw, yo"]),
        ({"sources": ("en", "it")}, LanguageError, ["no prompts in it"]),
    ],
)
def test_plans_that_cannot_be(changes, error, words):
    with pytest.raises(error) as caught:
        Plan.of(SET, settings_with(**changes))
    assert [word for word in words if word not in str(caught.value)] == []


def test_a_language_with_one_class_is_named():
    for language, split in (("de", "train"), ("de", "val"), ("sw", "train")):
        lame = SET.select(
            where=lambda p, where=(language, split): (p.language, p.split) != where or p.harmful
        )
        with pytest.raises(PromptError, match=f"{language} {split} harmless: have 0"):
            Plan.of(lame, SETTINGS)


def test_without_a_high_tier_language_sources_must_be_named():
    low = SET.select(languages=TARGETS)
    with pytest.raises(LanguageError, match="--sources"):
        Plan.of(low, settings_with(sources=None, targets=()))


# ---------------------------------------------------------------------------------------------
# layers


def test_candidate_layers():
    free = settings_with(layers=None)
    assert candidate_layers(10, free) == [1, 2, 3, 4, 5, 6, 7]  # 8 is not below 0.8 * 10
    assert candidate_layers(24, free)[-1] == 19
    assert candidate_layers(1, free) == [0]
    assert candidate_layers(10, settings_with(layers=(9, 0, 9))) == [0, 9]


@pytest.mark.parametrize("layers", [(5,), (-1, 2), ()])
def test_layers_that_the_model_lacks_are_refused(layers):
    with pytest.raises(UserError, match="blocks 0 to 4"):
        candidate_layers(5, settings_with(layers=layers))
    with pytest.raises(UserError, match="blocks 0 to 4"):
        calibrate(layers=layers)


def test_the_planted_layer_is_read(made):
    _, found = made
    assert found.gate.layers == (3,)
    chosen = [row for row in found.diagnosis.layer_choice if row.chosen]
    assert [row.layers for row in chosen] == [(3,)]
    assert sorted(row.layers for row in found.diagnosis.layer_choice) == [(1,), (2,), (3,)]
    topic = next(row for row in found.diagnosis.layer_choice if row.layers == (2,))
    assert topic.auroc_topic > 0.99
    assert topic.auroc_twins < 0.8


def test_named_layers_are_all_read():
    _, found = calibrate(layers=(4, 1))
    assert found.gate.layers == (1, 4)
    assert [row.layers for row in found.diagnosis.layer_choice] == [(1, 4)]
    assert found.diagnosis.separability == ()  # no layer was fitted alone


# ---------------------------------------------------------------------------------------------
# thresholds and shots


def reference(plan):
    """Scores and statistics of the same fit, from the parts."""
    states = {x: STATES.layer(x, [p.key for p in plan.prompts]) for x in (1, 2, 3)}
    fitter = Fitter(Data(plan.prompts.prompts, states.__getitem__, SOURCES), rank=4)
    best = fitter.choose_layers([1, 2, 3], 1)[0]
    scores = fitter.scores(best.layers, best.l2, [*SOURCES, *TARGETS])
    return fitter, scores, fitter.statistics(best.layers, best.l2)


def test_thresholds_are_set_from_the_shots_that_provenance_names(made):
    plan, found = made
    fitter, scores, statistics = reference(plan)
    row, harmful = fitter.data.row, {p.key: p.harmful for p in plan.prompts}
    assert set(found.gate.thresholds) == set(TARGETS)
    for language in TARGETS:
        shots = [k for k in found.gate.provenance["shots"] if k.startswith(f"{language}/")]
        assert Counter(harmful[k] for k in shots) == {True: 3, False: 3}
        assert all(k.startswith(f"{language}/train-") for k in shots)
        sides = [
            [scores[language][row[k]] for k in shots if harmful[k] is x] for x in (True, False)
        ]
        want = threshold_for("shrunken", *sides, statistics)
        assert found.gate.thresholds[language] == pytest.approx(want)
    assert len(found.gate.provenance["shots"]) == 12
    assert found.gate.default_threshold == statistics.threshold
    assert found.gate.provenance["source_statistics"] == dataclasses.asdict(statistics)


def test_the_threshold_table_holds_every_budget_and_the_one_used(made):
    plan, found = made
    _, scores, statistics = reference(plan)
    rows = found.diagnosis.thresholds
    assert [(r.language, r.rule, r.k, r.used) for r in rows] == [
        (language, rule, k, used)
        for language in TARGETS
        for rule, k, used in [
            *((rule, k, False) for k in (0, 1, 3) for rule in ("paper", "shrunken")),
            ("shrunken", 3, True),
        ]
    ]
    assert {r.n for r in rows} == {28}
    assert {(r.k, r.n_draws) for r in rows if not r.used} == {(0, 1), (1, 5), (3, 5)}
    val = [i for i, p in enumerate(plan.prompts) if (p.language, p.split) == ("sw", "val")]
    harmful = np.array([plan.prompts.prompts[i].harmful for i in val])
    own = scores["sw"][val][harmful], scores["sw"][val][~harmful]
    for row in rows[:2] + rows[6:7]:
        assert row.balanced_accuracy == pytest.approx(balanced_accuracy(*own, row.threshold))
    assert rows[0].threshold == pytest.approx(statistics.paper_threshold)
    assert rows[1].threshold == pytest.approx(statistics.threshold)
    assert rows[6].threshold == found.gate.thresholds["sw"]


def test_without_shots_or_with_the_source_rule_targets_keep_the_source_threshold():
    for changes in ({"shots": 0}, {"rule": "source"}):
        _, found = calibrate(**changes)
        default = found.gate.default_threshold
        assert found.gate.thresholds == dict.fromkeys(TARGETS, default)


def test_the_papers_rule_has_the_papers_default():
    plan, found = calibrate(rule="paper", shots=0)
    _, _, statistics = reference(plan)
    assert found.gate.default_threshold == statistics.paper_threshold
    assert found.gate.thresholds["sw"] == statistics.paper_threshold


def test_excluded_prompts_are_no_shots_and_can_leave_too_few():
    own = [p.key for p in SET if (p.language, p.split, p.label) == ("sw", "train", "harmful")]
    settings = settings_with(shots=3)
    plan = Plan.of(SET, settings)
    some = states_of(SET, excluded=own[3:])
    found = calibration.run(plan, some, IDENTITY, settings)
    shots = set(found.gate.provenance["shots"])
    assert {k for k in shots if k in own} == set(own[:3])
    assert some.exclusions() == {"longer than the context": 11}
    with pytest.raises(PromptError, match="3 shots per class .* sw has 2 usable .* harmful"):
        calibration.run(plan, states_of(SET, excluded=own[2:]), IDENTITY, settings)


def test_states_follow_the_order_of_keys():
    keys = [SET.prompts[i].key for i in (200, 3, 77, 4)]
    by_key = {p.key: row for p, row in zip(SET, planted(SET, 3))}
    assert torch.equal(STATES.layer(3, keys), torch.stack([by_key[k] for k in keys]))
    assert len({k.partition("/")[0] for k in keys}) > 1


# ---------------------------------------------------------------------------------------------
# the gate and the diagnosis


def test_the_gate_separates_harm_and_knows_where_it_comes_from(made):
    plan, found = made
    assert found.gate.model == IDENTITY
    assert found.gate.provenance["roles"] == {
        "en": "source", "de": "source", "fr": "source", "sw": "target", "yo": "target",
    }  # fmt: skip
    fitted = found.gate.provenance["fitted_on"]
    assert set(fitted) == {
        p.key for p in plan.prompts if p.split == "train" and p.language in SOURCES
    }
    assert not set(fitted) & set(found.gate.provenance["shots"])
    assert json.loads(json.dumps(found.gate.provenance, allow_nan=False))["seed"] == 0
    twins = {(r.language, r.contrast): r for r in found.diagnosis.contrasts}
    assert len(twins) == 10
    assert all(row.auroc > 0.9 for row in twins.values())
    assert (twins["sw", "twins"].n_harmful, twins["sw", "topic"].n_harmless) == (5, 9)
    assert {twins[x, "topic"].role for x in SOURCES} == {"source"}


def test_contrast_and_separability_rows_recomputed(made):
    plan, found = made
    fitter, scores, _ = reference(plan)
    checked = 0
    for row in found.diagnosis.contrasts:
        a, b = fitter.data.held_out(row.language, row.contrast)
        own = scores[row.language][a], scores[row.language][b]
        assert row.auroc == pytest.approx(auroc(*own))
        threshold = found.gate.threshold(row.language)
        assert row.balanced_accuracy == pytest.approx(balanced_accuracy(*own, threshold))
        (same,) = [
            r
            for r in found.diagnosis.separability
            if (r.language, r.contrast, r.layer) == (row.language, row.contrast, 3)
        ]
        assert same.auroc == pytest.approx(row.auroc)
        checked += 1
    assert checked == 10
    assert len(found.diagnosis.separability) == 10 * 3


def test_gate_scores_are_val_scores_by_side(made):
    plan, found = made
    _, scores, _ = reference(plan)
    assert [g.language for g in found.diagnosis.gate_scores] == [*SOURCES, *TARGETS]
    for own in found.diagnosis.gate_scores:
        val = [
            i for i, p in enumerate(plan.prompts) if (p.language, p.split) == (own.language, "val")
        ]
        for side, values in (
            ("harmful", own.harmful), ("harmless", own.harmless),
            ("harmless_twins", own.harmless_twins),
        ):  # fmt: skip
            rows = [i for i in val if side_of(plan.prompts.prompts[i]) == side]
            assert values == pytest.approx(scores[own.language][rows], abs=1e-5)
        assert [len(x) for x in (own.harmful, own.harmless, own.harmless_twins)] == [14, 9, 5]
        assert own.threshold == found.gate.threshold(own.language)


def test_strength_scales_alpha_and_nothing_else(made):
    _, found = made
    _, double = calibrate(strength=2.0)
    assert double.gate.alpha == pytest.approx(2 * found.gate.alpha)
    assert torch.equal(double.gate.direction, found.gate.direction)
    assert double.gate.thresholds == found.gate.thresholds


def test_a_seed_decides_everything(made):
    _, found = made
    _, again = calibrate()
    assert again.diagnosis == found.diagnosis
    assert again.gate.provenance == found.gate.provenance
    assert torch.equal(again.gate.weight, found.gate.weight)
    _, other = calibrate(seed=1)
    assert set(other.gate.provenance["shots"]) != set(found.gate.provenance["shots"])


def test_where_files_lie_does_not_change_the_key(made):
    _, found = made
    key = found.gate.provenance["key"]
    assert calibrate(out="elsewhere", batch_tokens=64)[1].gate.provenance["key"] == key
    assert calibrate(strength=2.0)[1].gate.provenance["key"] != key


def test_the_diagnosis_is_plain_json(made):
    document = made[1].diagnosis.to_json()
    assert Diagnosis.from_json(json.loads(json.dumps(document, allow_nan=False))) is not None
    assert document["gate"]["layers"] == [3]
    assert 0 <= document["gate"]["trust_in_shots"] < 1


def test_sides():
    make = lambda label, pair: Prompt("a", "en", "t", label, "val", pair_id=pair)  # noqa: E731
    assert side_of(make("harmful", None)) == side_of(make("harmful", "x")) == "harmful"
    assert side_of(make("harmless", None)) == "harmless"
    assert side_of(make("harmless", "x")) == "harmless_twins"


def test_calibration_with_components():
    plan, found = calibrate(basis="states", components=6)
    assert found.gate.bases[3].shape[1] == 6
    assert found.gate.provenance["basis"] == "states"
    fitter = Fitter(Data(plan.prompts.prompts, lambda x: states_in_order(plan, x), SOURCES), 6,
                    "states")  # fmt: skip
    (chosen,) = [c for c in found.diagnosis.layer_choice if c.chosen]
    judged = fitter.judge(chosen.layers, found.diagnosis.gate["l2"])
    assert chosen.auroc_twins == pytest.approx(judged.by_contrast["twins"])
    key = found.gate.provenance["key"]
    assert calibrate(basis="states", components=5)[1].gate.provenance["key"] != key


def states_in_order(plan, layer):
    return STATES.layer(layer, [p.key for p in plan.prompts])
