"""The whole repair job against the straightforward pipeline, decisions equal.

python benchmarks/bench_repair.py --prompts polyrefuse:FOLDER --json OUT.json

The job: activations of sources and targets, a gate calibrated with k = 4, and replies of 32 tokens
without and with the gate to harmful and harmless prompts in three languages. The straightforward
pipeline captures every layer in batches of four in file order, decides in a capture pass of its
own, and generates with transformers' own loop in batches of sixteen in file order, under hooks.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch
from common import arguments, finish

from babelgate import calibration, load_prompts
from babelgate.config import CalibrateSettings
from babelgate.generate import generate
from babelgate.interventions import gated
from babelgate.models import load_model
from babelgate.plan import Plan, States, candidate_layers
from babelgate.prompts import take
from babelgate.recipes import capture_languages


def ours(model, plan, settings, test, new_tokens):
    """Capture, calibrate, and generate without and with the gate; the decision is fused."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        states = capture_languages(
            model, plan.prompts, Path(folder),
            layers=candidate_layers(model.identity.n_layers, settings),
        )  # fmt: skip
        captured = time.perf_counter()
        gate = calibration.run(plan, states, model.identity, settings).gate
        fitted = time.perf_counter()
    texts, languages = [p.text for p in test], [p.language for p in test]
    fired = {}
    for intervention in (None, gated(gate)):
        for batch in generate(
            model, texts, max_new_tokens=new_tokens, intervention=intervention, languages=languages
        ):
            if intervention is not None:
                fired |= {test[r.index].key: r.decision.fired for r in batch}
    end = time.perf_counter()
    return {"capture": captured - start, "fit": fitted - captured, "replies": end - fitted}, fired


def plain_states(model, prompts):
    """Return ``{key: [n_layers, d]}``: batches of four in file order, full depth and logits."""
    tokens = model.encode([p.text for p in prompts])
    found = {}
    for at in range(0, len(prompts), 4):
        rows = list(range(at, min(at + 4, len(prompts))))
        ids, mask = tokens.padded(rows)
        layers = []
        handles = [
            block.register_forward_hook(
                lambda _m, _i, out, layers=layers: layers.append(
                    (out[0] if isinstance(out, tuple) else out)[:, -1].clone()
                )
            )
            for block in model.blocks
        ]
        with torch.inference_mode():
            model.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
                use_cache=False,
            )
        for handle in handles:
            handle.remove()
        for row, i in enumerate(rows):
            found[prompts[i].key] = torch.stack([states[row] for states in layers])
    return found


class PlainStates(States):
    """States in memory, as the straightforward pipeline has them."""

    def __init__(self, found):
        super().__init__(())
        object.__setattr__(self, "found", found)

    def layer(self, layer, keys):
        """Return ``[N, d]``."""
        return torch.stack([self.found[key][layer] for key in keys]).float()


def plain_replies(model, test, new_tokens, gate=None, fired=None):
    """Generate with transformers' loop in batches of sixteen, in file order."""
    tokens = model.encode([p.text for p in test])
    for at in range(0, len(test), 16):
        rows = list(range(at, min(at + 16, len(test))))
        ids, mask = tokens.padded(rows)
        handle = None
        if gate is not None:
            sides = torch.tensor([[fired[test[i].key]] for i in rows])
            v, calls = gate.direction, {"n": 0}

            def act(_module, _inputs, out, sides=sides, mask=mask, calls=calls, v=v):
                h = out[0] if isinstance(out, tuple) else out
                prefill, calls["n"] = calls["n"] == 0, calls["n"] + 1
                add = torch.zeros(h.shape[:2])
                add[:, -1] = gate.alpha
                add = add * sides
                where = (mask.bool() if prefill else torch.ones(h.shape[:2]).bool()) & ~sides
                h = h + add[..., None] * v - ((h @ v) * where)[..., None] * v
                return (h, *out[1:]) if isinstance(out, tuple) else h

            handle = model.blocks[gate.steer_layer].register_forward_hook(act)
        with torch.inference_mode():
            model.model.generate(
                ids, attention_mask=mask, do_sample=False, max_new_tokens=new_tokens
            )
        if handle is not None:
            handle.remove()


def straightforward(model, plan, settings, test, new_tokens):
    """Do the same job the obvious way."""
    start = time.perf_counter()
    states = PlainStates(plain_states(model, list(plan.prompts)))
    captured = time.perf_counter()
    gate = calibration.run(plan, states, model.identity, settings).gate
    fitted = time.perf_counter()
    plain_replies(model, test, new_tokens)
    found = plain_states(model, test)
    values = gate.score({x: torch.stack([found[p.key][x] for p in test]) for x in gate.layers})
    fired = {
        p.key: bool(score >= gate.threshold(p.language)) for p, score in zip(test, values.tolist())
    }
    plain_replies(model, test, new_tokens, gate, fired)
    end = time.perf_counter()
    return {"capture": captured - start, "fit": fitted - captured, "replies": end - fitted}, fired


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--sources", default="en,de,ru,zh")
    parser.add_argument("--targets", default="ar,ko,yo")
    parser.add_argument("--per-cell", type=int, default=40)
    parser.add_argument("--train", type=int, default=32)
    parser.add_argument("--new-tokens", type=int, default=32)
    options = parser.parse_args()
    model = load_model(options.model, dtype=options.dtype)
    prompts = load_prompts(options.prompts)
    targets = tuple(options.targets.split(","))
    settings = CalibrateSettings(
        sources=tuple(options.sources.split(",")), targets=targets, train_per_cell=options.train,
        val_per_cell=16, shot_pool=16, readout_layers=2, draws=5, action="paper",
    )  # fmt: skip
    plan = Plan.of(prompts, settings)
    test = list(take(prompts.select(split="test", languages=targets), options.per_cell, 0))
    job = model, plan, settings, test, options.new_tokens
    fast, decisions = ours(*job)
    slow, plain_decisions = straightforward(*job)
    differ = [key for key in decisions if decisions[key] != plain_decisions[key]]
    # Both compute in float32; a score on the threshold to seven digits could still go either way.
    assert len(differ) <= len(decisions) // 200, f"{len(differ)} decisions differ"
    rows = [
        {"stage": stage, "ours, s": fast[stage], "straightforward, s": slow[stage],
         "ratio": slow[stage] / fast[stage]}
        for stage in fast
    ]  # fmt: skip
    total = sum(fast.values()), sum(slow.values())
    rows.append(
        {"stage": "whole job", "ours, s": total[0], "straightforward, s": total[1],
         "ratio": total[1] / total[0]}
    )  # fmt: skip
    title = (
        f"{len(plan.prompts)} prompts read, {2 * len(test)} replies of {options.new_tokens} "
        f"tokens; {len(decisions) - len(differ)} of {len(decisions)} decisions equal"
    )
    finish(title, rows, options.json, new_tokens=options.new_tokens)


if __name__ == "__main__":
    main()
