"""Capture against the obvious loop, and against the machine's own matrix rate.

python benchmarks/bench_capture.py --prompts polyrefuse:FOLDER --json OUT.json
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from common import arguments, best_of, block_shapes, finish, matrix_rate, val_prompts

from babelgate.capture import capture, default_batch_tokens
from babelgate.models import load_model
from babelgate.models.hooks import block_hooks


def obvious_loop(model, prompts):
    """Batches of four in file order, full depth, nothing shared: what one writes first."""
    tokens = model.encode([p.text for p in prompts])
    found = []
    for at in range(0, len(prompts), 4):
        rows = list(range(at, min(at + 4, len(prompts))))
        ids, mask = tokens.padded(rows)
        inst = torch.tensor([ids.shape[1] - tokens.inst_offsets[row] for row in rows])
        layers = []

        def read(hidden, layers=layers, inst=inst):
            layers.append(torch.stack([hidden[:, -1], hidden[torch.arange(len(inst)), inst]]))

        hooks = {layer: read for layer in range(len(model.blocks))}
        with torch.inference_mode(), block_hooks(model.blocks, hooks):
            position_ids = (mask.cumsum(-1) - 1).clamp(min=0)
            model.model(input_ids=ids, attention_mask=mask, position_ids=position_ids)
        found.append(torch.stack(layers))
    return torch.cat(found, dim=2)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--languages", default="en,de,ru,yo")
    parser.add_argument("--per-cell", type=int, default=16)
    parser.add_argument("--stop", type=int, default=14, help="block to stop after")
    parser.add_argument("--sweep", action="store_true", help="compare batch sizes")
    options = parser.parse_args()
    model = load_model(options.model, dtype=options.dtype)
    languages = tuple(options.languages.split(","))
    prompts = val_prompts(options.prompts, languages, options.per_cell)
    positions = ("t_post", "t_inst")

    def fast(layers=None, batch_tokens=None):
        with tempfile.TemporaryDirectory() as folder:
            capture(model, prompts, Path(folder), layers=layers, positions=positions,
                    batch_tokens=batch_tokens)  # fmt: skip

    early = range(options.stop + 1)
    with tempfile.TemporaryDirectory() as folder:
        captured = capture(model, prompts, Path(folder), positions=positions)
        reference = obvious_loop(model, prompts).float()
        scale = reference.abs().amax()
        error = max(
            float((captured.layer(layer, p) - reference[layer, i]).abs().max() / scale)
            for layer in range(len(model.blocks))
            for i, p in enumerate(positions)
        )

    slow_s, all_s, early_s = best_of(
        options.repeats, lambda: obvious_loop(model, prompts), fast, lambda: fast(early)
    )
    tokens = model.encode([p.text for p in prompts])
    total, opening = sum(tokens.lengths), len(model.template.opening)
    needed = total - opening * (len(prompts) - 1)
    dtype = getattr(torch, model.identity.dtype)
    shapes = block_shapes(model, default_batch_tokens(model))
    rate = matrix_rate(dtype, shapes)
    per_token = sum(2 * k * n for _, k, n in shapes)
    share = lambda blocks, seconds: needed * per_token * blocks / seconds / rate  # noqa: E731
    rows = [
        {"what": "obvious loop, all blocks", "seconds": slow_s, "ratio": 1.0,
         "prompt tokens/s": total / slow_s, "share of matrix rate": None},
        {"what": "capture, all blocks", "seconds": all_s, "ratio": slow_s / all_s,
         "prompt tokens/s": total / all_s,
         "share of matrix rate": share(len(model.blocks), all_s)},
        {"what": f"capture, up to block {options.stop}", "seconds": early_s,
         "ratio": slow_s / early_s, "prompt tokens/s": total / early_s,
         "share of matrix rate": share(len(early), early_s)},
    ]  # fmt: skip
    if options.sweep:
        for size in (256, 512, 1024, 2048, 4096):
            (seconds,) = best_of(options.repeats, lambda size=size: fast(None, size))
            rows.append(
                {"what": f"all blocks, {size} tokens a batch", "seconds": seconds,
                 "ratio": slow_s / seconds, "prompt tokens/s": total / seconds,
                 "share of matrix rate": share(len(model.blocks), seconds)}
            )  # fmt: skip
    finish(
        f"Capture of {len(prompts)} prompts at two positions, {model.identity.dtype}",
        rows,
        options.json,
        prompt_tokens=total,
        opening_tokens=opening,
        matrix_gflops={
            str(d).removeprefix("torch."): matrix_rate(d, shapes) / 1e9
            for d in (torch.float32, torch.bfloat16)
        },
        largest_relative_difference=error,
    )


if __name__ == "__main__":
    main()
