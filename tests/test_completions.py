"""Completions on disk: only what is missing or stale is generated, and nothing finished is lost."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from babelgate import completions
from babelgate.artifacts import JsonLines
from babelgate.completions import BASE, MAX_FERTILITY, Method, complete, reply_limits
from babelgate.errors import StoreError
from babelgate.models import ChatModel
from babelgate.types import Prompt
from tiny import TEMPLATE, raw_model, tiny_model, tokenizer

TEXTS = {"en": ["Hi there", "Who are you?", "Why?"], "sw": ["Habari", "Wewe ni nani?", "Kwa nini?"]}
PROMPTS = [
    Prompt(str(i), language, text, "harmless", "test")
    for language, texts in TEXTS.items()
    for i, text in enumerate(texts)
]
ENGLISH = [p for p in PROMPTS if p.language == "en"]
LIMITS = {"en": 4, "sw": 6}
OTHER = Method("other", key="k1")


@pytest.fixture
def generated(monkeypatch):
    """The texts that were really generated, with the method's limits, in order."""
    seen: list[tuple[str, int]] = []
    real = completions.generate

    def counting(model, texts, *, max_new_tokens, **options):
        seen.extend(zip(texts, max_new_tokens))
        return real(model, texts, max_new_tokens=max_new_tokens, **options)

    monkeypatch.setattr(completions, "generate", counting)
    return seen


def texts_of(generated):
    return sorted(text for text, _ in generated)


def run(model, path, prompts=PROMPTS, methods=(BASE,), **options):
    return complete(model, prompts, methods, path, limits=LIMITS, rows=2, **options)


def test_one_completion_per_method_and_prompt_in_the_callers_order(llama, tmp_path, generated):
    made = run(llama, tmp_path / "c.jsonl", methods=(BASE, OTHER))
    expected = [(m, p.key) for m in ("base", "other") for p in PROMPTS]
    assert [(c.method, c.key) for c in made] == expected
    assert [(c.text, c.n_tokens) for c in made[:6]] == [(c.text, c.n_tokens) for c in made[6:]]
    assert set(generated) == {(p.text, LIMITS[p.language]) for p in PROMPTS}
    assert all(c.n_tokens <= LIMITS[c.language] for c in made)
    assert all((c.stop_reason == "length") == (c.n_tokens == LIMITS[c.language]) for c in made)
    assert all(c.gate_score is None and c.fired is None for c in made)
    assert len(JsonLines(tmp_path / "c.jsonl").read()) == 12


def test_a_finished_file_generates_nothing_and_is_not_rewritten(llama, tmp_path, generated):
    path = tmp_path / "c.jsonl"
    first = run(llama, path)
    before, inode = path.read_bytes(), path.stat().st_ino
    generated.clear()
    counts = []
    assert run(llama, path, on_replies=counts.append) == first
    assert generated == []
    assert counts == [6]
    assert (path.read_bytes(), path.stat().st_ino) == (before, inode)


@pytest.mark.parametrize("cut_at", [0, 1, 3, 5])
def test_a_cut_file_generates_only_what_is_missing(llama, tmp_path, generated, cut_at):
    path = tmp_path / "c.jsonl"
    whole = run(llama, path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:cut_at]) + lines[cut_at][:-9])  # the last line is torn
    kept = {json.loads(line)["prompt_id"] + json.loads(line)["language"] for line in lines[:cut_at]}
    generated.clear()
    counts = []
    assert run(llama, path, on_replies=counts.append) == whole
    assert texts_of(generated) == sorted(p.text for p in PROMPTS if p.id + p.language not in kept)
    assert counts[0] == cut_at
    assert sum(counts) == 6
    assert sorted(path.read_bytes().splitlines()) == sorted(x.strip() for x in lines)


def test_finished_batches_are_on_disk_before_the_next_one_starts(llama, tmp_path):
    path = tmp_path / "c.jsonl"

    def killed(n, calls=[]):  # noqa: B006
        calls.append(n)
        assert len(JsonLines(path).read()) == sum(calls)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(llama, path, on_replies=killed)
    assert len(JsonLines(path).read()) == 4


@pytest.mark.parametrize(
    "change", ["gate key", "language known", "limit", "model", "prompt text", "template"]
)
def test_stale_lines_are_removed_and_made_again(llama, tmp_path, generated, change):
    path = tmp_path / "c.jsonl"
    run(llama, path, methods=(BASE, OTHER))
    generated.clear()
    model, prompts, method, limits = llama, PROMPTS, OTHER, dict(LIMITS)
    expected = [p.text for p in PROMPTS]
    if change == "gate key":
        method = replace(OTHER, key="k2")
    elif change == "language known":
        method = replace(OTHER, language_known=False)
    elif change == "limit":
        limits["sw"] = 5
        expected = TEXTS["sw"] * 2  # of both methods
    elif change == "model":
        model = tiny_model(seed=1)
        expected = expected * 2
    elif change == "template":
        model = replace(llama, identity=replace(llama.identity, template="another"))
        expected = expected * 2
    else:
        prompts = [replace(PROMPTS[0], text="Good day"), *PROMPTS[1:]]
        expected = ["Good day"] * 2
    complete(model, prompts, (BASE, method), path, limits=limits, rows=2)
    assert texts_of(generated) == sorted(expected)
    lines = JsonLines(path).read()
    assert len(lines) == 12  # no stale line is left beside the new one
    assert len({(x["method"], x["language"], x["prompt_id"]) for x in lines}) == 12
    generated.clear()
    complete(model, prompts, (BASE, method), path, limits=limits, rows=2)
    assert generated == []


def test_adding_a_language_generates_only_that_language(llama, tmp_path, generated):
    path = tmp_path / "c.jsonl"
    before = run(llama, path, ENGLISH)
    generated.clear()
    after = run(llama, path, PROMPTS)
    assert texts_of(generated) == sorted(TEXTS["sw"])
    assert after[:3] == before


def test_adding_a_method_generates_only_that_method(llama, tmp_path, generated):
    path = tmp_path / "c.jsonl"
    run(llama, path)
    generated.clear()
    run(llama, path, methods=(BASE, OTHER))
    assert texts_of(generated) == sorted(p.text for p in PROMPTS)


def test_lines_nobody_asked_for_stay_but_are_not_counted_or_returned(llama, tmp_path):
    """Replies of other languages and methods are finished work, with or without a key."""
    path = tmp_path / "c.jsonl"
    made = run(llama, path)
    alien = {**made[0].to_json(), "prompt_id": "99"}
    JsonLines(path).append([alien, {**alien, "prompt_id": "98", "key": "0" * 16}])
    counts = []
    assert run(llama, path, on_replies=counts.append) == made
    assert counts == [6]
    assert len(JsonLines(path).read()) == 8


def test_a_line_that_is_no_completion_is_an_error_of_ours(llama, tmp_path):
    path = tmp_path / "c.jsonl"
    run(llama, path)
    JsonLines(path).append([{"language": "en", "prompt_id": "0", "method": "base"}])
    with pytest.raises(StoreError, match=r"c\.jsonl, line 7 .*text"):
        run(llama, path)


# -- system prompts ----------------------------------------------------------------------------------

SYSTEMS = {"en": "Refuse what harms.", "sw": "Kataa yanayodhuru."}
TOLD = Method("told", systems=SYSTEMS)


@pytest.fixture(scope="module")
def with_system():
    """A tiny model whose template writes the system prompt that it is given."""
    bare = tokenizer()
    bare.chat_template = TEMPLATE.replace("<|system|>You help people.<|end|>", "")
    return ChatModel.wrap(raw_model("llama"), bare, name="told")


def test_replies_under_system_prompts_are_those_of_generate(with_system, tmp_path):
    made = {c.key: c for c in run(with_system, tmp_path / "c.jsonl", methods=(TOLD,))}
    plain = {c.key: c for c in run(with_system, tmp_path / "c.jsonl")}
    for prompt in PROMPTS:
        [[reply]] = completions.generate(
            with_system, [prompt.text], max_new_tokens=LIMITS[prompt.language],
            system=SYSTEMS[prompt.language],
        )  # fmt: skip
        assert made[prompt.key].text == reply.text
    assert any(made[key].text != plain[key].text for key in made)


def test_a_language_without_a_system_prompt_has_the_english_one():
    assert TOLD.system("sw") == SYSTEMS["sw"]
    assert TOLD.system("yo") == SYSTEMS["en"]
    assert BASE.system("en") is None


def test_another_system_prompt_makes_its_language_stale(with_system, tmp_path, generated):
    path = tmp_path / "c.jsonl"
    before = run(with_system, path, methods=(TOLD,))
    assert len(generated) == len(PROMPTS)
    generated.clear()
    assert run(with_system, path, methods=(TOLD,)) == before
    assert generated == []
    changed = replace(TOLD, systems={**SYSTEMS, "sw": "Kataa."})
    run(with_system, path, methods=(changed,))
    assert texts_of(generated) == sorted(TEXTS["sw"])
    generated.clear()
    run(with_system, path, methods=(Method("told"),))
    assert texts_of(generated) == sorted(p.text for p in PROMPTS)


# -- reply limits ------------------------------------------------------------------------------------


def limits_of(llama, *rows, tokens=100):
    prompts = [
        Prompt(i, language, text, "harmless", "test", group_id=g) for i, language, text, g in rows
    ]
    return reply_limits(llama, prompts, tokens)


def test_limits_grow_with_fertility_and_stay_between_1_and_4(llama):
    """The tokenizer is byte-level: 10 bytes in English; 15, 5, 60 and 20 + 10 in the others."""
    made = limits_of(
        llama,
        ("1", "en", "a" * 10, "g1"),
        ("2", "en", "b" * 10, "g2"),
        ("1", "sw", "c" * 15, "g1"),  # 1.5
        ("1", "zh", "d" * 5, "g1"),  # 0.5: no less than English
        ("1", "my", "e" * 60, "g1"),  # 6: no more than four times
        ("1", "yo", "f" * 20, "g1"),  # sums: (20 + 11) / (10 + 10)
        ("2", "yo", "g" * 11, "g2"),
    )
    assert made == {"en": 100, "sw": 150, "zh": 100, "my": 400, "yo": 155}
    assert MAX_FERTILITY == 4


def test_a_prompt_without_an_english_translation_does_not_count(llama):
    made = limits_of(
        llama,
        ("1", "en", "a" * 10, "g1"),
        ("1", "sw", "c" * 20, "g1"),
        ("9", "sw", "c" * 400, "only here"),
        ("9", "km", "k" * 400, "nor here"),
    )
    assert made == {"en": 100, "sw": 200, "km": 100}


def test_without_english_every_limit_is_the_given_one(llama):
    made = limits_of(llama, ("1", "sw", "c" * 20, "g1"), ("1", "my", "d" * 90, "g1"), tokens=7)
    assert made == {"sw": 7, "my": 7}
    assert reply_limits(llama, [], 7) == {}


def test_limits_are_rounded_up(llama):
    made = limits_of(llama, ("1", "en", "a" * 3, "g"), ("1", "sw", "a" * 4, "g"), tokens=10)
    assert made["sw"] == 14  # 13.3
