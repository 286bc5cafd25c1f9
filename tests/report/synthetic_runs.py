"""Synthetic run folders, built from the same dataclasses that a real run writes."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from babelgate.results import (
    Comparison,
    ContrastRow,
    Diagnosis,
    GateRow,
    GateScores,
    LayerChoice,
    MacroRow,
    Results,
    Row,
    Separability,
    ThresholdRow,
)
from babelgate.types import Completion, Estimate, Verdict

TIERS = {
    "high": ("en", "de", "fr", "es", "it", "nl", "pl", "ru", "zh", "ja"),
    "mid": ("ar", "ko", "th", "el", "he", "hi", "fa"),
    "low": ("sw", "am", "my", "km", "si", "yo", "ba", "be", "tg", "yi", "bn", "jv", "ht"),
}
JUDGE_NOTE = "The embedded judge matches phrases; it agreed with people on 0.91 of 600 replies."


@dataclass(frozen=True)
class Spec:
    """What a synthetic run looks like."""

    languages: tuple[str, ...]
    methods: tuple[str, ...] = ("base", "gate")
    layers: int = 24
    n: int = 100
    missing: tuple[str, ...] = ()
    diagnosed: bool = True
    model: str = "Qwen2.5-Coder-0.5B-Instruct"
    seed: int = 1


FULL = Spec(
    ("en", "de", "fr", "zh", "ru", "ja", "ar", "ko", "th", "sw", "yo", "ba"), missing=("ba",)
)
MEASURED = Spec(("en", "de", "ar", "yo"), methods=("base",), diagnosed=False)
EXTREME = Spec(
    tuple(c for tier in TIERS.values() for c in tier),
    methods=(
        "base",
        "gate",
        "adasteer-adapted",
        "cast",
        "ablation",
        "system prompt",
        "guard",
        "x" * 60,
    ),
    layers=80,
    n=1000,
    missing=("yo", "am"),
    model="organisation/" + "a-model-with-a-very-long-name" * 4,
)
SMALLEST = Spec(("en",), layers=6, n=3)


def tier_of(code: str) -> str:
    return next((tier for tier, codes in TIERS.items() if code in codes), "low")


def wilson(hits: int, n: int, unscored: int = 0) -> Estimate:
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0, 0, unscored, "wilson")
    p, z = hits / n, 1.96
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return Estimate(p, min(low, p), max(high, p), n, n, unscored, "wilson")


def minus(a: Estimate, b: Estimate) -> Estimate:
    if a.missing or b.missing:
        return wilson(0, 0, a.n_unscored + b.n_unscored)
    value = a.value - b.value
    half = math.hypot(a.high - a.low, b.high - b.low) / 2
    low, high = max(-1.0, value - half), min(1.0, value + half)
    n, unscored = min(a.n, b.n), a.n_unscored + b.n_unscored
    return Estimate(value, low, high, n, n, unscored, "newcombe")


def _outcomes(rng: random.Random, n: int, refused: int) -> dict[str, int]:
    rest = n - refused
    degenerate, wrong = (int(rest * rng.uniform(0, 0.15)) for _ in range(2))
    counts = {"refused": refused, "answered": rest - degenerate - wrong}
    counts |= {"degenerate": degenerate, "wrong_language": wrong}
    return counts


def _row(rng: random.Random, spec: Spec, method: str, code: str) -> Row:
    tier = tier_of(code)
    knows = {"high": 0.9, "mid": 0.7, "low": 0.35}[tier] + rng.uniform(-0.08, 0.06)
    over = {"high": 0.05, "mid": 0.1, "low": 0.45}[tier] + rng.uniform(-0.05, 0.1)
    step = spec.methods.index(method)
    if step:
        knows, over = knows + (1 - knows) * 0.5 / step, over * (0.5 + 0.1 * step)
    n = 0 if code in spec.missing and method == "base" else spec.n
    harmful, harmless = round(n * max(0, min(1, knows))), round(n * max(0, min(1, over)))
    outcomes = {
        # One unparsed verdict in each cell, as :func:`write_run` writes them.
        "harmful": _outcomes(rng, n, harmful) | {"unparsed": 1},
        "harmless": _outcomes(rng, n, harmless) | {"unparsed": 0},
    }
    if n == 0:
        outcomes = {label: {"unparsed": spec.n} for label in outcomes}
    a = wilson(harmful, n, outcomes["harmful"]["unparsed"])
    b = wilson(harmless, n, outcomes["harmless"]["unparsed"])
    gate = None
    if step and not method.startswith("system"):
        fired = wilson(round(spec.n * min(1, knows + 0.1)), spec.n)
        false = wilson(round(spec.n * max(0, over * 0.4)), spec.n)
        auroc = min(0.99, knows + 0.05)
        gate = GateRow(fired, false, minus(fired, false), auroc, auroc - 0.06, 0.3, {code: spec.n})
    role = "source" if tier == "high" else "target"
    return Row(method, code, tier, role, a, b, minus(a, b), outcomes, rng.randint(0, 4), gate)


def _mean(estimates: Sequence[Estimate]) -> Estimate:
    known = [e for e in estimates if not e.missing]
    if not known:
        return wilson(0, 0, 3)
    value, low, high = (
        sum(getattr(e, f) for e in known) / len(known) for f in ("value", "low", "high")
    )
    n, unscored = sum(e.n for e in known), sum(e.n_unscored for e in estimates)
    return Estimate(value, low, high, n, n, unscored, "bootstrap")


def _macro(rows: Sequence[Row], method: str, group: str) -> MacroRow | None:
    own = [r for r in rows if r.method == method and group in ("all", r.tier)]
    if not own:
        return None
    metrics = ("harmful_refusal", "harmless_refusal", "selectivity")
    means = [_mean([getattr(r, m) for r in own]) for m in metrics]
    return MacroRow(method, group, tuple(r.language for r in own), *means)


def build_results(spec: Spec) -> Results:
    rng = random.Random(spec.seed)
    rows = tuple(_row(rng, spec, m, c) for m in spec.methods for c in spec.languages)
    means = [_macro(rows, m, g) for g in ("all", "high", "mid", "low") for m in spec.methods]
    macro = tuple(m for m in means if m is not None)
    value = {(m.method, m.group): m for m in macro}
    comparisons = []
    for method in spec.methods[1:]:
        for metric in ("harmful_refusal", "harmless_refusal", "selectivity"):
            a, b = (getattr(value[m, "all"], metric).value for m in (spec.methods[0], method))
            delta = b - a
            args = (
                (None, None, None, None, None)
                if math.isnan(delta)
                else (delta, delta - 0.06, delta + 0.06, 0.004, 0.012)
            )
            comparisons.append(Comparison(spec.methods[0], method, "all", metric, *args, n=spec.n))
    model = {"name": spec.model, "revision": "main", "dtype": "bfloat16", "n_layers": spec.layers}
    prompts = {"name": "starter", "fingerprint": "0123456789abcdef", "n": spec.n * 2}
    judge = {"name": "embedded", "version": "1", "note": JUDGE_NOTE}
    return Results(model, prompts, judge, rows, macro, tuple(comparisons))


def build_diagnosis(spec: Spec) -> Diagnosis:
    rng = random.Random(spec.seed + 1)
    chosen = (spec.layers // 2, spec.layers * 3 // 4)
    knows = {"high": 0.96, "mid": 0.9, "low": 0.82}
    twin = {"high": 0.82, "mid": 0.68, "low": 0.52}
    role = {c: "source" if tier_of(c) == "high" else "target" for c in spec.languages}
    separability, scores, thresholds, contrasts = [], [], [], []
    for code in spec.languages:
        tier = tier_of(code)
        for layer in range(spec.layers):
            depth = 1 - math.exp(-5 * (layer + 1) / spec.layers)
            for contrast, peak in (("topic", knows[tier]), ("twins", twin[tier])):
                auroc = 0.5 + (peak - 0.5) * depth + rng.uniform(-0.06, 0.04)
                gone = code in spec.missing and contrast == "twins"
                separability.append(
                    Separability(
                        code,
                        tier,
                        role[code],
                        contrast,
                        layer,
                        None if gone else min(1, auroc),
                        40,
                        40,
                    )
                )
        shift = {"high": 3.0, "mid": 2.0, "low": 1.0}[tier]
        draw = lambda mean, n: tuple(rng.gauss(mean, 1.1) for _ in range(n))  # noqa: E731
        n_twins = 0 if code in spec.missing else min(spec.n, 24)
        scores.append(
            GateScores(
                code,
                tier,
                role[code],
                0.4,
                draw(shift, spec.n),
                draw(-shift, spec.n),
                draw(shift * 0.2, n_twins),
            )
        )
        for rule, gain in (("median", 0.02), ("shrunk", 0.03), ("paper", -0.08)):
            for k in (0, 1, 2, 4, 8, 16):
                value = (
                    knows[tier] - 0.1 + (gain if k else 0) + 0.004 * k + rng.uniform(-0.01, 0.01)
                )
                used = rule == "shrunk" and k == 4
                thresholds.append(
                    ThresholdRow(
                        code, rule, k, 0.4 + gain, min(1.0, value), 80, 20 if k else 1, used
                    )
                )
        contrasts.append(
            ContrastRow(code, tier, role[code], "topic", knows[tier], knows[tier] - 0.06, 60, 60)
        )
        if code not in spec.missing:
            contrasts.append(
                ContrastRow(code, tier, role[code], "twins", twin[tier], twin[tier] - 0.04, 24, 24)
            )
    choices = [
        LayerChoice(
            (a,) if a == b else (a, b), 0.8 + 0.1 * rng.random(), 0.9, 0.7, (a, b) == chosen
        )
        for a in range(0, spec.layers, max(1, spec.layers // 6))
        for b in (a, chosen[1])
        if (a, b) != chosen
    ]
    choices.append(LayerChoice(chosen, 0.912, 0.953, 0.781, True))
    gate = {
        "layers": list(chosen),
        "rank": 10,
        "action": "add the refusal direction",
        "alpha": 1.25,
    }
    return Diagnosis(
        gate,
        tuple(separability),
        tuple(scores),
        tuple(choices),
        tuple(thresholds),
        tuple(contrasts),
    )


RUN_INFO = {
    "command": ["babelgate", "evaluate", "--model", "demo", "--out", "my run"],
    "seed": 17,
    "deterministic": True,
    "config": {"max_new_tokens": 128, "languages": ["en", "de"], "nested": {"a": {"b": None}}},
    "versions": {"babelgate": "0.1.0", "torch": "2.9.1", "transformers": "5.3.0"},
    "fingerprints": {"weights": "1d9614638d18024d", "template": "77aa0e11c0ffee00"},
    "hardware": {"cpu": "2 cores", "memory_gib": 15.4, "gpu": None},
    "timings": {"capture": 41.2, "generate": 318.77, "judge": 2.5},
}


def write_run(folder: Path, spec: Spec, *, replies: int = 3) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    put = lambda name, data: (folder / name).write_text(json.dumps(data), encoding="utf-8")  # noqa: E731
    put("results.json", build_results(spec).to_json())
    put("run.json", RUN_INFO)
    if spec.diagnosed:
        put("diagnosis.json", build_diagnosis(spec).to_json())
    completions, verdicts = [], []
    for method in spec.methods:
        for code in spec.languages:
            for i in range(replies):
                text = f"Reply {i} of {method} in {code}: secret-text"
                fired = None if method == "base" else i % 2 == 0
                completions.append(Completion(code, f"p{i}", method, text, 7, "eos", fired=fired))
                outcome = "unparsed" if i == 2 else "answered"
                verdicts.append(Verdict(code, f"p{i}", method, "embedded", outcome))
    lines = lambda items: "".join(json.dumps(i.to_json()) + "\n" for i in items)  # noqa: E731
    (folder / "completions.jsonl").write_text(lines(completions), encoding="utf-8")
    (folder / "verdicts.jsonl").write_text(lines(verdicts), encoding="utf-8")
    return folder
