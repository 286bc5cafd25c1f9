"""A whole matrix: planted directions transfer where they should, and runs go on where they ended."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from babelgate import completions
from babelgate.artifacts import JsonLines
from babelgate.errors import StoreError, UserError
from babelgate.first_token import first_tokens
from babelgate.interventions.conditional import Ungated
from babelgate.transfer.edits import plan_edits
from babelgate.transfer.growing import EditedRows
from babelgate.transfer.replies import base_replies
from babelgate.transfer.results import EFFECTS, Transfer
from babelgate.transfer.run import transfer_matrix
from babelgate.transfer.scores import first_token_scores
from babelgate.transfer.settings import TransferSettings
from babelgate.transfer.sources import Source
from babelgate.types import PromptSet

from .made import (
    REFUSAL,
    LetterJudge,
    axis,
    planted_model,
    planted_sources,
    planted_tokens,
    prompts,
    source,
)

SETTINGS = TransferSettings(max_new_tokens=2, resamples=500, random_seeds=2)
LIMITS = {"en": 2, "sw": 2}


@pytest.fixture(scope="module")
def planted():
    return planted_model()


@pytest.fixture(scope="module")
def finished(planted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("transfer")
    both = source(axis(REFUSAL["en"]) + axis(REFUSAL["sw"]), "both", length=4.0)
    return transfer_matrix(
        planted, prompts(), {**planted_sources(), "both": both}, LetterJudge(), SETTINGS, folder
    )


def changes(found, effect, evidence):
    return {
        (c.source, c.target): c.estimate.value
        for c in found.cells
        if (c.effect, c.evidence) == (effect, evidence) and c.source in ("en", "sw", "both")
    }


def test_planted_directions_work_in_their_language_only(finished):
    own, other = ("en", "en"), ("sw", "en")
    ablated = changes(finished, "ablate_harmful", "replies")
    added = changes(finished, "add_harmless", "replies")
    assert (ablated[own], ablated["sw", "sw"], ablated[other], ablated["en", "sw"]) == (
        -1,
        -1,
        0,
        0,
    )
    assert (added[own], added["sw", "sw"], added[other], added["en", "sw"]) == (1, 1, 0, 0)
    assert changes(finished, "ablate_harmless", "replies")[own] == 0
    assert changes(finished, "add_harmful", "replies")[own] == 0
    for target in ("en", "sw"):
        assert ablated["both", target] == -1
        assert finished.cell("both", target, "ablate_harmful", "replies").share == 1
    nats = changes(finished, "ablate_harmful", "first_token")
    assert max(nats[own], nats["sw", "sw"]) < -1
    assert max(abs(nats[other]), abs(nats["en", "sw"])) < 0.5


def test_cells_stand_out_against_controls_and_are_marked(finished):
    for evidence in ("first_token", "replies"):
        cell = finished.cell("en", "en", "ablate_harmful", evidence)
        assert cell.exceeds
        assert {c.kind for c in cell.controls} == {"random", "shuffled", "identity"}
        assert len(cell.controls) == 5
        assert cell.p_rank == pytest.approx(1 / 6)
        assert cell.beyond.high < 0
    away = finished.cell("sw", "en", "ablate_harmful", "replies")
    assert away.exceeds is False
    assert away.p_rank == 1
    assert finished.cell("en", "en", "ablate_harmless", "replies").edge == "floor"
    assert finished.cell("en", "en", "add_harmful", "first_token").edge == "ceiling"
    assert finished.cell("en", "en", "ablate_harmful", "replies").edge is None
    # Shared controls are as long as the block's longest direction.
    assert {c.length for c in finished.cell("en", "en", "add_harmless", "replies").controls} == {
        4.0,
        2.0,
    }


def test_native_directions_beat_the_english_one(finished):
    row = finished.against("sw", "reference", "ablate_harmful", "replies")
    assert (row.native, row.other, row.difference.value) == (-1, 0, 1)
    best = finished.against("sw", "best", "ablate_harmful", "replies")
    assert (best.source, best.difference.value) == ("both", 0)
    assert finished.against("en", "reference", "ablate_harmful", "replies") is None


def test_it_is_written_and_read_again(finished):
    document = finished.to_json()
    text = json.dumps(document, allow_nan=False)
    again = Transfer.from_json(json.loads(text))
    assert again.to_json() == document
    assert again.targets == ("en", "sw")
    assert len(again.cells) == 2 * len(EFFECTS) * 2 * 4
    assert math.isnan(again.cell("en", "en", "ablate_harmful", "first_token").share)
    with pytest.raises(ValueError, match="schema 9"):
        Transfer.from_json({**document, "schema": 9})


def test_refusal_tokens_come_from_the_replies(finished, planted):
    assert {x: set(ids) for x, ids in finished.tokens.items()} == planted_tokens(planted)


def test_scores_equal_first_tokens_one_edit_at_a_time(llama, tmp_path):
    asked = [*prompts(n=3)]
    made = {x: source(axis(i), x, i + 1) for i, x in enumerate(("en", "sw"))}
    plan = plan_edits(made, ("en", "sw"), SETTINGS)
    tokens = {"en": frozenset({40, 41, 42}), "sw": frozenset({7, 200})}
    found = first_token_scores(llama, asked, plan, tokens, tmp_path / "f.jsonl", batch_tokens=200)
    ways = {name: Ungated(edit.action(4)) for name, edit in plan.edits.items()}
    slow = first_tokens(llama, [p.text for p in asked], ways, [tokens[p.language] for p in asked])
    np.testing.assert_allclose(found.base, slow["base"].refusal, atol=1e-3)
    compared = 0
    for name, edit in plan.edits.items():
        wanted = np.array([edit.wanted(p.language, p.label) for p in asked])
        np.testing.assert_allclose(
            found.edited[name][wanted], slow[name].refusal[wanted], atol=1e-3
        )
        assert np.isnan(found.edited[name][~wanted]).all()
        compared += wanted.sum()
    assert compared > 50


def test_no_refusal_tokens_and_too_long_prompts_have_no_score(planted, tmp_path):
    pool = [*prompts(n=2)]
    pool[0] = replace(pool[0], text="x" * 600)
    tokens = {"en": frozenset({1})}
    settings = replace(SETTINGS, evidence=("first_token",))
    found = transfer_matrix(
        planted, pool, planted_sources(), None, settings, tmp_path, tokens=tokens
    )
    cell = found.cell("en", "en", "ablate_harmful", "first_token")
    assert (cell.n, cell.estimate.n_unscored, cell.edge) == (1, 1, None)
    reason = found.cell("en", "sw", "ablate_harmful", "first_token").reason
    assert "no refusal tokens are known for sw" in reason
    assert found.judge is None


class Killed(BaseException):
    pass


@pytest.mark.parametrize("after", [0, 1, 7, 20, 41])
def test_a_killed_run_goes_on_and_ends_the_same(planted, tmp_path, monkeypatch, after):
    whole = transfer_matrix(
        planted, prompts(n=2), planted_sources(), LetterJudge(), SETTINGS, tmp_path / "whole"
    )
    real, left = JsonLines.append, [after]

    def append(self, rows):
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        real(self, rows)
        with self.path.open("a") as file:
            file.write('{"torn": ')

    with monkeypatch.context() as patch:
        patch.setattr(JsonLines, "append", append)
        with pytest.raises(Killed):
            transfer_matrix(
                planted, prompts(n=2), planted_sources(), LetterJudge(), SETTINGS, tmp_path / "cut"
            )
    again = transfer_matrix(
        planted, prompts(n=2), planted_sources(), LetterJudge(), SETTINGS, tmp_path / "cut"
    )
    assert again.to_json() == whole.to_json()


def test_finished_work_is_not_done_again_and_a_language_adds_its_row_and_column(
    planted, tmp_path, monkeypatch
):
    generated, scored = [], []
    real_generate, real_logits = completions.generate, EditedRows.logits

    def counting(model, texts, *, intervention=None, **options):
        generated.extend(("base" if intervention is None else intervention.name, t) for t in texts)
        return real_generate(model, texts, intervention=intervention, **options)

    def logits(self, text, edits):
        scored.extend((edit.name, text) for edit in edits)
        return real_logits(self, text, edits)

    monkeypatch.setattr(completions, "generate", counting)
    monkeypatch.setattr(EditedRows, "logits", logits)
    tokens = planted_tokens(planted)
    made = planted_sources()

    def run(languages, judge=None):
        generated.clear()
        scored.clear()
        return transfer_matrix(
            planted, prompts(languages, 2), {x: made[x] for x in languages},
            judge or LetterJudge(), SETTINGS, tmp_path, tokens=tokens, limits=LIMITS,
        )  # fmt: skip

    first = run(("en",))
    assert len(generated) == len(set(generated)) > 20
    assert len(scored) == len(set(scored)) > 20
    judge = LetterJudge()
    assert run(("en",), judge).to_json() == first.to_json()
    assert (generated, scored, judge.asked) == ([], [], 0)
    english = {p.text for p in prompts(("en",), 2)}
    before = first.cell("en", "en", "ablate_harmful", "replies")
    both = run(("en", "sw"))
    # The row: Swahili's edits on English prompts; the column: every edit on Swahili prompts.
    on_english = {
        name for name, text in [*generated, *scored] if text in english and "a" not in text
    }
    assert on_english == {"ablate sw", "add sw", "ablate identity of sw"}
    after = both.cell("en", "en", "ablate_harmful", "replies")
    assert after.estimate.value == before.estimate.value
    assert not {name for name, _ in scored} & {"base"}


def test_another_direction_is_measured_again(planted, tmp_path):
    def one(vector):
        return transfer_matrix(planted, prompts(("en",), 2), {"en": source(vector, "en")},
                               LetterJudge(), SETTINGS, tmp_path)  # fmt: skip

    assert one(axis(20)).cell("en", "en", "ablate_harmful", "replies").estimate.value == 0
    assert one(axis(2)).cell("en", "en", "ablate_harmful", "replies").estimate.value == -1
    assert one(axis(2)).cell("en", "en", "ablate_harmful", "first_token").estimate.value < -1


def test_replies_only_where_they_are_asked_for(planted, tmp_path):
    settings = replace(
        SETTINGS, reply_languages=("sw",), reply_sources=("en",), reply_controls=("random",)
    )
    found = transfer_matrix(
        planted, prompts(n=2), planted_sources(), LetterJudge(), settings, tmp_path
    )
    cells = {(c.source, c.target): c for c in found.cells
             if (c.effect, c.evidence) == ("ablate_harmful", "replies")}  # fmt: skip
    assert cells["en", "sw"].estimate.value == 0
    assert {c.kind for c in cells["en", "sw"].controls} == {"random"}
    assert cells["en", "en"].reason == "replies in en were not asked for"
    assert "direction of sw were not asked for" in cells["sw", "sw"].reason
    assert math.isnan(cells["sw", "sw"].estimate.value)
    folders = {f.name for f in (tmp_path / "replies").iterdir()}
    assert folders == {"base", "ablate_en", "add_en", "ablate_random-0", "ablate_random-1",
                       "add_random-0_as_en", "add_random-1_as_en"}  # fmt: skip
    assert found.cell("sw", "sw", "ablate_harmful", "first_token").n == 2


def test_base_replies_can_be_shared(planted, tmp_path, monkeypatch):
    asked = [*prompts(n=2)]
    base = base_replies(planted, asked, LetterJudge(), tmp_path / "c.jsonl", tmp_path / "v.jsonl",
                        limits=LIMITS, rows=None)  # fmt: skip
    found = transfer_matrix(planted, asked, planted_sources(), LetterJudge(), SETTINGS,
                            tmp_path / "run", base=base, limits=LIMITS)  # fmt: skip
    assert not (tmp_path / "run" / "replies" / "base").exists()
    assert found.cell("en", "en", "ablate_harmful", "replies").base.value == 1
    with pytest.raises(UserError, match="same order"):
        transfer_matrix(planted, asked[::-1], planted_sources(), LetterJudge(), SETTINGS,
                        tmp_path / "run", base=base, limits=LIMITS)  # fmt: skip


def test_notes_name_what_is_missing(planted, tmp_path):
    bare = {"en": planted_sources()["en"].direction, "sw": planted_sources()["sw"]}
    settings = replace(SETTINGS, evidence=("first_token",), mean=False)
    harmless = PromptSet("x", tuple(p for p in prompts(n=2) if not p.harmful))
    found = transfer_matrix(planted, harmless, bare, LetterJudge(), settings, tmp_path)
    text = "\n".join(found.notes)
    for words in ("without a length, and were not added: en", "shuffled-label controls: en",
                  "language-identity control: en", "as long as the longest"):  # fmt: skip
        assert words in text
    reasons = {c.reason for c in found.cells if c.target == "en" and c.effect == "ablate_harmful"}
    assert reasons == {"there are no harmful prompts in en"}
    # Nothing was refused: no tokens, and that is said.
    assert "no refusal tokens" in found.cell("sw", "en", "add_harmless", "first_token").reason


def test_input_that_cannot_be_used_is_refused(planted, tmp_path):
    def run(pool=None, made=None, judge=None, **settings):
        transfer_matrix(planted, prompts(n=2) if pool is None else pool, made or planted_sources(),
                        judge, replace(SETTINGS, **settings), tmp_path)  # fmt: skip

    twice = [*prompts(n=1), *prompts(n=1)]
    for options, words in (
        ({}, "judge is needed"),
        ({"pool": []}, "no prompts"),
        ({"pool": twice}, "share a key"),
        ({"made": {"en": source(axis(0), "en", layer=4)}}, "blocks? 4"),
        ({"made": {"en": Source(source(axis(0, 8).repeat(4), "en").direction),
                   "sw": Source(replace(source(axis(0), "sw").direction, vector=axis(0, 16)))}},
         "16 numbers"),
        ({"reply_languages": ("xx",)}, "reply_languages"),
        ({"reply_sources": ("xx",)}, "reply_sources"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=words):
            run(**options)
    (tmp_path / "first_token.jsonl").write_text('{"x": 1}\n{"x": 2}\n')
    with pytest.raises(StoreError, match="line 1"):
        transfer_matrix(planted, prompts(n=2), planted_sources(), LetterJudge(), SETTINGS, tmp_path)
