"""Rows that branch off in one pass equal passes of their own."""

from __future__ import annotations

import math

import pytest
import torch

from babelgate.interventions.linear import project_out
from babelgate.transfer.edits import plan_edits
from babelgate.transfer.growing import BASE, EditedRows, log_odds, project_rows
from babelgate.transfer.settings import TransferSettings
from babelgate.transfer.sources import random_direction
from tiny import FAMILIES, TEXTS, tiny_model

from .made import source


def edits(size=32):
    made = {
        x: source(random_direction(size, 0, 90 + i).vector, x, layer, 1.5 + i)
        for i, (x, layer) in enumerate((("en", 1), ("de", 3), ("sw", 1)))
    }
    plan = plan_edits(made, ["en"], TransferSettings(random_seeds=1, mean=False))
    return [*plan.edits.values()]


@pytest.mark.parametrize("family", FAMILIES)
def test_one_pass_equals_a_pass_per_edit(family):
    model, wanted = tiny_model(family), edits()
    together, narrow = EditedRows(model, 10**6), EditedRows(model, 150)
    single = EditedRows(model, 1, grow=False)
    assert together.grow
    moved = 0.0
    for text in (TEXTS[0], TEXTS[5]):
        slow = single.logits(text, wanted)
        assert set(slow) == {BASE, *(e.name for e in wanted)}
        for rows in (together, narrow):
            fast = rows.logits(text, wanted)
            assert set(fast) == set(slow)
            for name, logits in slow.items():
                torch.testing.assert_close(fast[name], logits, atol=2e-4, rtol=1e-4)
        moved = max(moved, *(float((x - slow[BASE]).abs().max()) for x in slow.values()))
        assert set(together.logits(text, [])) == {BASE}
    assert moved > 0.1


def test_nothing_added_is_the_base(llama):
    nothing = [
        e for e in plan_edits({"en": source(random_direction(32, 0, 1).vector, "en", 2, 0.0)},
                              ["en"], TransferSettings()).edits.values() if e.way == "add"
    ]  # fmt: skip
    found = EditedRows(llama, 1000).logits(TEXTS[1], nothing)
    assert len(found) > 3
    for logits in found.values():
        torch.testing.assert_close(logits, found[BASE], atol=1e-5, rtol=1e-5)


def test_passes_that_do_not_fit_are_halved(llama, monkeypatch):
    rows, wanted = EditedRows(llama, 10**6), edits()
    whole = rows.logits(TEXTS[1], wanted)
    real, sizes = EditedRows._pass, []

    def small(self, ids, part, shared):
        sizes.append(len(part))
        if len(part) > 5:
            raise RuntimeError("CUDA out of memory")
        return real(self, ids, part, shared)

    monkeypatch.setattr(EditedRows, "_pass", small)
    halved = rows.logits(TEXTS[1], wanted)
    assert max(sizes) > 5 > min(sizes)
    for name, logits in whole.items():
        torch.testing.assert_close(halved[name], logits, atol=1e-5, rtol=1e-5)

    def failing(*_):
        raise RuntimeError("other")

    monkeypatch.setattr(EditedRows, "_pass", failing)
    with pytest.raises(RuntimeError, match="other"):
        rows.logits(TEXTS[1], wanted)


def test_each_row_has_its_own_direction():
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(3, 5, 8, generator=generator)
    vectors = torch.nn.functional.normalize(torch.randn(3, 8, generator=generator), dim=-1)
    found = project_rows(hidden, vectors)
    for row in range(3):
        one = project_out(hidden[row : row + 1], vectors[row], torch.ones(1, 5))
        torch.testing.assert_close(found[row], one[0])
    torch.testing.assert_close(project_rows(hidden[:1], vectors)[2],
                               project_rows(hidden[:1], vectors[2:])[0])  # fmt: skip
    assert project_rows(hidden.bfloat16(), vectors).dtype == torch.bfloat16


def test_log_odds_are_those_of_the_summed_probability():
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0], [50.0, 0.0, 0.0, 0.0]])
    p = torch.softmax(logits[0].double(), -1)
    yes = float(p[1] + p[3])
    found = log_odds(logits, frozenset({1, 3}))
    assert found[0] == pytest.approx(math.log(yes / (1 - yes)))
    # 1 - P rounds to 0 here: e^50 against three others.
    assert log_odds(logits, frozenset({0}))[1] == pytest.approx(50 - math.log(3))
    assert log_odds(logits, frozenset()) == [-math.inf] * 2
