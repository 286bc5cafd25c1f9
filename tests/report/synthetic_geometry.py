"""Synthetic inputs of the sections on geometry: plain arrays with names, some of them missing."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from babelgate.breaks import Breaks, Evidence, breaks_of
from babelgate.languages import tier
from babelgate.report.figures_maps import Maps, ScoreMap
from babelgate.report.figures_profile import Profile
from babelgate.report.figures_projection import Cloud, Projection
from babelgate.report.geometry_sections import GeometryPage, LayerMatrices, Skipped
from babelgate.report.matrices import Matrix, Ramp, groups_of
from babelgate.report.names import TierGroup, language_name
from babelgate.types import Estimate

FIFTEEN = ("en", "de", "fr", "es", "ru", "zh", "ja", "ar", "ko", "th", "sw", "my", "km", "yo", "ba")
THREE = ("en", "ko", "yo")
LAYERS = tuple(range(24))
CHOSEN = 14
CONTROLS = TierGroup("controls", ("random", "shuffled", "identity"))


def groups(languages: tuple[str, ...]) -> tuple[TierGroup, ...]:
    return groups_of(languages, {c: tier(c) for c in languages})


def quality(language: str) -> float:
    """How well a language is represented, 0 to 1."""
    return {"high": 0.95, "mid": 0.75}.get(tier(language), 0.4)


def around(value: float, half: float, n: int = 128, least: float = 0.0) -> Estimate:
    ends = max(least, value - half), min(1.0, value + half)
    return Estimate(value, *ends, n, n, 0, "bootstrap")


def build_breaks(languages: tuple[str, ...]) -> Breaks:
    """Every verdict occurs where there are enough languages; the last one has no gate."""
    found = []
    for i, code in enumerate(languages):
        q = quality(code)
        one = Evidence(
            code,
            language_name(code),
            identification=None if code == "en" else around(0.2 + 0.7 * q - 0.06 * (i % 3), 0.07),
            chance=None if code == "en" else 1 / 128,
            u_score=around(0.3 * q, 0.02),
            auroc=around(0.55 + 0.4 * q, 0.04),
            twins_auroc=around(0.5 + 0.3 * q, 0.08, 48) if i % 2 == 0 else None,
            balanced_source=around(0.6 + 0.25 * q, 0.03),
            balanced_own=around(0.65 + 0.24 * q + 0.07 * (i % 4 == 3), 0.03),
            threshold_loss=around(0.02 + 0.11 * (i % 4 == 3), 0.02, least=-1),
            gate_selectivity=around(0.7 * q + 0.1, 0.06, least=-1),
            base_selectivity=around((0.65 * q + 0.1) * (q > 0.9), 0.05, least=-1),
            repaired_selectivity=around(0.5 * q, 0.06, least=-1),
            base_harmful=around(0.9 - 0.3 * q, 0.05),
            base_harmless=around(0.8 - 0.75 * q, 0.05),
            reasons={"twins_auroc": "no twins in this language"},
        )
        if i == len(languages) - 1:
            one = replace(one, gate_selectivity=None, repaired_selectivity=None,
                          reasons={"gate_selectivity": "no gate was given"})  # fmt: skip
        found.append(one)
    return breaks_of(found)


def cosine_matrix(languages: tuple[str, ...], layer: int, gone: str | None = None) -> Matrix:
    rng = np.random.default_rng(layer)
    shape = groups(languages)
    codes = [c for g in shape for c in g.languages]
    q = np.array([quality(c) for c in codes]) * math.sin((layer + 1) / 8)
    values = np.outer(q, q) + rng.normal(0, 0.06, (len(codes), len(codes)))
    values = np.clip((values + values.T) / 2 - 0.1, -1, 1)
    np.fill_diagonal(values, 1.0)
    if gone in codes:
        values[codes.index(gone)] = values[:, codes.index(gone)] = math.nan
    return Matrix(
        f"cosine-{layer}", f"Cosines of harmfulness directions at layer {layer}",
        "direction of", "direction of", shape, shape, values.tolist(), Ramp(-1, 1, 0),
        caption="Cosine of two languages' unit directions: 1 is the same, 0 unrelated.",
        missing="too few refusals for a direction",
    )  # fmt: skip


def transfer_matrix(languages: tuple[str, ...]) -> Matrix:
    rng = np.random.default_rng(3)
    shape = groups(languages)
    codes = [c for g in shape for c in g.languages]
    rows = [*codes, *CONTROLS.languages]
    values = -0.7 * np.array([[quality(r) * quality(c) for c in codes] for r in codes])
    values = np.concatenate([values, rng.normal(0, 0.05, (3, len(codes)))])
    values += rng.normal(0, 0.05, values.shape)
    values[1, -1] = math.nan
    marked = (values < values[len(codes) :].min(0)) & (np.arange(len(rows))[:, None] < len(codes))
    return Matrix(
        "transfer-ablate", "Change of harmful refusals when projected out", "direction from",
        "effect on", (*shape, CONTROLS), shape, values.tolist(), Ramp(-1, 1, 0), "points",
        "Points of harmful refusals, after minus before.", marked.tolist(),
        "exceeds every control", "no refusals before",
    )  # fmt: skip


def build_maps(name: str = "en") -> Maps:
    rng = np.random.default_rng(5)
    positions = ("<|im_end|>", "\\n", "<|im_start|>", "assistant", "\\n (t_post)")
    at = np.arange(len(LAYERS))
    bump = np.exp(-((at - 14) ** 2) / 30) * np.linspace(0.5, 1, 5)[:, None]
    bypass = 2 - 7 * bump + rng.normal(0, 0.4, bump.shape)
    induce = -4 + 9 * bump + rng.normal(0, 0.4, bump.shape)
    induce[:, -2:] = math.nan
    kl = 0.02 + 0.2 * rng.random(bump.shape) ** 3 + 3 * (at < 2)
    kept = (kl < 0.1) & (induce > 0) & (at < 0.8 * len(at))
    best = np.where(kept, bypass, np.inf)
    row, column = np.unravel_index(int(best.argmin()), best.shape)
    return Maps(
        f"selection-{name}", f"Candidates in {language_name(name)}", positions, LAYERS,
        (
            ScoreMap("Bypass", bypass.tolist(), "lower is better", "log-odds of a refusal"),
            ScoreMap("Induce", induce.tolist(), "higher is better", "log-odds of a refusal", 0.0),
            ScoreMap("KL", kl.tolist(), "lower is better", "nats", 0.1),
            ScoreMap("Steering", None, "higher is better", reason="no filter needs it"),
        ),
        kept.tolist(), (int(row), int(column)),
    )  # fmt: skip


def build_profiles(languages: tuple[str, ...]) -> tuple[Profile, ...]:
    rng = np.random.default_rng(7)
    at = np.array(LAYERS)
    found = []
    for name, title, low, high, base, reference in (
        ("separability", "Separability of harm, AUROC", 0.4, 1.0, 0.5, 0.5),
        ("u-score", "U-score against English", 0.0, 0.6, 0.0, None),
        ("subspace", "Share inside the source subspace", 0.0, 1.0, 0.1, None),
        ("harm-refusal", "Harmfulness against refusal, cosine", -0.4, 1.0, -0.1, 0.0),
    ):
        series = {}
        for code in languages:
            reach = (high - base) * quality(code) * np.sin((at + 2) / 9)
            line = base + reach * 0.9 + rng.normal(0, 0.015, len(at))
            line[at == 9] = math.nan if code == "ko" else line[at == 9]
            series[code] = line.tolist()
        series[languages[-1]] = [math.nan] * len(at) if name == "u-score" else series[languages[-1]]
        found.append(
            Profile(name, title, LAYERS, series, low, high, reference, "chance", chosen=(CHOSEN,))
        )
    return tuple(found)


def build_projection(languages: tuple[str, ...]) -> Projection:
    rng = np.random.default_rng(11)
    clouds = {}
    for code in languages:
        q = quality(code)
        harmful = np.arange(240) % 2 == 0
        x = rng.normal(0, 1, 240) + 4 * q * harmful
        y = rng.normal(0, 1, 240) + 3 * (1 - q)
        clouds[code] = Cloud(x.tolist(), y.tolist(), harmful.tolist())
    if len(languages) > 3:
        clouds[languages[-2]] = Cloud([], [], [])
    return Projection(
        "projection", "Prompts at layer 14", clouds, shares=(0.34, 0.12), reference="en",
        caption="Principal components of all prompts' states at t_post.",
    )  # fmt: skip


def build_page(languages: tuple[str, ...] = FIFTEEN) -> GeometryPage:
    cosines = tuple((layer, cosine_matrix(languages, layer, "ba")) for layer in LAYERS)
    return GeometryPage(
        languages,
        {},
        build_breaks(languages),
        build_profiles(languages),
        (LayerMatrices("cosine", "Cosines of harmfulness directions", cosines, CHOSEN),),
        (transfer_matrix(languages),),
        (build_maps("en"), build_maps("yo")),
        (build_projection(languages),),
        (
            Skipped(
                "Parallelism in Bashkir",
                "the prompts of ba share no group_id with those of en",
                "translations with group_id",
            ),
            Skipped("Separability at t_inst", "the template has no post-instruction tokens"),
        ),
    )
