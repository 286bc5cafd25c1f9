"""Named directions and sets of them: what they refuse and what they hand out."""

import dataclasses

import pytest
import torch

from babelgate.directions import Direction
from babelgate.errors import UserError
from babelgate.types import ModelIdentity
from babelgate.vectors import DirectionSet, NamedDirection, Provenance, named_direction

D = 6
MODEL = ModelIdentity("some model", "abc", "float32", "templ", "weigh", n_layers=4, d_model=D)
MEASURED = Provenance("measured", "f00d", 7, {"babelgate": "1"}, {"contrast": "topic"})


def noise(seed, d=D):
    return torch.randn(d, generator=torch.Generator().manual_seed(seed))


def entry(name="refusal/en", layer=1, seed=None, d=D, length=3.0, **more):
    vector = noise(layer if seed is None else seed, d)
    vector = vector / vector.norm() * length
    return named_direction(
        name, vector, layer=layer, position="t_post", method="mean difference", source="set", **more
    )


def make(*entries, model=MODEL):
    own = entries or (
        entry("refusal/en", 1, language="en", examples={"harmful": 8, "harmless": 9}),
        entry("refusal/en", 3, language="en"),
        entry("harmfulness/de", 2, seed=9, language="de"),
    )
    return DirectionSet(tuple(own), model, MEASURED)


@pytest.mark.parametrize("length", [1e-30, 0.5, 1.0, 250.0, 1e30])
def test_a_vector_is_split_into_unit_and_length(length):
    vector = noise(3) / noise(3).norm() * length
    made = named_direction("x", vector, layer=0, position="mean", method="m", source="s")
    assert float(made.direction.vector.norm()) == pytest.approx(1, abs=1e-6)
    assert made.scale == pytest.approx(length, rel=1e-5)
    assert torch.allclose(made.scaled(), vector, rtol=1e-5, atol=0)
    assert made.scale_is == "mean_difference"


def test_lengths_at_the_ends_of_float64_neither_overflow_nor_vanish():
    for length in (1e-300, 1e300):
        vector = torch.tensor([3.0, -4.0], dtype=torch.float64) * length
        made = named_direction("x", vector, layer=0, position="t_post", method="m", source="s")
        assert made.scale == pytest.approx(5 * length)
        assert torch.allclose(made.direction.vector, torch.tensor([0.6, -0.8]))


@pytest.mark.parametrize(
    ("vector", "words"),
    [
        (torch.zeros(D), "is zero"),
        (torch.tensor([1.0, float("nan")]), "NaN or infinity"),
        (torch.tensor([1.0, float("inf")]), "NaN or infinity"),
        (torch.ones(2, 2), r"shape \[2, 2\]"),
        (torch.ones(0), r"shape \[0\]"),
    ],
)
def test_what_is_no_direction_is_refused(vector, words):
    with pytest.raises(UserError, match=words):
        named_direction("x", vector, layer=1, position="t_post", method="m", source="s")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": " "}, "1 to 200 printable"),
        ({"name": "a\nb"}, "1 to 200 printable"),
        ({"name": "a" * 201}, "1 to 200 printable"),
        ({"scale": 0.0}, "positive"),
        ({"scale": float("nan")}, "positive"),
        ({"scale_is": "length"}, "mean_difference"),
        ({"direction": Direction(noise(1) / noise(1).norm(), -1, "t_post", "m", "s")}, "block -1"),
        ({"direction": Direction(noise(1) / noise(1).norm(), 1, "end", "m", "s")}, "'end'"),
    ],
)  # fmt: skip
def test_an_entry_is_checked(changes, words):
    good = entry()
    fields = {f.name: getattr(good, f.name) for f in dataclasses.fields(good)}
    with pytest.raises(UserError, match=words):
        NamedDirection(**(fields | changes))


def test_names_and_blocks():
    made = make()
    assert made.names == ("refusal/en", "harmfulness/de")
    assert made.layers("refusal/en") == (1, 3)
    assert made.layers("nothing") == ()
    assert made.d_model == D
    assert made.get("refusal/en", 3) is made.directions[1]
    one = made.select("refusal/en", [3])
    assert [(e.name, e.layer) for e in one.directions] == [("refusal/en", 3)]
    assert one.model is made.model
    assert one.provenance is made.provenance
    assert made.select("harmfulness/de").only_name() == "harmfulness/de"


def test_selection_is_in_the_order_of_blocks():
    made = make(entry(layer=3), entry(layer=0), entry(layer=2))
    assert [e.layer for e in made.select("refusal/en").directions] == [0, 2, 3]


def test_what_is_not_there_is_answered_with_what_is():
    made = make()
    with pytest.raises(UserError, match=r"'refusal/en', 'harmfulness/de'.*mean 'refusal/en'"):
        made.select("refusal/eng")
    with pytest.raises(UserError, match=r"blocks \[1, 3\], not after \[2\]"):
        made.select("refusal/en", [1, 2])
    with pytest.raises(UserError, match=r"blocks \[1, 3\], not after 2"):
        made.get("refusal/en", 2)
    with pytest.raises(UserError, match=r"choose one.*'refusal/en', 'harmfulness/de'"):
        made.only_name()
    with pytest.raises(UserError, match=r"not after \[\]"):
        made.select("refusal/en", [])


def test_a_set_is_checked():
    with pytest.raises(UserError, match="at least one"):
        DirectionSet((), MODEL, MEASURED)
    with pytest.raises(UserError, match="twice after block 1"):
        make(entry(), entry(seed=5))
    with pytest.raises(UserError, match=r"one width, not \[5, 6\]"):
        make(entry(), entry(layer=2, d=5), model=None)
    with pytest.raises(UserError, match="width 5 do not fit 'some model'.*width 6"):
        make(entry(d=5))
    with pytest.raises(UserError, match=r"blocks \[4\] do not fit.*0 to 3"):
        make(entry(layer=4))


def test_a_model_is_compared_by_what_changes_activations():
    made = make()
    made.check(dataclasses.replace(MODEL, name="moved", revision="new"))
    with pytest.raises(UserError, match=r"weights: weigh here, other there; dtype"):
        made.check(dataclasses.replace(MODEL, weights="other", dtype="bfloat16"))


def test_without_a_known_model_only_sizes_are_compared():
    made = make(model=None)
    made.check(dataclasses.replace(MODEL, weights="other", template="other"))
    with pytest.raises(UserError, match="width 6"):
        made.check(dataclasses.replace(MODEL, d_model=7))
    with pytest.raises(UserError, match=r"blocks \[3\]"):
        made.check(dataclasses.replace(MODEL, n_layers=3))


def test_provenance_comes_back():
    assert Provenance.from_json(MEASURED.to_json()) == MEASURED
    unknown = Provenance("imported")
    assert Provenance.from_json(unknown.to_json()) == unknown
    with pytest.raises(UserError, match="'guessed'"):
        Provenance.from_json(MEASURED.to_json() | {"origin": "guessed"})
