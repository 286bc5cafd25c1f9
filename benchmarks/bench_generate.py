"""The gate in generation: its overhead, and one pass against two.

python benchmarks/bench_generate.py --prompts polyrefuse:FOLDER --json OUT.json
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from common import arguments, best_of, finish, val_prompts

from babelgate.capture import capture
from babelgate.gate import Gate
from babelgate.generate import generate
from babelgate.interventions import gated
from babelgate.models import load_model


def some_gate(model, layer: int) -> Gate:
    """A gate of real shape; what it decides does not change the cost."""
    rng = torch.Generator().manual_seed(0)
    d, rank = model.identity.d_model, 10
    direction = torch.randn(d, generator=rng)
    return Gate(
        layers=(layer,),
        position="t_post",
        bases={layer: torch.linalg.qr(torch.randn(d, rank, generator=rng))[0].contiguous()},
        mean=torch.zeros(rank),
        scale=torch.ones(rank),
        weight=torch.randn(rank, generator=rng),
        bias=0.0,
        thresholds={},
        default_threshold=0.0,
        direction=direction / direction.norm(),
        # Replies must stay as long as without a gate, or their length would be timed.
        alpha=0.0,
        model=model.identity,
    )


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--languages", default="en,de,ru,yo")
    parser.add_argument("--per-cell", type=int, default=8)
    parser.add_argument("--new-tokens", type=int, default=16)
    parser.add_argument("--layer", type=int, default=14)
    options = parser.parse_args()
    model = load_model(options.model, dtype=options.dtype)
    languages = tuple(options.languages.split(","))
    prompts = val_prompts(options.prompts, languages, options.per_cell)
    texts, given = [p.text for p in prompts], [p.language for p in prompts]
    watching = gated(some_gate(model, options.layer), ablate=False)
    ablating = gated(some_gate(model, options.layer))

    def run(intervention=None, share=True):
        return [
            reply
            for batch in generate(
                model, texts, max_new_tokens=options.new_tokens, intervention=intervention,
                languages=given, share_opening=share,
            )
            for reply in batch
        ]  # fmt: skip

    def two_passes():
        """Decide in a pass of its own over every prompt, in batches of four, then generate."""
        tokens = model.encode(texts)
        for at in range(0, len(texts), 4):
            rows = list(range(at, min(at + 4, len(texts))))
            ids, mask = tokens.padded(rows)
            position_ids = (mask.cumsum(-1) - 1).clamp(min=0)
            with torch.inference_mode():
                model.model(input_ids=ids, attention_mask=mask, position_ids=position_ids)
        run(share=False)

    def two_fast_passes():
        """The same with our own capture, stopped at the gate's layer."""
        with tempfile.TemporaryDirectory() as folder:
            capture(model, prompts, Path(folder), layers=[options.layer])
        run(watching)

    assert [r.tokens for r in run()] == [r.tokens for r in run(watching)]
    base, with_gate, acting, slow, fast = best_of(
        options.repeats,
        run,
        lambda: run(watching),
        lambda: run(ablating),
        two_passes,
        two_fast_passes,
    )
    rows = [
        {"what": "no gate", "seconds": base, "against no gate": 1.0, "against the gate": None},
        {"what": "gate, same replies", "seconds": with_gate,
         "against no gate": with_gate / base, "against the gate": 1.0},
        {"what": "gate, acting", "seconds": acting,
         "against no gate": acting / base, "against the gate": acting / with_gate},
        {"what": "two passes, plain", "seconds": slow,
         "against no gate": slow / base, "against the gate": slow / with_gate},
        {"what": "two passes, our capture", "seconds": fast,
         "against no gate": fast / base, "against the gate": fast / with_gate},
    ]  # fmt: skip
    title = f"{len(texts)} replies of {options.new_tokens} tokens, {model.identity.dtype}"
    finish(title, rows, options.json, new_tokens=options.new_tokens)


if __name__ == "__main__":
    main()
