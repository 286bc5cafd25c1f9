"""Samples keep translations and twins together; missing cells are named."""

import pytest
from prompt_makers import make

from babelgate.errors import PromptError
from babelgate.prompts import require, take
from babelgate.types import PromptSet


def translated(n=20, languages=("en", "de", "sw")):
    return PromptSet(
        "set",
        tuple(
            make(language, i, label=label, id=f"{label}{i}")
            for language in languages
            for label in ("harmful", "harmless")
            for i in range(n)
        ),
    )


def test_every_cell_gets_its_share_and_translations_stay_together():
    chosen = take(translated(), 5, seed=3)
    assert set(chosen.counts().values()) == {5}
    ids = {lang: [p.id for p in chosen.select(languages=[lang])] for lang in chosen.languages}
    assert ids["en"] == ids["de"] == ids["sw"]


def test_seed_decides_and_order_does_not():
    prompts = translated()
    assert take(prompts, 5, seed=1) == take(prompts, 5, seed=1)
    assert take(prompts, 5, seed=1) != take(prompts, 5, seed=2)
    reverse = PromptSet("set", prompts.prompts[::-1])
    assert {p.key for p in take(reverse, 5)} == {p.key for p in take(prompts, 5)}


def test_a_larger_sample_contains_the_smaller_and_more_prompts_do_not_reshuffle():
    small, large = ({p.key for p in take(translated(), n)} for n in (4, 9))
    assert small < large
    grown = {p.key for p in take(translated(40), 9)} & {p.key for p in translated(20)}
    assert grown <= large


def test_small_cells_are_kept_whole():
    assert len(take(translated(3), 5)) == 18


def test_twins_stay_together():
    prompts = PromptSet(
        "twins",
        tuple(
            make(language, i, label=label, id=f"{label}{i}", pair_id=f"{language}-{i}")
            for language in ("en", "sw")
            for label in ("harmful", "harmless")
            for i in range(12)
        ),
    )
    chosen = take(prompts, 4)
    numbers = {
        (p.language, p.label): {q.pair_id.split("-")[1] for q in chosen
                                if (q.language, q.label) == (p.language, p.label)}
        for p in chosen
    }  # fmt: skip
    assert len(numbers) == 4
    assert len(set(map(frozenset, numbers.values()))) == 1


def test_per_cell_must_be_positive():
    with pytest.raises(PromptError, match="per_cell is 0"):
        take(translated(), 0)


def test_require_lists_every_short_cell():
    prompts = translated(3, ("en", "de"))
    require(prompts, ["en", "de"], "train", at_least=3)
    require(prompts, ["en"], "train", ["harmful"], 1)
    with pytest.raises(PromptError) as caught:
        require(prompts, ["en", "sw"], "train", ("harmful",), at_least=4)
    message = str(caught.value)
    assert "'set'" in message
    assert "en train harmful: have 3, need 4; sw train harmful: have 0, need 4" in message
    with pytest.raises(PromptError, match="de test harmless: have 0, need 1"):
        require(prompts, ["de"], "test")
