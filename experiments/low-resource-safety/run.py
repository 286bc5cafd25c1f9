"""Low-resource safety on the demo model: the paper's gate against ours, on PolyRefuse.

Usage: python experiments/low-resource-safety/run.py POLYREFUSE_FOLDER XSTEST_FILE [--out RUN]

Reads config.toml beside it. Every stage resumes; results go to results/ beside it.
"""

from __future__ import annotations

import argparse
import tomllib
from dataclasses import replace
from pathlib import Path

from babelgate import load_model, load_prompts, recipes, write_report
from babelgate.artifacts import write_json
from babelgate.config import CalibrateSettings, EvaluateSettings
from babelgate.metrics import auroc
from babelgate.prompts import take
from babelgate.report import to_markdown
from babelgate.results import load_diagnosis
from babelgate.types import CONTRASTS, contrast_members

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("polyrefuse")
    parser.add_argument("xstest")
    parser.add_argument("--out", type=Path, default=Path("runs/low-resource-safety"))
    parser.add_argument("--generate", help="gate whose replies are generated (see config.toml)")
    parser.add_argument("--only", choices=["fit", "read", "evaluate"], help="stop after a stage")
    options = parser.parse_args()
    config = tomllib.loads((HERE / "config.toml").read_text())
    model = load_model(config["model"])
    plain = load_prompts(f"polyrefuse:{options.polyrefuse}")
    both = load_prompts([f"polyrefuse:{options.polyrefuse}", "starter"])

    gates = {}
    for name, settings in config["gates"].items():
        settings = {**config["calibrate"], **settings}
        contrast = settings.get("contrast")
        fit = CalibrateSettings(**settings, out=options.out / name, model=config["model"])
        # One set of activations serves all gates that train on the same prompts.
        shared = options.out / "activations"
        link = fit.out / "activations"
        fit.out.mkdir(parents=True, exist_ok=True)
        shared.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(shared.resolve())
        gates[name] = recipes.calibrate(model, both if contrast else plain, fit).gate
        print(name, gates[name].layers, flush=True)
    if options.only == "fit":
        return

    reading = read_out(model, gates, both, load_prompts(options.xstest), options.out)
    write_json(HERE / "results" / "readout.json", reading)
    (HERE / "results" / "readout.md").write_text(readout_table(reading))
    if options.only == "read":
        return

    evaluated = EvaluateSettings(
        **config["evaluate"], out=options.out / "evaluate", model=config["model"]
    )
    # Replies of the untouched model are in the run folder and are generated once for all gates.
    for name in [options.generate] if options.generate else config["generate"]:
        results = recipes.evaluate(model, plain, evaluated, {name: gates[name]})
        diagnosis = load_diagnosis(options.out / name)
        write_json(HERE / "results" / f"replies-{name}.json", results.to_json())
        (HERE / "results" / f"replies-{name}.md").write_text(to_markdown(results, diagnosis))
        print(write_report(options.out / "evaluate"), flush=True)


def read_out(model, gates, prompts, xstest, out):
    """Return AUROC and balanced accuracy of every gate on prompts it has not seen."""
    test = prompts.select(split="test")
    # The same prompts of a group in every language; all twins.
    sample = take(test.select(where=lambda p: p.source != "starter"), 100)
    sets = {
        "polyrefuse": sample.select(languages=("en", "de", "ar", "ko", "th", "yo", "ba")),
        "starter": test.select(where=lambda p: p.source == "starter"),
        "xstest": replace(xstest, name="xstest"),
    }
    layers = sorted({layer for gate in gates.values() for layer in gate.layers})
    rows = []
    for title, chosen in sets.items():
        states = recipes.capture_languages(model, chosen, out / "readout" / title, layers=layers)
        keys = [p.key for p in chosen if p.key not in states.excluded]
        for name, gate in gates.items():
            values = gate.score({layer: states.layer(layer, keys) for layer in gate.layers})
            scores = dict(zip(keys, values.tolist()))
            rows += score_rows(name, title, gate, chosen, scores)
    fits = {
        name: {
            "layers": gate.layers,
            "alpha": gate.alpha,
            **{key: gate.provenance[key] for key in ("rule", "k", "l2", "prompts")},
        }
        for name, gate in gates.items()
    }
    return {"gates": fits, "rows": rows}


def readout_table(reading):
    """Return AUROC (share fired on harmful / harmless) per set and language as Markdown."""
    names = list(reading["gates"])
    cells = {}
    for row in reading["rows"]:
        key = (row["set"], row["contrast"], row["language"], "+".join(map(str, row["n"])))
        fired = f"{row['fired_harmful']:.2f} / {row['fired_harmless']:.2f}"
        cells.setdefault(key, {})[row["gate"]] = f"{row['auroc']:.2f} ({fired})"
    lines = [
        "| set | contrast | language | n | " + " | ".join(names) + " |",
        "|---" * (4 + len(names)) + "|",
    ]
    for key, row in cells.items():
        lines.append("| " + " | ".join([*key, *(row[name] for name in names)]) + " |")
    return "\n".join(lines) + "\n"


def score_rows(name, title, gate, chosen, scores):
    """Return one row per language and contrast of a prompt set."""
    rows = []
    for language in chosen.languages:
        own = [p for p in chosen if p.language == language and p.key in scores]
        for contrast in CONTRASTS if title == "starter" else ("topic",):
            members = contrast_members(own, contrast)
            sides = [
                [scores[p.key] for p in members if p.harmful is side] for side in (True, False)
            ]
            threshold = gate.threshold(language)
            fired = [sum(x >= threshold for x in side) / len(side) for side in sides]
            rows.append(
                {
                    "gate": name,
                    "set": title,
                    "contrast": contrast,
                    "language": language,
                    "auroc": auroc(*sides),
                    "fired_harmful": fired[0],
                    "fired_harmless": fired[1],
                    "n": [len(side) for side in sides],
                }
            )
    return rows


if __name__ == "__main__":
    main()
