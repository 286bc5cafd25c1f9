"""Small run folders with chosen verdicts, counted by the package's own rates."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from babelgate import rates
from babelgate.judged import Judged
from babelgate.results import Results
from babelgate.types import Completion, Prompt, Verdict

SECRET = "secret-text"


def errors(kappa: float = 0.9, **given: Any) -> dict[str, Any]:
    """Known errors of one language; 300 of 400 labelled replies refuse."""
    row = {"basis": "model left out", "n": 400, "refused": 300, "kappa": kappa, "auc": 0.95}
    return {**row, "ece": 0.06, "sensitivity": 0.9, "specificity": 0.8, **given}


def embedded(codes: Mapping[str, float] | None = None) -> dict[str, Any]:
    """The embedded judge with a kappa for each language, described as it describes itself."""
    codes = {"en": 0.8, "de": 0.77, "yo": 0.41} if codes is None else codes
    return {
        "name": "embedded",
        "version": "1-cafe",
        "languages": sorted(codes),
        "note": "Reads the opening only.",
        "errors": {code: errors(kappa) for code, kappa in codes.items()},
    }


def verdict(
    judge: str, language: str, index: int, label: str, outcome: str, raw: str = "", method="base"
) -> Verdict:
    """A verdict on prompt ``index`` of a label."""
    return Verdict(language, f"{label}-{index}", method, judge, outcome, raw)


def plain(
    judge: str, languages: Sequence[str], n: int, methods: Sequence[str] = ("base",)
) -> list[Verdict]:
    """Verdicts on ``n`` prompts of each label: harmful refused, harmless answered."""
    return [
        verdict(judge, code, i, label, "refused" if label == "harmful" else "answered", "", method)
        for method in methods
        for code in languages
        for label in ("harmful", "harmless")
        for i in range(n)
    ]


def replaced(verdicts: Sequence[Verdict], by: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts with those of the same reply put in their place."""
    new = {(v.method, v.key): v for v in by}
    return [new.get((v.method, v.key), v) for v in verdicts]


def judged_results(judge: Mapping[str, Any], verdicts: Sequence[Verdict]) -> Results:
    """The results of these verdicts, as a run counts them."""
    keys = dict.fromkeys((v.language, v.prompt_id) for v in verdicts)
    prompts = [
        Prompt(name, code, f"text {name}", name.partition("-")[0], "test", name)
        for code, name in keys
    ]
    judged = Judged.of(prompts, completions(verdicts), verdicts, {})
    return Results(
        {"name": "model"},
        {"name": "starter"},
        judge,
        tuple(rates.rows(judged, {})),
        tuple(rates.macro_rows(judged, seed=0)),
        tuple(rates.comparisons(judged, seed=0)),
        tuple(rates.language_comparisons(judged, seed=0)),
    )


def completions(verdicts: Sequence[Verdict]) -> list[Completion]:
    """A reply for each verdict, each with :data:`SECRET` in it."""
    return [
        Completion(v.language, v.prompt_id, v.method, f"{SECRET} {v.method} {v.key}", 7, "eos")
        for v in verdicts
    ]


def write_judged(
    folder: Path,
    judge: Mapping[str, Any],
    verdicts: Sequence[Verdict],
    *,
    lost: Sequence[Verdict] = (),
    foreign: Sequence[Verdict] = (),
) -> Path:
    """Write a run folder; ``lost`` were unparsed but not kept, ``foreign`` are of another judge."""
    folder.mkdir(parents=True, exist_ok=True)
    results = judged_results(judge, [*verdicts, *lost])
    (folder / "results.json").write_text(json.dumps(results.to_json()), encoding="utf-8")
    made = completions([*verdicts, *lost])
    _lines(folder / "completions.jsonl", [c.to_json() for c in made])
    kept = [{**v.to_json(), "key": f"{i:016x}"} for i, v in enumerate([*foreign, *verdicts])]
    _lines(folder / "verdicts.jsonl", kept)
    return folder


def _lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
