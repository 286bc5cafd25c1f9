"""The gate outside the data it was calibrated on: MultiJail, other forms, languages not given.

Usage: python experiments/low-resource-safety/out_of_distribution.py POLYREFUSE MULTIJAIL GATE
           [--out RUN]

Decisions only: what the replies do on MultiJail comes from `babelgate compare --test-prompts` on
the file that this script writes (RUN/multijail.jsonl). Results: results/out-of-distribution.*
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from babelgate import load_gate, load_model, load_prompts
from babelgate.artifacts import JsonLines, write_json
from babelgate.capture_languages import capture_languages
from babelgate.language_id import identify_many
from babelgate.ood import by_category, by_form, language_unknown, seen_by, unseen_set
from babelgate.prompts import leaks, take
from babelgate.prompts.attacks import FORMS, change_forms
from babelgate.thresholds import fires

HERE = Path(__file__).parent
TARGETS = ("ar", "ko", "th", "yo", "ba")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("polyrefuse")
    parser.add_argument("multijail")
    parser.add_argument("gate", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/out-of-distribution"))
    parser.add_argument("--forms", type=int, default=24, help="prompts per language and label")
    parser.add_argument(
        "--multijail-n", type=int, default=60, help="prompts per language and label"
    )
    options = parser.parse_args()
    gate = load_gate(options.gate)
    model = load_model("demo")
    gate.check_model(model.identity)
    poly = load_prompts(f"polyrefuse:{options.polyrefuse}")
    results = {
        "forms": forms(model, gate, poly, options),
        "multijail": multijail(model, gate, poly, options),
        "language_unknown": unknown(model, gate, poly, options),
    }
    write_json(HERE / "results" / "out-of-distribution.json", results)
    (HERE / "results" / "out-of-distribution.md").write_text(as_markdown(results))
    print(as_markdown(results))


def scores_of(model, gate, prompts, folder):
    states = capture_languages(model, prompts, folder, layers=gate.layers)
    keys = [p.key for p in prompts if p.key not in states.excluded]
    values = gate.score({x: states.layer(x, keys) for x in gate.layers})
    found = dict(zip(keys, values.tolist()))
    kept = prompts.select(where=lambda p: p.key in found)
    return kept, np.array([found[p.key] for p in kept])


def fired_of(gate, prompts, scores):
    return [bool(fires(s, gate.threshold(p.language))) for s, p in zip(scores, prompts)]


def forms(model, gate, poly, options):
    """Val prompts in every form; the gate's layers and thresholds have not seen the targets'."""
    val = take(poly.select(split="val", languages=("en", *TARGETS)), options.forms, 0)
    made = change_forms(val.select(languages=TARGETS), FORMS, english=val)
    kept, scores = scores_of(model, gate, made.prompts, options.out / "forms")
    rows = by_form(kept, fired_of(gate, kept, scores), scores=scores)
    return {"rows": [plain(asdict(row)) for row in rows],
            "skipped": [plain(asdict(s)) if hasattr(s, "__dataclass_fields__") else str(s)
                        for s in made.skipped]}  # fmt: skip


def multijail(model, gate, poly, options):
    """MultiJail's harmful prompts beside PolyRefuse's harmless ones, nothing seen before."""
    jail = load_prompts(f"multijail:{options.multijail}")
    harmless = poly.select(split="test", label="harmless")
    found = unseen_set(jail, harmless, seen_by(gate.provenance, poly))
    chosen = take(found.prompts, options.multijail_n, 0)
    kept, scores = scores_of(model, gate, chosen, options.out / "multijail")
    fired = fired_of(gate, kept, scores)
    JsonLines(options.out / "multijail.jsonl").rewrite(
        {"id": p.id, "language": p.language, "label": p.label, "split": "test", "text": p.text,
         "category": p.category, "group_id": p.group_id, "source": p.source}
        for p in kept
    )  # fmt: skip
    return {
        "categories": [plain(asdict(r)) for r in by_category(kept, [float(f) for f in fired])],
        "rows": [plain(asdict(r)) for r in by_form(kept, fired, scores=scores)],
        "dropped": [plain(asdict(d)) for d in found.dropped],
    }


def unknown(model, gate, poly, options):
    """Test prompts with stated, identified, default and wrong languages' thresholds."""
    leaking = leaks(poly)
    pool = poly.select(split="test", languages=TARGETS, where=lambda p: p.key not in leaking)
    chosen = take(pool, 100, 0)
    kept, scores = scores_of(model, gate, chosen, options.out / "test")
    identified = [found.code for found in identify_many([p.text for p in kept])]
    found = language_unknown(kept, scores, identified, gate.thresholds, gate.default_threshold)
    return {"rows": [plain(asdict(r)) for r in (*found.rows, *found.overall)],
            "confusion": {x: dict(y) for x, y in found.confusion.items()}}  # fmt: skip


def plain(value):
    """Return a value that JSON holds: NaN as null."""
    return json.loads(json.dumps(value, default=str), parse_constant=lambda _: None)


def number(value, digits=2):
    return "–" if value is None else f"{value:.{digits}f}"


def as_markdown(results):
    """Return the tables."""
    lines = ["## Forms", "",
             "| language | form | n | fired harmful | fired harmless | AUROC | loss |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    for row in results["forms"]["rows"]:
        lines.append(form_line(row))
    lines += ["", "## MultiJail", "",
              "| language | form | n | fired harmful | fired harmless | AUROC | loss |",
              "|---|---|---|---|---|---|---|"]  # fmt: skip
    for row in results["multijail"]["rows"]:
        lines.append(form_line(row))
    lines += ["", "| category | n | fired |", "|---|---|---|"]
    for row in results["multijail"]["categories"]:
        if row["language"] == "all" and row["label"] == "harmful":
            few = " (few)" if row["few"] else ""
            rate = row["rate"]
            lines.append(
                f"| {row['category']}{few} | {rate['n']} | {number(rate['value'])} "
                f"({number(rate['low'])}..{number(rate['high'])}) |"
            )
    lines += ["", "## Language unknown", "",
              "| language | threshold of | fired harmful | fired harmless | selectivity | loss |",
              "|---|---|---|---|---|---|"]  # fmt: skip
    for row in results["language_unknown"]["rows"]:
        of = row["policy"] + (f" ({row['threshold_of']})" if row["threshold_of"] else "")
        lines.append(
            f"| {row['language']} | {of} | {number(row['fired_harmful']['value'])} | "
            f"{number(row['fired_harmless']['value'])} | {number(row['selectivity']['value'])} | "
            f"{loss(row)} |"
        )
    return "\n".join(lines) + "\n"


def form_line(row):
    n = f"{row['fired_harmful']['n']}+{row['fired_harmless']['n']}"
    return (
        f"| {row['language']} | {row['form']} | {n} | {number(row['fired_harmful']['value'])} | "
        f"{number(row['fired_harmless']['value'])} | {number(row['auroc'])} | {loss(row)} |"
    )


def loss(row):
    found = row["loss"]
    if found is None:
        return "–"
    return f"{number(found['delta'])} ({number(found['low'])}..{number(found['high'])})"


if __name__ == "__main__":
    main()
