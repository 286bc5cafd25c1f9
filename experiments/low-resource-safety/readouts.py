"""What a gate should read: training sets, bases, ranks and numbers of blocks, side by side.

Usage: python experiments/low-resource-safety/readouts.py POLYREFUSE_FOLDER XSTEST_FILE [--out RUN]

Layers and shrinkage are chosen on source languages left out in turn and on held-out pairs (val
split); test prompts, targets and XSTest are only scored. Writes results/readouts.json and .md.
"""

from __future__ import annotations

import argparse
import time
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
from run import score_rows

from babelgate import load_model, load_prompts, recipes
from babelgate.artifacts import write_json
from babelgate.config import CalibrateSettings
from babelgate.fit import Fitter
from babelgate.fit_data import Data
from babelgate.metrics import known
from babelgate.plan import POSITION, Plan, candidate_layers
from babelgate.prompts import take
from babelgate.prompts.duplicates import near_pairs

HERE = Path(__file__).parent

#: What the gates are trained on: sources of prompts.
TRAINED_ON = {
    "PolyRefuse": ("polyrefuse",),
    "twins": ("starter", "contrast"),
    "PolyRefuse + starter": ("polyrefuse", "starter"),
    "PolyRefuse + starter + contrast": ("polyrefuse", "starter", "contrast"),
}
#: Basis, dimensions per block, and whether all training sets are tried with it.
READOUTS = (
    ("directions", 10, True),
    ("states", 10, False),
    ("states", 64, False),
    ("states", 256, True),
)
N_LAYERS = (1, 3, 5)

HIGH = ("en", "de", "fr", "es", "ru", "zh", "ja")
TARGETS = ("ar", "ko", "th", "yo", "ba")
#: Columns of the summary: title, set, contrast, languages.
SUMMARY = (
    ("PolyRefuse, 5 targets", "polyrefuse", "topic", TARGETS),
    ("PolyRefuse, en de", "polyrefuse", "topic", ("en", "de")),
    ("twins, 7 high-tier", "starter", "twins", HIGH),
    ("twins, ar ko vi", "starter", "twins", ("ar", "ko", "vi")),
    ("twins, sw yo", "starter", "twins", ("sw", "yo")),
    ("XSTest", "xstest", "topic", ("en",)),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("polyrefuse")
    parser.add_argument("xstest")
    parser.add_argument("--out", type=Path, default=Path("runs/low-resource-safety"))
    options = parser.parse_args()
    config = tomllib.loads((HERE / "config.toml").read_text())
    settings = CalibrateSettings(**config["calibrate"], out=options.out, model=config["model"])
    prompts = load_prompts([f"polyrefuse:{options.polyrefuse}", "starter", "contrast"])
    xstest = replace(load_prompts(options.xstest), name="xstest")
    model = load_model(config["model"])
    layers = candidate_layers(model.identity.n_layers, settings)

    plan = Plan.of(prompts, settings)
    states = recipes.capture_languages(
        model, plan.prompts, options.out / "activations", layers=layers
    )
    tests = test_sets(prompts, xstest)
    read = {
        title: recipes.capture_languages(
            model, chosen, options.out / "readouts" / title, layers=layers
        )
        for title, chosen in tests.items()
    }
    document = {
        "near_duplicates": near_duplicates(prompts, xstest),
        **compare(plan, states, model.identity, layers, tests, read),
    }
    write_json(HERE / "results" / "readouts.json", document)
    (HERE / "results" / "readouts.md").write_text(tables(document))


def test_sets(prompts, xstest):
    """Return the sets that are scored: the same as in run.py."""
    test = prompts.select(split="test")
    sample = take(test.select(where=lambda p: p.source != "starter"), 100)
    return {
        "polyrefuse": sample.select(languages=("en", "de", *TARGETS)),
        "starter": test.select(where=lambda p: p.source == "starter"),
        "xstest": xstest,
    }


def near_duplicates(prompts, xstest):
    """Return how many contrast prompts (English) nearly repeat another set's, per set."""
    own = [p.text for p in prompts.select(languages=["en"]) if p.source == "contrast"]
    others = {"xstest": [p.text for p in xstest]}
    for split in ("train", "val", "test"):
        pool = prompts.select(languages=["en"], split=split)
        others[f"starter {split}"] = [p.text for p in pool if p.source == "starter"]
    return {
        title: {
            str(threshold): sum(
                (pair.first < len(own)) != (pair.second < len(own))
                for pair in near_pairs([*own, *texts], threshold)
            )
            for threshold in (0.7, 0.4)
        }
        for title, texts in others.items()
    }


def compare(plan, states, identity, layers, tests, read):
    """Return every gate's settings, choice and scores."""
    gates, rows, started = {}, [], time.perf_counter()
    for title, names in TRAINED_ON.items():
        usable = tuple(
            p for p in plan.prompts if p.source in names and p.key not in states.excluded
        )
        keys = [p.key for p in usable]
        languages = {p.language for p in usable if p.split == "train"}
        sources = tuple(x for x in plan.sources if x in languages)
        data = Data(usable, lambda layer, keys=keys: states.layer(layer, keys), sources)
        for basis, rank, everywhere in READOUTS:
            if not everywhere and len(names) < 3:
                continue
            fitter = Fitter(data, rank, basis)
            for most in N_LAYERS:
                before = time.perf_counter()
                choice = fitter.choose_layers(layers, most)[0]
                threshold = fitter.statistics(choice.layers, choice.l2).threshold
                gate = fitter.gate(
                    choice, position=POSITION, model=identity, strength=1.0, thresholds={},
                    default_threshold=threshold, provenance={},
                )  # fmt: skip
                name = f"{title} | {basis} {rank} | {most}"
                gates[name] = {
                    "trained_on": title,
                    "basis": basis,
                    "rank": {str(x): b.shape[1] for x, b in gate.bases.items()},
                    "layers": gate.layers,
                    "regularisation": choice.l2,
                    "left_out": {c: known(v) for c, v in choice.by_contrast.items()},
                    "seconds": round(time.perf_counter() - before, 1),
                }
                for what, chosen in tests.items():
                    rows += scored(name, what, gate, chosen, read[what])
                print(f"{time.perf_counter() - started:6.0f} s", name, gate.layers, flush=True)
    return {"gates": gates, "rows": rows}


def scored(name, title, gate, chosen, states):
    keys = [p.key for p in chosen if p.key not in states.excluded]
    values = gate.score({layer: states.layer(layer, keys) for layer in gate.layers})
    return score_rows(name, title, gate, chosen, dict(zip(keys, values.tolist())))


def mean_auroc(rows, gate, title, contrast, languages):
    wanted = (gate, title, contrast)
    found = [
        r["auroc"]
        for r in rows
        if (r["gate"], r["set"], r["contrast"]) == wanted and r["language"] in languages
    ]
    assert len(found) == len(languages)
    return float(np.mean(found))


def tables(document):
    """Return the summary and the AUROC of every language as Markdown."""
    gates, rows = document["gates"], document["rows"]
    heads = ["trained on", "basis", "blocks", "left out: topic", "twins", *(c[0] for c in SUMMARY)]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name, gate in gates.items():
        rank = max(gate["rank"].values())
        values = [gate["left_out"][c] for c in ("topic", "twins")]
        left_out = ["–" if v is None else f"{v:.3f}" for v in values]
        cells = [gate["trained_on"], f"{gate['basis']} {rank}", ", ".join(map(str, gate["layers"]))]
        cells += left_out
        cells += [f"{mean_auroc(rows, name, *column[1:]):.2f}" for column in SUMMARY]
        lines.append("| " + " | ".join(cells) + " |")
    for title, contrast in (("polyrefuse", "topic"), ("starter", "twins"), ("starter", "topic")):
        own = [r for r in rows if (r["set"], r["contrast"]) == (title, contrast)]
        languages = list(dict.fromkeys(r["language"] for r in own))
        lines += ["", f"AUROC per language, {title}, {contrast}", ""]
        lines += ["| gate | " + " | ".join(languages) + " |", "|---" * (1 + len(languages)) + "|"]
        for name in gates:
            cells = [f"{mean_auroc(rows, name, title, contrast, [x]):.2f}" for x in languages]
            label = name.replace(" | ", ", ") + " blocks"
            lines.append("| " + " | ".join([label, *cells]) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
