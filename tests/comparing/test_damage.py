"""What methods cost: KL against a direct computation, fixed words, time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from babelgate.artifacts import JsonLines
from babelgate.comparing import damage
from babelgate.comparing.contenders import UNTOUCHED, Contender, Routes, Treatment
from babelgate.comparing.damage import divergence_of, divergences, latencies
from babelgate.directions import Direction
from babelgate.interventions.actions import AddDirection, ProjectOut, Say

from .made import prompt_set

PROMPTS = [p for p in prompt_set(("en", "sw")) if p.split == "test"]
HARMLESS = np.array([not p.harmful for p in PROMPTS])


def direction(layer=2, seed=0):
    vector = torch.randn(32, generator=torch.Generator().manual_seed(seed))
    return Direction(vector / vector.norm(), layer, "t_post", "random", "")


ADD = Treatment("add", AddDirection("add", direction=direction(), alpha=4.0))
OUT = Treatment("out", ProjectOut("out", layers=(1,), direction=direction(1, 1)))
FIXED = Treatment("fixed", Say("fixed", texts={"en": "No."}, final=True))
SYSTEM = Treatment("system", systems={"en": "Be careful."})


def slow_kl(model, text, action):
    """KL(base || edited) of the next token after one unpadded prompt, with a hook of its own."""
    ids = torch.tensor([model.encode([text]).ids[0]])
    rows = {}
    v = action.direction.vector
    layer = action.layers[0]

    def edit(_module, _inputs, out):
        h = (out[0] if isinstance(out, tuple) else out).clone()
        if isinstance(action, AddDirection):
            h[0, -1] = h[0, -1] + action.alpha * v
        else:
            for t in range(h.shape[1]):
                h[0, t] = h[0, t] - (h[0, t] @ v) * v
        return (h, *out[1:]) if isinstance(out, tuple) else h

    for name in ("base", "edited"):
        handle = model.blocks[layer].register_forward_hook(edit) if name == "edited" else None
        with torch.inference_mode():
            rows[name] = torch.softmax(model.model(input_ids=ids).logits[0, -1].double(), -1)
        if handle is not None:
            handle.remove()
    p, q = rows["base"], rows["edited"]
    return sum(float(a * (a / b).log()) for a, b in zip(p, q))


def everywhere(*treatments):
    return {t.name: (t, np.ones(len(PROMPTS), dtype=bool)) for t in (UNTOUCHED, *treatments)}


def test_kl_equals_a_direct_computation(llama, tmp_path):
    found = divergences(llama, PROMPTS, everywhere(ADD, OUT), tmp_path / "kl.jsonl")
    seen = 0
    for treatment in (ADD, OUT):
        for i, prompt in enumerate(PROMPTS):
            if prompt.harmful:
                assert np.isnan(found[treatment.name][i])
                continue
            expected = slow_kl(llama, prompt.text, treatment.action)
            assert found[treatment.name][i] == pytest.approx(expected, abs=1e-4)
            assert expected > 1e-4
            seen += 1
    assert seen == 2 * HARMLESS.sum() > 0
    assert (found["base"][HARMLESS] == 0).all()
    assert np.isnan(found["base"][~HARMLESS]).all()


def test_fixed_words_and_system_prompts_have_none(llama, tmp_path):
    found = divergences(llama, PROMPTS, everywhere(FIXED, SYSTEM), tmp_path / "kl.jsonl")
    assert np.isnan(found["fixed"]).all()
    assert np.isnan(found["system"]).all()
    assert JsonLines(tmp_path / "kl.jsonl").read() == []


def test_only_what_is_missing_is_computed(llama, tmp_path, monkeypatch):
    texts = []
    real = damage.first_tokens

    def counting(model, words, ways, *rest, **options):
        texts.extend((name, w) for name in ways for w in words)
        return real(model, words, ways, *rest, **options)

    monkeypatch.setattr(damage, "first_tokens", counting)
    some = {**everywhere(ADD)}
    where = HARMLESS & (np.arange(len(PROMPTS)) % 2 == 0)
    some["add"] = (ADD, where)
    first = divergences(llama, PROMPTS, some, tmp_path / "kl.jsonl")
    assert len(texts) == where.sum() > 0
    assert np.isfinite(first["add"]).tolist() == where.tolist()
    texts.clear()
    both = divergences(llama, PROMPTS, everywhere(ADD, OUT), tmp_path / "kl.jsonl")
    assert len(texts) == len(set(texts)) == 2 * HARMLESS.sum() - where.sum()
    np.testing.assert_array_equal(both["add"][where], first["add"][where])
    texts.clear()
    stronger = replace(ADD, action=AddDirection("add", direction=direction(), alpha=5.0))
    divergences(llama, PROMPTS, everywhere(stronger), tmp_path / "kl.jsonl")
    assert len(texts) == HARMLESS.sum()


def test_a_methods_kl_is_the_mean_over_what_it_generates():
    rng = np.random.default_rng(0)
    n = len(PROMPTS)
    kl = {name: np.where(HARMLESS, rng.random(n), np.nan) for name in ("add", "base")}
    kl["fixed"] = np.full(n, np.nan)
    routes = Routes(rng.normal(size=n), rng.normal(size=(3, n)))
    for fired, silent in ((ADD, UNTOUCHED), (FIXED, ADD), (FIXED, UNTOUCHED)):
        contender = Contender("x", "gate", "", fired, silent, routes)
        values, words, prompts = [], [], set()
        for s in range(3):
            for i in range(n):
                if HARMLESS[i]:
                    side = fired if routes.scores[i] >= routes.thresholds[s, i] else silent
                    words.append(side.fixed)
                    if not side.fixed:
                        values.append(kl[side.name][i])
                        prompts.add(i)
        mean, count, said = divergence_of(contender, PROMPTS, kl)
        assert mean == pytest.approx(np.mean(values))
        assert count == len(prompts)
        assert said == pytest.approx(np.mean(words))


def test_without_harmless_prompts_everything_is_missing():
    harmful = [p for p in PROMPTS if p.harmful]
    contender = Contender("x", "rival", "", FIXED)
    assert divergence_of(contender, harmful, {}) == (None, 0, None)
    assert divergence_of(contender, PROMPTS, {}) == (None, 0, 1.0)


def test_times_are_ratios_to_the_untouched_model(llama):
    texts = [p.text for p in PROMPTS[:3]]
    ways = {"same": None, "add": ADD.method().intervention, "fixed": FIXED.method().intervention}
    found = latencies(
        llama, texts, ["en"] * 3, ways, systems={"same": None}, max_new_tokens=6, repeats=5
    )
    assert set(found) == set(ways)
    for one in found.values():
        assert 0 < one.low <= one.ratio <= one.high < np.inf
    assert 0.2 < found["same"].ratio < 5
    assert found["fixed"].ratio < found["add"].ratio
    one = latencies(llama, texts, ["en"] * 3, {"same": None}, max_new_tokens=2, repeats=1)["same"]
    assert one.low == one.ratio == one.high
