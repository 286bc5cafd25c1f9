"""Capture: equal for every batching, exact after a kill, no more work or memory than is needed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from babelgate.capture import capture, default_batch_tokens, plan_batches
from babelgate.errors import StoreError, UserError
from babelgate.models import ChatModel
from babelgate.types import Prompt
from tiny import COMMON, FAMILIES, TEXTS, raw_model, tiny_model, tokenizer

BOTH = ("t_post", "t_inst")


def prompts_of(texts):
    return [Prompt(str(i), "en", text, "harmless", "val") for i, text in enumerate(texts)]


PROMPTS = prompts_of(TEXTS)


def many(n: int):
    return prompts_of([f"{TEXTS[i % len(TEXTS)]} {'xyz' * (i % 11)}{i}" for i in range(n)])


def everything(activations, layers=(0, 1, 2, 3), positions=BOTH):
    return torch.stack(
        [torch.stack([activations.layer(i, p) for p in positions]) for i in layers]
    )  # [n_layers, n_positions, N, d]


@pytest.fixture
def passes(llama):
    """The number of rows of every pass through block 0, as they happen."""
    rows: list[int] = []
    handle = llama.blocks[0].register_forward_hook(
        lambda _m, inputs, _o: rows.append(len(inputs[0]))
    )
    yield rows
    handle.remove()


# -- plan_batches ------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 300), max_size=60), st.integers(1, 1000))
def test_plan_laws(lengths, budget):
    order, bounds = plan_batches(lengths, budget)
    assert sorted(order) == list(range(len(lengths)))  # every row once
    assert bounds[0] == 0
    assert bounds[-1] == len(lengths)
    assert all(a < b for a, b in pairwise(bounds))  # no empty batch
    batches = [[lengths[i] for i in order[a:b]] for a, b in pairwise(bounds)]
    assert [x for batch in batches for x in batch] == sorted(lengths, reverse=True)
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(batch) <= budget
    for batch in batches[:-1]:  # none could have taken one more row
        assert (len(batch) + 1) * max(batch) > budget


def test_plan_by_hand():
    """Rows of 10, 9, 5, 5, 2 tokens in 20: 2 x 10, then 3 x 5 (a fourth row would not be there)."""
    assert plan_batches([5, 10, 2, 9, 5], 20) == ([1, 3, 0, 4, 2], [0, 2, 5])
    assert plan_batches([50, 3], 20) == ([0, 1], [0, 1, 2])  # too long alone, still a batch
    assert plan_batches([], 20) == ([], [0])


# -- the same values for every batching --------------------------------------------------------------


def test_batch_equals_single_for_every_token_budget(llama, tmp_path):
    single = torch.stack(
        [
            everything(capture(llama, [p], tmp_path / f"single{i}", positions=BOTH))[:, :, 0]
            for i, p in enumerate(PROMPTS)
        ],
        dim=2,
    )
    longest = max(llama.encode(TEXTS).lengths)
    budgets = (1, longest, 2 * longest, 3 * longest, 5 * longest, 100_000)
    counts = set()
    for budget in budgets:
        got = capture(llama, PROMPTS, tmp_path / str(budget), positions=BOTH, batch_tokens=budget)
        torch.testing.assert_close(everything(got), single, atol=2e-5, rtol=2e-5)
        counts.add(len(got.store.batches) - 1)
    assert {1, len(PROMPTS)} < counts  # from one row per batch to all rows in one


def test_rows_follow_the_callers_order_and_selection(llama, tmp_path):
    got = capture(llama, PROMPTS, tmp_path / "a", layers=[2])
    turned = capture(llama, PROMPTS[::-1], tmp_path / "b", layers=[2])
    torch.testing.assert_close(got.layer(2), turned.layer(2).flip(0), atol=2e-5, rtol=2e-5)
    picked = got.select([PROMPTS[4].key, PROMPTS[1].key])
    assert torch.equal(picked.layer(2), got.layer(2)[[4, 1]])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_values_are_stored_in_the_type_asked_for(llama, tmp_path, dtype):
    exact = capture(llama, PROMPTS, tmp_path / "exact", layers=[1])
    got = capture(llama, PROMPTS, tmp_path / "got", layers=[1], dtype=dtype)
    assert torch.equal(got.layer(1), exact.layer(1).to(getattr(torch, dtype)).float())


# -- no more work than needed ------------------------------------------------------------------------


@pytest.mark.parametrize("share_opening", [True, False])
def test_the_pass_stops_after_the_last_layer_and_computes_no_logits(llama, tmp_path, share_opening):
    ran: list[object] = []
    before = [set(block._forward_hooks) for block in llama.blocks]
    handles = [
        block.register_forward_hook(lambda *_a, i=i: ran.append(i))
        for i, block in enumerate(llama.blocks)
    ]
    handles.append(llama.model.lm_head.register_forward_hook(lambda *_: ran.append("lm_head")))
    handles.append(llama.model.model.norm.register_forward_hook(lambda *_: ran.append("norm")))
    try:
        capture(llama, PROMPTS, tmp_path / "a", layers=[0, 2], share_opening=share_opening)
        # Block 2 raises in the first of its hooks, so its own is not reached here.
        assert {0, 1} <= set(ran) <= {0, 1, 2}
        ran.clear()
        capture(llama, PROMPTS, tmp_path / "b", share_opening=share_opening)
        assert {0, 1, 2} <= set(ran) <= {0, 1, 2, 3, "norm"}
    finally:
        for handle in handles:
            handle.remove()
    # Capture left none of its own.
    assert [set(block._forward_hooks) for block in llama.blocks] == before


def test_the_opening_is_computed_once(llama, tmp_path):
    widths = []
    handle = llama.blocks[0].register_forward_hook(
        lambda _m, inputs, _o: widths.append(tuple(inputs[0].shape[:2]))
    )
    capture(llama, PROMPTS, tmp_path, batch_tokens=1)
    handle.remove()
    opening = len(llama.template.opening)
    lengths = sorted(llama.encode(TEXTS).lengths, reverse=True)
    assert widths == [(1, opening), *((1, n - opening) for n in lengths)]


# -- resuming ----------------------------------------------------------------------------------------


def test_a_finished_capture_computes_nothing(llama, tmp_path, passes):
    first = capture(llama, PROMPTS, tmp_path, batch_tokens=100)
    passes.clear()
    seen = []
    again = capture(llama, PROMPTS, tmp_path, batch_tokens=100, on_batch=seen.append)
    assert passes == []
    assert seen == [len(PROMPTS)]
    assert torch.equal(first.layer(3), again.layer(3))


def test_on_batch_adds_up_to_the_prompts(llama, tmp_path):
    seen = []
    capture(llama, PROMPTS, tmp_path, batch_tokens=100, on_batch=seen.append)
    assert seen[0] == 0
    assert sum(seen) == len(PROMPTS)
    assert len(seen) > 3


def test_an_interrupted_capture_keeps_its_plan_under_another_batch_size(llama, tmp_path, passes):
    whole = capture(llama, PROMPTS, tmp_path / "whole", batch_tokens=100)

    def stop_after_two(_n, calls=[]):  # noqa: B006
        calls.append(_n)
        if len(calls) == 3:  # one call for what was stored already, two batches
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        capture(llama, PROMPTS, tmp_path / "cut", batch_tokens=100, on_batch=stop_after_two)
    passes.clear()
    got = capture(llama, PROMPTS, tmp_path / "cut", batch_tokens=7777)
    assert got.store.batches == whole.store.batches
    assert len(passes) - 1 == len(whole.store.batches) - 1 - 2  # less the opening's own pass
    assert torch.equal(
        everything(got, positions=("t_post",)), everything(whole, positions=("t_post",))
    )


# A process that imports once and forks a child per capture, so that killing one costs no import.
_WORKER = """
import json, os, sys, time
sys.path.insert(0, sys.argv[1])
import torch
from test_capture import BOTH, capture, deep_model, many, peak_rss, prompts_of, tiny_model
torch.set_num_threads(int(sys.argv[2]))
tiny = tiny_model()  # imports what transformers imports late
print("ready", flush=True)
for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child == 0:
        if order["do"] == "capture":
            capture(tiny, many(order["n"]), __import__("pathlib").Path(order["folder"]),
                    positions=BOTH, batch_tokens=150, on_batch=lambda _: time.sleep(order["sleep"]))
        else:
            model, peaks = deep_model(), []
            for n in order["sizes"]:
                capture(model, prompts_of([str(i) for i in range(n)]), __import__("pathlib").Path(order["folder"]) / str(n),
                        positions=BOTH, batch_tokens=512)
                peaks.append(peak_rss())
            print(json.dumps(peaks), flush=True)
        os._exit(0)
    if order["do"] == "capture":
        print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(json.dumps({"status": status}), flush=True)
"""


def peak_rss() -> int:
    """Peak resident memory of this process in bytes."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def deep_model():
    """Many narrow blocks: activations are large beside the arithmetic and the weights."""
    import transformers

    config = transformers.LlamaConfig(**COMMON | {"num_hidden_layers": 24, "hidden_size": 128})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config)
    return ChatModel.wrap(model, tokenizer(), name="deep")


@pytest.fixture(scope="module")
def worker():
    if not hasattr(os, "fork"):
        pytest.skip("this system cannot fork")
    here = Path(__file__).parent
    env = {**os.environ, "PYTHONPATH": str(here.parent / "src"), "TOKENIZERS_PARALLELISM": "false"}
    process = subprocess.Popen(
        [sys.executable, "-c", _WORKER, str(here), str(torch.get_num_threads())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=env,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"

    def ask(order):
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        return lambda: json.loads(process.stdout.readline())

    yield ask
    process.stdin.close()
    process.wait(timeout=20)
    process.stdout.close()


N_KILL = 90


@pytest.fixture(scope="module")
def uninterrupted(llama, tmp_path_factory):
    return capture(
        llama, many(N_KILL), tmp_path_factory.mktemp("whole"), positions=BOTH, batch_tokens=150
    )


def finished_lines(journal: Path) -> int:
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


# After how many batches, and how long after the last of them was seen, in seconds.
@pytest.mark.parametrize(
    ("batches", "later"), [(0, 0.0), (1, 0.001), (3, 0.0), (9, 0.004), (20, 0.002), (33, 0.0)]
)
def test_kill_9_loses_and_repeats_no_finished_batch(
    llama, worker, uninterrupted, tmp_path, passes, batches, later
):
    folder = tmp_path / "store"
    total = len(uninterrupted.store.batches) - 1
    assert total > 40
    answer = worker({"do": "capture", "n": N_KILL, "folder": str(folder), "sleep": 0.003})
    child = answer()
    deadline = time.monotonic() + 30
    while finished_lines(folder / "journal.jsonl") < batches and time.monotonic() < deadline:
        time.sleep(0.0005)
    time.sleep(later)
    os.kill(child, signal.SIGKILL)
    assert answer() == {"status": signal.SIGKILL}  # it was killed, not finished

    done = finished_lines(folder / "journal.jsonl")
    assert batches <= done < total
    passes.clear()
    seen = []
    got = capture(
        llama, many(N_KILL), folder, positions=BOTH, batch_tokens=150, on_batch=seen.append
    )
    kept = total - (len(passes) - 1)  # less the opening's own pass
    # A line that lacks only its newline is whole, and may be counted too.
    assert done <= kept <= done + 1
    assert seen[0] == uninterrupted.store.batches[kept]
    assert sum(seen) == N_KILL
    assert torch.equal(everything(got), everything(uninterrupted))
    assert (folder / "values.bin").read_bytes() == (
        uninterrupted.store.folder / "values.bin"
    ).read_bytes()


def test_memory_does_not_grow_with_the_number_of_prompts(worker, tmp_path):
    """1,600 prompts have 39 MB of stored values and some 200 MB of hidden states; 200 an eighth.

    At a fixed number of tokens per batch the peak may only grow by the prompts' own texts and ids.
    """
    small, large = worker({"do": "memory", "folder": str(tmp_path), "sizes": [200, 1600]})()
    stored = (tmp_path / "1600" / "values.bin").stat().st_size
    assert stored == 24 * 2 * 1600 * 128 * 4
    assert large - small < stored / 2


# -- out of memory -----------------------------------------------------------------------------------

OUT_OF_MEMORY = [
    torch.cuda.OutOfMemoryError("CUDA out of memory."),
    MemoryError(),
    # What torch really raises on a processor and on Apple's accelerator.
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't "
                 "allocate memory: you tried to allocate 4294967296 bytes. Error code 12"),
    RuntimeError("MPS backend out of memory (MPS allocated: 18.00 GB)"),
]  # fmt: skip


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda e: f"{type(e).__name__} {e}"[:30])
@pytest.mark.parametrize("most", [1, 2])
def test_a_batch_that_does_not_fit_is_halved(tmp_path, monkeypatch, error, most):
    model = tiny_model()
    expected = capture(model, PROMPTS, tmp_path / "a", positions=BOTH)
    forward, sizes = model.model.model.forward, []

    def limited(*args, **kwargs):
        sizes.append(len(kwargs["input_ids"]))
        if sizes[-1] > most:
            raise error
        return forward(*args, **kwargs)

    monkeypatch.setattr(model.model.model, "forward", limited)
    got = capture(model, PROMPTS, tmp_path / "b", positions=BOTH, batch_tokens=100_000)
    torch.testing.assert_close(everything(got), everything(expected), atol=2e-5, rtol=2e-5)
    assert got.excluded == {}
    assert sizes[1] == len(PROMPTS)  # after the opening, it was tried whole
    assert max(s for s in sizes if s <= most) == most
    assert not any(block._forward_hooks for block in model.blocks)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("shapes cannot be multiplied")])
def test_an_error_that_halving_cannot_cure_is_raised(tmp_path, monkeypatch, error):
    """One row that does not fit, or an error that is not about memory (raised on the first try)."""
    model = tiny_model()
    forward, sizes = model.model.model.forward, []

    def broken(*args, **kwargs):
        sizes.append(len(kwargs["input_ids"]))
        if len(sizes) > 1:
            raise error
        return forward(*args, **kwargs)

    monkeypatch.setattr(model.model.model, "forward", broken)
    with pytest.raises(type(error)):
        capture(model, PROMPTS, tmp_path, batch_tokens=100_000)
    assert sizes == ([1, 7, 3, 1] if isinstance(error, MemoryError) else [1, 7])


# -- prompts without activations ---------------------------------------------------------------------


@pytest.mark.parametrize("share_opening", [True, False])
def test_a_prompt_longer_than_the_context_is_counted_out(llama, tmp_path, share_opening):
    template = llama.encode(["a"]).lengths[0] - 1
    fits, too_long = "a" * (512 - template), "a" * (513 - template)
    got = capture(llama, prompts_of(["Hi", too_long, fits]), tmp_path, share_opening=share_opening)
    assert got.excluded == {"en/1": "513 tokens, longer than the context of 512"}
    assert got.layer(3).isnan().all(1).tolist() == [False, True, False]
    alone = capture(llama, prompts_of(["Hi"]), tmp_path / "alone")
    torch.testing.assert_close(got.layer(3)[0], alone.layer(3)[0], atol=2e-5, rtol=2e-5)
    assert got.select(["en/0"]).excluded == {}


def test_all_prompts_too_long(llama, tmp_path):
    got = capture(llama, prompts_of(["b" * 600, "c" * 700]), tmp_path, layers=[1])
    assert sorted(got.excluded) == ["en/0", "en/1"]
    assert got.layer(1).isnan().all()


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_activations_that_are_not_finite_are_counted_out_and_spoil_no_neighbour(tmp_path, poison):
    raw = raw_model("llama")
    clean = capture(tiny_model(), PROMPTS, tmp_path / "clean", positions=BOTH)
    letter = tokenizer()("x", add_special_tokens=False)["input_ids"][0]
    with torch.no_grad():
        raw.model.embed_tokens.weight[letter] = poison
    hit = [p.key for p in PROMPTS if "x" in p.text]
    assert hit == ["en/4"]
    model = ChatModel.wrap(raw, tokenizer())
    for budget in (1, 100, 100_000):
        folder = tmp_path / str(budget)
        got = capture(model, PROMPTS, folder, positions=BOTH, batch_tokens=budget)
        assert got.excluded == {"en/4": "activations are not finite (NaN or infinite)"}
        rest = [i for i, p in enumerate(PROMPTS) if p.key not in hit]
        torch.testing.assert_close(
            everything(got)[:, :, rest], everything(clean)[:, :, rest], atol=2e-5, rtol=2e-5
        )
        assert everything(got)[:, :, 4].isnan().all()


def test_values_that_overflow_the_stored_type_are_counted_out(tmp_path):
    """float16 ends at 65,504: what is finite in the model may be infinite in the store."""
    raw = raw_model("llama")
    letter = tokenizer()("x", add_special_tokens=False)["input_ids"][0]
    with torch.no_grad():
        raw.model.embed_tokens.weight[letter] = 1e6
    got = capture(
        ChatModel.wrap(raw, tokenizer()), PROMPTS, tmp_path, dtype="float16", positions=BOTH
    )
    assert got.excluded == {"en/4": "activations are not finite (NaN or infinite)"}
    assert not everything(got).isinf().any()


# -- the mean over a prompt ---------------------------------------------------------------------------


def all_states(model, text):
    """Return the outputs ``[n_layers, T, d]`` of all blocks on one unpadded prompt."""
    found = []
    handles = [
        block.register_forward_hook(
            lambda _m, _i, out: found.append((out[0] if isinstance(out, tuple) else out)[0])
        )
        for block in model.blocks
    ]
    with torch.inference_mode():
        model.model(input_ids=torch.tensor([model.encode([text]).ids[0]]))
    for handle in handles:
        handle.remove()
    return torch.stack(found)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_mean_is_that_over_every_token_of_the_prompt(tmp_path, family):
    model = tiny_model(family)
    positions = ("t_post", "mean", "t_inst")
    single = [all_states(model, text) for text in TEXTS]
    for budget in (1, 120, 100_000):
        got = capture(
            model, PROMPTS, tmp_path / str(budget), positions=positions, batch_tokens=budget
        )
        for i, states in enumerate(single):
            for layer in range(4):
                for position, expected in (
                    ("mean", states[layer].mean(0)),
                    ("t_post", states[layer][-1]),
                ):
                    found = got.layer(layer, position)[i]
                    torch.testing.assert_close(found, expected, atol=5e-5, rtol=5e-5)


def test_a_mean_takes_the_whole_prompt_through_the_model(llama, tmp_path, passes):
    """No shared opening: its states are part of every prompt's mean."""
    for share in (True, False):
        passes.clear()
        capture(
            llama, PROMPTS, tmp_path / str(share), positions=("mean",), batch_tokens=100_000,
            share_opening=share,
        )  # fmt: skip
        assert passes == [len(PROMPTS)]


# -- wrong arguments ---------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [[4], [-1], [0, 99], []])
def test_layers_that_the_model_lacks(llama, tmp_path, layers):
    with pytest.raises(UserError, match="this model has blocks 0 to 3"):
        capture(llama, PROMPTS, tmp_path / "s", layers=layers)
    assert not (tmp_path / "s").exists()


def test_other_wrong_arguments(llama, tmp_path):
    with pytest.raises(UserError, match=r"position 't_last' is not one of .*t_inst"):
        capture(llama, PROMPTS, tmp_path / "s", positions=("t_post", "t_last"))
    with pytest.raises(UserError, match="no prompts"):
        capture(llama, [], tmp_path / "s")
    with pytest.raises(UserError, match=r"dtype 'int4' is not one of .*bfloat16"):
        capture(llama, PROMPTS, tmp_path / "s", dtype="int4")
    with pytest.raises(UserError, match="several prompts have the key 'en/0'.*unique"):
        capture(llama, [*PROMPTS, Prompt("0", "en", "other", "harmful", "val")], tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_a_layer_that_was_not_captured_is_an_error(llama, tmp_path):
    got = capture(llama, PROMPTS, tmp_path, layers=[1])
    with pytest.raises(StoreError, match="not layer 2"):
        got.layer(2)


def test_default_batch_tokens_suit_the_device(llama):
    assert 256 <= default_batch_tokens(llama) <= 4096
