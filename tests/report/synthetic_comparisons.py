"""Synthetic comparisons and action searches, built from the dataclasses that a real run writes."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from babelgate.comparing.results import ComparedRow, Comparison, Difference, MethodFacts
from babelgate.types import Estimate

LANGUAGES = ("ar", "ko", "th", "sw", "yo")
#: name -> (family, harmful refused, harmless refused)
METHODS = {
    "base": ("base", 0.62, 0.21),
    "gate": ("gate", 0.88, 0.07),
    "gate-false-alarm-5": ("gate", 0.79, 0.05),
    "gate-no-recalibration": ("gate", 0.84, 0.1),
    "gate-paper-threshold": ("gate", 0.8, 0.12),
    "gate-paper-actions": ("gate", 0.66, 0.2),
    "gate-fixed-refusal": ("gate", 0.9, 0.16),
    "gate-identified-language": ("gate", 0.87, 0.07),
    "gate-wrong-language": ("gate", 0.83, 0.14),
    "paper": ("paper", 0.7, 0.22),
    "add-harmfulness": ("rival", 0.83, 0.44),
    "ablate-refusal": ("rival", 0.2, 0.04),
    "system-prompt": ("rival", 0.86, 0.39),
    "one-block-probe": ("gate", 0.82, 0.11),
    "difference-of-means": ("gate", 0.81, 0.12),
    "cast-zero-shot": ("rival", 0.64, 0.25),
    "cast-adapted": ("rival", 0.68, 0.24),
    "omniguard": ("rival", 0.85, 0.15),
    "adasteer-adapted": ("rival", 0.74, 0.31),
    "guard": ("rival", 0.81, 0.11),
    "random-direction": ("control", 0.61, 0.22),
    "shuffled-labels": ("control", 0.55, 0.26),
    "always-refuse": ("control", 1.0, 1.0),
}
METRICS = (
    "harmful_refusal",
    "harmless_refusal",
    "selectivity",
    "degenerate_harmful",
    "degenerate_harmless",
    "degenerate",
    "gate_selectivity",
    "fired_harmful",
    "fired_harmless",
)
FIXED = ("gate-fixed-refusal", "omniguard", "guard", "always-refuse")


def around(value: float, half: float, low: float = -1.0) -> Estimate:
    ends = max(low, value - half), min(1.0, value + half)
    return Estimate(value, ends[0], ends[1], 100, 100, 0, "bootstrap")


def nothing() -> Estimate:
    return Estimate(math.nan, math.nan, math.nan, 0, 0, 20, "bootstrap")


def _row(
    rng: random.Random, method: str, spec: tuple[str, float, float], group: str, gone: bool
) -> ComparedRow:
    family, harmful, harmless = spec
    move = 0.0 if group == "all" else rng.uniform(-0.1, 0.1)
    a, b = min(1, max(0, harmful + move)), min(1, max(0, harmless - move / 2))
    decided = family in ("gate", "paper", "control") or method in FIXED
    values = {
        "harmful_refusal": around(a, 0.05, 0),
        "harmless_refusal": around(b, 0.04, 0),
        "selectivity": around(a - b, 0.07),
        "degenerate_harmful": around(0.02 + abs(move) / 5, 0.01, 0),
        "degenerate_harmless": around(0.01, 0.01, 0),
        "degenerate": around(0.015 + harmless / 8, 0.01, 0),
        "gate_selectivity": around(a - b + 0.05, 0.05) if decided else nothing(),
        "fired_harmful": around(a, 0.05, 0) if decided else nothing(),
        "fired_harmless": around(b, 0.05, 0) if decided else nothing(),
    }
    assert tuple(values) == METRICS
    if gone:
        values = {metric: nothing() for metric in METRICS}
    seeds = 5 if family == "gate" else 1
    return ComparedRow(
        method,
        group,
        values,
        0.012 if seeds > 1 else None,
        seeds,
        0.9 if decided else None,
    )


def build_comparison(
    methods: Sequence[str] = tuple(METHODS),
    languages: Sequence[str] = LANGUAGES,
    *,
    missing: Sequence[tuple[str, str]] = (),
    latency: bool = True,
    kl: bool = True,
    shots: int = 4,
) -> Comparison:
    """Return a comparison; ``missing`` cells (method, group) are all NaN."""
    rng = random.Random(3)
    specs = {m: METHODS.get(m, ("rival", 0.7, 0.3)) for m in methods}
    rows = tuple(
        _row(rng, m, spec, group, (m, group) in missing)
        for m, spec in specs.items()
        for group in (*languages, "all")
    )
    value = {(r.method, r.group): r.values for r in rows}
    differences = []
    for metric in ("selectivity", "harmful_refusal", "harmless_refusal", "degenerate"):
        for m in (m for m in methods if m != "base" and "base" in methods):
            for group in (*languages, "all"):
                delta = value[m, group][metric].value - value["base", group][metric].value
                known = not math.isnan(delta)
                numbers = (delta, delta - 0.06, delta + 0.06) if known else (None,) * 3
                p = 0.0004 if abs(delta) > 0.06 else 0.4
                ps = (p, min(1.0, p * 20)) if known else (None, None)
                differences.append(Difference("base", m, group, metric, *numbers, *ps, 100))
    facts = []
    for i, (m, (family, _, harmless)) in enumerate(specs.items()):
        said = m in FIXED
        took = (None,) * 3 if m == "base" or not latency else (1 + 0.02 * i, 1.0, 1.1 + 0.02 * i)
        facts.append(
            MethodFacts(
                m,
                family,
                f"what {m} is",
                "fixed-refusal" if said else f"act-{m}",
                "base",
                "1280 source + 4 per class and target" if family == "gate" else "none",
                14 if family == "gate" else None,
                None if said or not kl else (0.0 if m == "base" else 0.1 + harmless),
                0 if said else 50,
                1.0 if m == "always-refuse" else harmless if said else 0.0,
                *took,
                {"layers": [3, 7, 14], "l2": 0.1} if family == "gate" else {},
            )
        )
    return Comparison(
        model={"name": "Qwen2.5-Coder-0.5B-Instruct", "dtype": "bfloat16"},
        prompts={"name": "polyrefuse", "n": 1000, "languages": list(languages), "sources": ["en"]},
        judge={"name": "embedded", "version": "1", "note": "It matches phrases."},
        shots=shots,
        seeds=(0, 1, 2, 3, 4),
        methods=tuple(facts),
        rows=rows,
        differences=tuple(differences),
        notes=("two prompts were left out",),
    )


def build_actions(n_fired: int = 8, n_silent: int = 11, *, finalists: int = 4) -> dict:
    """Return the document of ``actions_tried.json``: every pair, the first ones judged."""
    rng = random.Random(5)
    fired = ["fixed-refusal", "open-with-refusal", "add-harmfulness-x1", "add-harmfulness-x2"]
    fired += [f"add-refusal-{b}" for b in range(12, 12 + max(0, n_fired - 4))]
    silent = ["none", "project-harmfulness"]
    for block in range(12, 12 + max(0, (n_silent - 2) // 2)):
        silent += [
            f"project-refusal-{block}-everywhere",
            f"project-refusal-{block}-half-everywhere",
        ]
    sides = [
        {
            "side": "fired" if name in fired else "silent",
            "name": name,
            "log_odds": None if "with" in name or "fixed" in name else rng.uniform(-3, 3),
            "refusal": rng.uniform(0, 1),
            "kl": None if name == "fixed-refusal" else rng.uniform(0, 1.5),
        }
        for name in (*fired, *silent)
    ]
    pairs = []
    for one in fired[:n_fired]:
        for other in silent[:n_silent]:
            rise = rng.uniform(-0.3, 0.3)
            kl = None if one == "fixed-refusal" and other == "none" else rng.uniform(0, 1.3)
            pairs.append(
                {
                    "fired": one,
                    "silent": other,
                    "selectivity": rng.uniform(0.2, 0.9) - abs(rise),
                    "harmless_rise": rise,
                    "kl": kl,
                    "within": rise <= 0.1 and (kl is None or kl <= 1),
                    "judged_selectivity": None,
                    "judged_harmless_rise": None,
                    "judged_degenerate_rise": None,
                    "chosen": False,
                    "false_alarm": None,
                }
            )
    pairs.sort(key=lambda p: (not p["within"], -p["selectivity"]))
    for i, pair in enumerate(pairs[:finalists]):
        pair["judged_selectivity"] = pair["selectivity"] - 0.05 * (i + 1)
        pair["judged_harmless_rise"] = pair["harmless_rise"] + 0.03
        pair["judged_degenerate_rise"] = 0.01 * i
        pair["chosen"] = i == 0
    bounds = {"harmless_refusal": 0.1, "degenerate": 0.02, "kl": 1.0}
    return {"schema": 1, "bounds": bounds, "sides": sides, "pairs": pairs}


def write_comparison_folder(
    folder: Path, comparison: Comparison, actions: dict | None = None
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(comparison.to_json(), allow_nan=False)
    (folder / "compare.json").write_text(text, encoding="utf-8")
    if actions is not None:
        (folder / "actions_tried.json").write_text(json.dumps(actions), encoding="utf-8")
    return folder


def as_dict(value: object) -> dict:
    return asdict(value)  # type: ignore[call-overload]
