"""What a method costs on harmless prompts: divergence of the next token, and time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..artifacts import JsonLines, fingerprint
from ..first_token import first_tokens
from ..generate import generate
from ..interventions.base import Intervention
from ..models.chat import ChatModel
from ..types import Prompt
from .contenders import UNTOUCHED, Contender, Treatment


def divergences(
    model: ChatModel,
    prompts: Sequence[Prompt],
    treatments: Mapping[str, tuple[Treatment, np.ndarray]],
    file: Path,
    *,
    on_prompts: Callable[[int], None] | None = None,
) -> dict[str, np.ndarray]:
    """Return ``KL(base || treatment)`` of the next token per treatment and prompt, ``[N]`` nats.

    Only on harmless prompts that a method gives the treatment; NaN elsewhere, and where fixed words
    are said. Treatments with a system prompt are NaN: another prompt has no distribution to compare
    token by token. Each number is kept in ``file``.
    """
    n = len(prompts)
    log = JsonLines(file)
    known = {line["key"]: float(line["kl"]) for line in log.read()}
    found = {UNTOUCHED.name: np.where([p.harmful for p in prompts], np.nan, 0.0)}
    for name, (treatment, where) in treatments.items():
        values = np.full(n, np.nan)
        method = treatment.method()
        if name != UNTOUCHED.name and not treatment.fixed and treatment.systems is None:
            wanted = [i for i in range(n) if where[i] and not prompts[i].harmful]
            keys = {
                i: fingerprint([model.identity.weights, model.identity.template,
                                model.identity.dtype, method.key, prompts[i].language,
                                prompts[i].text])
                for i in wanted
            }  # fmt: skip
            todo = [i for i in wanted if keys[i] not in known]
            if todo:
                new = first_tokens(
                    model,
                    [prompts[i].text for i in todo],
                    {name: method.intervention},
                    [frozenset()] * len(todo),
                    languages=[prompts[i].language for i in todo],
                    on_rows=on_prompts,
                )[name].kl
                known |= {keys[i]: float(kl) for i, kl in zip(todo, new)}
                log.append({"key": keys[i], "kl": known[keys[i]]} for i in todo)
            for i in wanted:
                values[i] = known[keys[i]]
        found.setdefault(name, values)
    return found


def divergence_of(
    contender: Contender, prompts: Sequence[Prompt], by_treatment: Mapping[str, np.ndarray]
) -> tuple[float | None, int, float | None]:
    """Return (mean KL on harmless prompts, prompts it is over, share answered with fixed words).

    The share is None without harmless prompts.
    """
    harmless = np.array([not p.harmful for p in prompts])
    sides = contender.sides(len(prompts))
    nothing = np.full(len(prompts), np.nan)
    parts = [by_treatment.get(t.name, nothing) for t in (contender.fired, contender.silent)]
    kl = np.where(sides, parts[0], parts[1])[:, harmless]
    fixed = [np.float64(t.fixed) for t in (contender.fired, contender.silent)]
    said = float(np.where(sides[:, harmless], *fixed).mean()) if harmless.any() else None
    finite = np.isfinite(kl)
    mean = float(kl[finite].mean()) if finite.any() else None
    return mean, int(finite.any(axis=0).sum()), said


@dataclass(frozen=True)
class Latency:
    """Time of a batch of replies relative to the untouched model's: median and quartiles."""

    ratio: float
    low: float
    high: float


def latencies(
    model: ChatModel,
    texts: Sequence[str],
    languages: Sequence[str],
    interventions: Mapping[str, Intervention | None],
    *,
    systems: Mapping[str, str | None] | None = None,
    max_new_tokens: int = 16,
    repeats: int = 5,
) -> dict[str, Latency]:
    """Time replies to the same prompts under each method, in turns with the untouched model.

    Each repeat times the untouched model and then every method, so that what slows the machine for
    a while slows all; the ratio of one repeat is a method's time over the untouched model's.
    """
    ratios: dict[str, list[float]] = {name: [] for name in interventions}

    def seconds(intervention: Intervention | None, system: str | None) -> float:
        start = time.perf_counter()
        for _ in generate(
            model,
            texts,
            max_new_tokens=max_new_tokens,
            intervention=intervention,
            languages=languages,
            system=system,
        ):
            pass
        return time.perf_counter() - start

    seconds(None, None)  # the first call sets up
    for _ in range(repeats):
        base = seconds(None, None)
        for name, intervention in interventions.items():
            system = None if systems is None else systems.get(name)
            ratios[name].append(seconds(intervention, system) / base)
    found = {}
    for name, values in ratios.items():
        low, middle, high = (
            statistics.quantiles(values, n=4, method="inclusive")
            if len(values) > 1
            else (values[0],) * 3
        )
        found[name] = Latency(middle, low, high)
    return found
