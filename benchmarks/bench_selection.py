"""Selecting a refusal direction against the plain six sweeps: the same scores, the same choice.

The plain way scores every candidate by itself: whole prompts, all logits, batches in file order.
Both get the same candidates, prompts and refusal tokens; nothing is extrapolated. Processor time
is what is compared, so that other jobs on the machine do not count.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from common import arguments, finish

from babelgate import load_model
from babelgate.capture import capture, post_instruction_positions
from babelgate.generate import generate
from babelgate.judges import Reply
from babelgate.judges.base import get_judge
from babelgate.prompts import load_prompts, take
from babelgate.refusal import SelectionSettings, derive_tokens
from babelgate.refusal.choice import choose
from babelgate.refusal.examples import choose_examples
from babelgate.refusal.passes import Passes
from babelgate.refusal.results import SelectionMap
from babelgate.refusal.scoring import Journal, score_candidates
from babelgate.refusal.selection import candidate_vectors
from babelgate.types import Completion

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "refusal"))
from plain_selection import plain_choice, plain_maps


def judged_replies(model, prompts, new_tokens):
    """Return the untouched model's short replies and their verdicts."""
    made = []
    for batch in generate(model, [p.text for p in prompts], max_new_tokens=new_tokens):
        for reply in batch:
            p = prompts[reply.index]
            made.append(
                Completion(p.language, p.id, "base", reply.text, len(reply.tokens), "length")
            )
    by_key = {p.key: p for p in prompts}
    return made, get_judge("embedded").judge([Reply(by_key[c.key], c) for c in made])


def timed(job):
    """Return (result, processor seconds)."""
    start = time.process_time()
    result = job()
    return result, time.process_time() - start


def as_map(positions, vectors, scores):
    """Return the scores as a map."""
    norm = vectors.double().norm(dim=-1).numpy()
    return SelectionMap(
        positions, ("",) * len(positions), norm, scores.induce, scores.kl, scores.kl_at_least,
        scores.bypass, scores.base_harmful, scores.base_harmless,
    )  # fmt: skip


def largest_difference(maps, found):
    """Return the largest difference of a score that both have computed."""
    names = ("induce", "kl", "bypass")
    pairs = [(maps[p][i], getattr(found, n)[p]) for p in maps for i, n in enumerate(names)]
    return float(max(abs(a - b) for a, b in pairs if not np.isnan(b)))


def compare(model, language, prompts, outcomes, tokens, options):
    """Return the row of one language."""
    layers = tuple(int(x) for x in options.layers.split(","))
    own = [p for p in prompts if p.language == language]
    settings = SelectionSettings(
        fallback=True, layers=layers, min_examples=options.min_examples,
        min_induce=options.min_induce, max_kl=options.max_kl,
    )  # fmt: skip
    full = SelectionSettings(**{**settings.to_json(), "layers": layers, "full_maps": True})
    examples = choose_examples(own, outcomes, settings)
    if examples.lack is not None:
        raise SystemExit(f"{language}: {examples.words}")
    positions = post_instruction_positions(model)
    with TemporaryDirectory() as folder:
        train = [*examples.train_harmful, *examples.train_harmless]
        states = capture(
            model, train, Path(folder), layers=[x - 1 for x in layers], positions=positions
        )
        vectors = candidate_vectors(states, examples, positions, len(model.blocks), full)
    val = [p.text for p in examples.val_harmful], [p.text for p in examples.val_harmless]

    def ours(chosen):
        harmful, harmless = (Passes(model, texts) for texts in val)
        scores = score_candidates(vectors, harmful, harmless, tokens.ids, chosen, Journal(None, ""))
        return as_map(positions, vectors, scores)

    places = [(i, layer) for i in range(len(positions)) for layer in layers]
    lazy, lazy_s = timed(lambda: ours(settings))
    whole, whole_s = timed(lambda: ours(full))
    (maps, _), plain_s = timed(
        lambda: plain_maps(
            model, vectors, *val, tokens.ids, places=places, batch=options.plain_batch
        )
    )
    worst = max(largest_difference(maps, lazy), largest_difference(maps, whole))
    assert worst < 1e-4 * max(1.0, *(abs(x) for scores in maps.values() for x in scores)), worst
    plain_place = plain_choice(
        maps, len(model.blocks), min_induce=options.min_induce, max_kl=options.max_kl
    )
    for found in (lazy, whole):
        best, _, _ = choose(found, settings)
        place = None if best is None else (positions.index(best.position), best.layer)
        assert place == plain_place, f"{language}: {place} and {plain_place} are chosen"
    _, removed, passed = choose(lazy, settings)
    return {
        "language": language, "candidates": len(places), "val prompts": len(val[0]) + len(val[1]),
        "contrast": examples.contrast, "removed": str({k: v for k, v in removed.items() if v}),
        "passed": passed, "chosen": str(plain_place), "ours, s": lazy_s, "all maps, s": whole_s,
        "plain, s": plain_s, "ratio": plain_s / lazy_s, "ratio, all maps": plain_s / whole_s,
        "largest difference": worst,
    }  # fmt: skip


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--languages", default="en,ar,yo")
    parser.add_argument("--layers", default="4,8,12,16,20", help="candidate layers, for both ways")
    parser.add_argument("--train", type=int, default=16, help="prompts per class")
    parser.add_argument("--val", type=int, default=8, help="prompts per class")
    parser.add_argument("--min-examples", type=int, default=4)
    parser.add_argument("--min-induce", type=float, default=0.0, help="filter; 0 as published")
    parser.add_argument("--max-kl", type=float, default=0.1, help="filter; 0.1 as published")
    parser.add_argument("--new-tokens", type=int, default=16, help="of the replies that are judged")
    parser.add_argument("--plain-batch", type=int, default=32, help="as in the published code")
    options = parser.parse_args()
    model = load_model(options.model, dtype=options.dtype)
    languages = tuple(options.languages.split(","))
    prompts = []
    for split, n in (("train", options.train), ("val", options.val)):
        pool = load_prompts(options.prompts, languages=languages, splits=split)
        prompts += take(pool, n)
    made, verdicts = judged_replies(model, prompts, options.new_tokens)
    train = {p.key for p in prompts if p.split == "train"}
    tokens = derive_tokens(model, [c for c in made if c.key in train], verdicts)
    outcomes = {v.key: v.outcome for v in verdicts}
    rows = []
    for language in languages:
        found = tokens[language]
        print(f"{language}: tokens {found.texts}, borrowed {found.borrowed}", flush=True)
        print(f"  begin {found.share_refused:.2f} of refusals, {found.share_other:.2f} of others; "
              f"published English: {found.published_share_refused:.2f}, "
              f"{found.published_share_other:.2f}", flush=True)  # fmt: skip
        rows.append(compare(model, language, prompts, outcomes, found, options))
        print(rows[-1], flush=True)
    ours, plain = sum(r["ours, s"] for r in rows), sum(r["plain, s"] for r in rows)
    title = (
        f"{len(rows)} languages, {torch.get_num_threads()} threads, processor time: "
        f"{plain / ours:.1f} times as fast, all maps "
        f"{plain / sum(r['all maps, s'] for r in rows):.1f} times"
    )
    finish(title, rows, options.json)


if __name__ == "__main__":
    main()
