"""Prompts, prompt sets, identities and records: checked when built, and round trips."""

import dataclasses
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from babelgate.errors import (
    BabelgateError,
    DownloadError,
    GateError,
    PromptError,
    StoreError,
    UserError,
    did_you_mean,
)
from babelgate.types import (
    OUTCOMES,
    Completion,
    Estimate,
    ModelIdentity,
    Prompt,
    PromptSet,
    Verdict,
    contrast_members,
)

IDENTITY = ModelIdentity("name", "rev", "float32", "template", "weights", n_layers=4, d_model=8)


def prompt(number=0, language="en", label="harmful", split="train", **fields):
    values = {"id": f"p{number}", "language": language, "text": f"text {number}"}
    return Prompt(**(values | {"label": label, "split": split} | fields))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"id": ""}, ["empty id"]),
        ({"text": " \n"}, ["en/p0", "empty text"]),
        ({"label": "bad"}, ["en/p0", "'bad'", "harmful", "harmless"]),
        ({"split": "dev"}, ["en/p0", "'dev'", "train", "val", "test"]),
    ],
)
def test_a_prompt_that_cannot_be_is_refused(change, words):
    with pytest.raises(PromptError) as caught:
        prompt(**change)
    assert all(word in str(caught.value) for word in words)


def test_a_prompt_without_group_is_its_own_group():
    assert prompt(3).group_id == "p3"
    assert prompt(3, group_id="g").group_id == "g"
    assert prompt(3, language="sw").key == "sw/p3"
    assert prompt(label="harmful").harmful
    assert not prompt(label="harmless").harmful


def test_prompts_with_unhashable_extra_keys_are_hashable_and_frozen():
    one = prompt(extra={"tags": ["a"]})
    assert one in {one}
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.text = "other"  # type: ignore[misc]


def test_keys_are_unique_within_a_language_only():
    assert len(PromptSet("s", (prompt(1, "en"), prompt(1, "de")))) == 2
    with pytest.raises(PromptError, match="2 prompts with language and id 'en/p1'"):
        PromptSet("s", (prompt(0), prompt(1, "en"), prompt(1, "en")))


def test_select_combines_conditions_and_keeps_order():
    every = [
        prompt(i, language, label, split)
        for i, (language, label, split) in enumerate(
            (language, label, split)
            for language in ("yo", "en")
            for label in ("harmless", "harmful")
            for split in ("val", "train", "test")
        )
    ]
    pool = PromptSet("s", tuple(every))
    assert pool.languages == ("yo", "en")
    got = pool.select(languages=["en", "xx"], label="harmful", where=lambda p: p.split != "val")
    want = [p for p in every if p.language == "en" and p.harmful and p.split != "val"]
    assert list(got) == want
    assert len(want) == 2
    assert pool.select().prompts == pool.prompts
    assert len(pool.select(languages=[])) == 0  # none wanted is not all wanted


def test_counts_by_loop():
    pool = PromptSet("s", tuple(prompt(i, "en" if i % 3 else "sw") for i in range(7)))
    assert pool.counts() == {("en", "train", "harmful"): 4, ("sw", "train", "harmful"): 3}


def test_fingerprint_depends_on_what_changes_results_and_not_on_order():
    base = (prompt(1, pair_id="x"), prompt(2))
    print_of = lambda *prompts: PromptSet("any", prompts).fingerprint()  # noqa: E731
    assert print_of(*base) == print_of(*reversed(base))
    changes = [
        {"id": "p9", "group_id": "p2"}, {"language": "de"}, {"text": "other"}, {"split": "val"},
        {"label": "harmless"}, {"group_id": "g"}, {"pair_id": "x"},
    ]  # fmt: skip
    prints = {print_of(base[0], dataclasses.replace(base[1], **change)) for change in changes}
    assert len(prints | {print_of(*base)}) == len(changes) + 1
    # What is only for people does not count.
    assert print_of(base[0], dataclasses.replace(base[1], source="s", category="c")) == print_of(
        *base
    )


def test_union_names_and_checks():
    a, b = PromptSet("a", (prompt(1),)), PromptSet("b", (prompt(2),))
    assert PromptSet.union([a, b]).name == "a+b"
    assert PromptSet.union([a, dataclasses.replace(b, name="a")]).name == "a"
    with pytest.raises(PromptError):
        PromptSet.union([a, a])


def test_contrast_members():
    """Plain harmful 0, plain harmless 1, twins 2 (harmful) and 3 (harmless)."""
    pool = [
        prompt(0, label="harmful"),
        prompt(1, label="harmless"),
        prompt(2, label="harmful", pair_id="t"),
        prompt(3, label="harmless", pair_id="t"),
    ]
    ids = lambda members: [p.id for p in members]  # noqa: E731
    assert ids(contrast_members(pool, "twins")) == ["p2", "p3"]
    assert ids(contrast_members(pool, "topic")) == ["p0", "p1"]
    # Without plain harmful prompts the twins' harmful halves stand in, never the harmless ones.
    assert ids(contrast_members(pool[1:], "topic")) == ["p2", "p1"]
    assert contrast_members(pool[:2], "twins") == []


def test_identity_names_what_differs_and_ignores_names():
    assert IDENTITY.mismatches(IDENTITY) == []
    moved = dataclasses.replace(IDENTITY, name="elsewhere", revision="other")
    assert IDENTITY.mismatches(moved) == []
    changed = {"n_layers": 5, "d_model": 9, "weights": "w2", "template": "t2", "dtype": "bfloat16"}
    for name, value in changed.items():
        (line,) = IDENTITY.mismatches(dataclasses.replace(IDENTITY, **{name: value}))
        assert line == f"{name}: {getattr(IDENTITY, name)} here, {value} there"
    assert len(IDENTITY.mismatches(dataclasses.replace(IDENTITY, **changed))) == 5


def test_missing_estimates_are_null_and_come_back_as_nan():
    missing = Estimate(math.nan, math.nan, math.nan, 0, 0, 7, "wilson")
    data = missing.to_json()
    assert (data["value"], data["low"], data["high"]) == (None, None, None)
    assert data["n_unscored"] == 7
    back = Estimate.from_json(json.loads(json.dumps(data, allow_nan=False)))
    assert back.missing
    assert math.isnan(back.low)
    assert math.isnan(back.high)
    assert (back.n, back.n_groups, back.n_unscored, back.method) == (0, 0, 7, "wilson")
    # A zero is a zero.
    zero = Estimate(0.0, 0.0, 0.2, 5, 5, 0, "wilson")
    assert not zero.missing
    assert Estimate.from_json(zero.to_json()) == zero


share = st.floats(-1, 1).map(lambda x: round(x, 6))
count = st.integers(0, 10**6)


@settings(max_examples=50, deadline=None)
@given(st.builds(Estimate, share, share, share, count, count, count, st.text(max_size=5)))
def test_estimates_round_trip(estimate):
    assert Estimate.from_json(json.loads(json.dumps(estimate.to_json()))) == estimate


def test_completions_and_verdicts_round_trip():
    plain = Completion("en", "p1", "base", "No.", 3, "eos")
    gated = Completion("en", "p1", "gate", "Nein.", 3, "length", -0.25, False, "de")
    for made in (plain, gated):
        assert made.key == "en/p1"
        data = json.loads(json.dumps(made.to_json()))
        assert list(data) == [f.name for f in dataclasses.fields(Completion)]
        assert Completion.from_json(data | {"added_later": 1}) == made
    assert plain.to_json()["fired"] is None  # no gate is not 'did not fire'
    for outcome in OUTCOMES:
        verdict = Verdict("en", "p1", "base", "judge", outcome, "why")
        assert Verdict.from_json(json.loads(json.dumps(verdict.to_json()))) == verdict
        assert verdict.key == "en/p1"


@pytest.mark.parametrize("outcome", ["complied", None, "", 3])
def test_an_unknown_outcome_is_unparsed_never_answered(outcome):
    data = {"language": "en", "prompt_id": "p", "method": "m", "judge": "j", "outcome": outcome}
    assert Verdict.from_json(data).outcome == "unparsed"


def test_errors_know_their_exit_codes():
    assert (BabelgateError.exit_code, UserError.exit_code) == (1, 2)
    assert PromptError.exit_code == GateError.exit_code == 2
    assert StoreError.exit_code == DownloadError.exit_code == 1


def test_did_you_mean():
    assert did_you_mean("harmfull", ["harmless", "harmful"]) == " Did you mean 'harmful'?"
    assert did_you_mean("zzz", ["harmless", "harmful"]) == ""
    assert did_you_mean("x", []) == ""
