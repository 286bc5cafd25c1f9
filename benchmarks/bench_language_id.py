"""Language identification on prompts: accuracy, coverage (share sure), accuracy when sure, time.

    python benchmarks/bench_language_id.py --data FOLDER [--per-language 200] [--json PATH]

FOLDER holds prompt sets as subfolders (such as polyrefuse/ and multijail/), each as `load_prompts`
reads them. Every language is measured on whole prompts and on their first three words (six
characters of Chinese and Japanese, twelve of Thai, Khmer, Burmese), beside py3langid on its own.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import Counter
from pathlib import Path

from babelgate import console
from babelgate.language_id import _model
from babelgate.languages import identify
from babelgate.prompts import load_prompts

OPENING = {"zh": 6, "ja": 6, "th": 12, "km": 12, "my": 12}


def opening(text: str, language: str) -> str:
    n = OPENING.get(language)
    return text[:n] if n else " ".join(text.split()[:3])


def measure(texts: list[str], language: str) -> dict[str, object]:
    start = time.perf_counter()
    guesses = [identify(text) for text in texts]
    seconds = time.perf_counter() - start
    best = [guess.candidates[0][0] if guess.candidates else None for guess in guesses]
    sure = [guess.code for guess in guesses if guess.code is not None]
    plain = [_model().classify(text)[0] for text in texts]
    wrong = Counter(code for code in sure if code != language)
    return {
        "n": len(texts),
        "accuracy": sum(code == language for code in best) / len(texts),
        "coverage": len(sure) / len(texts),
        "accuracy_when_sure": sum(code == language for code in sure) / max(1, len(sure)),
        "confused_with": dict(wrong.most_common(3)),
        "py3langid_accuracy": sum(code == language for code in plain) / len(texts),
        "microseconds": 1e6 * seconds / len(texts),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", default="polyrefuse,multijail")
    parser.add_argument("--per-language", type=int, default=200)
    parser.add_argument("--split", default="test", help="the constants were chosen on train")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    start = time.perf_counter()
    identify("Load the model before the clock starts.")
    load_seconds = time.perf_counter() - start
    rows: list[dict[str, object]] = []
    for name in options.sets.split(","):
        prompts = load_prompts(options.data / name, splits=options.split)
        for language in prompts.languages:
            pool = [p.text for p in prompts.select(languages=[language])]
            texts = random.Random(options.seed).sample(pool, min(options.per_language, len(pool)))
            for length in ("whole", "opening"):
                shown = [opening(t, language) for t in texts] if length == "opening" else texts
                rows.append(
                    {"set": name, "language": language, "length": length} | measure(shown, language)
                )
    summary = {}
    for length in ("whole", "opening"):
        part = [row for row in rows if row["length"] == length]
        n = sum(row["n"] for row in part)  # type: ignore[misc]
        mean = lambda key: sum(row[key] * row["n"] for row in part) / n  # noqa: B023, E731
        sure = sum(row["coverage"] * row["n"] for row in part)  # type: ignore[operator]
        right = sum(row["coverage"] * row["n"] * row["accuracy_when_sure"] for row in part)  # type: ignore[operator]
        summary[length] = {
            "n": n,
            "accuracy": mean("accuracy"),
            "coverage": mean("coverage"),
            "accuracy_when_sure": right / sure,
            "py3langid_accuracy": mean("py3langid_accuracy"),
            "microseconds": mean("microseconds"),
        }
    columns = ["accuracy", "coverage", "accuracy_when_sure", "py3langid_accuracy"]
    console.table(
        f"Language identification (model loaded in {load_seconds:.2f} s)",
        ["set", "language", "length", "n", *columns, "us/text", "confused with"],
        [
            [row["set"], row["language"], row["length"], row["n"],
             *(f"{row[c]:.3f}" for c in columns), f"{row['microseconds']:.0f}",
             " ".join(f"{code}:{n}" for code, n in row["confused_with"].items())]  # type: ignore[union-attr]
            for row in rows
        ]
        + [
            ["all", "", length, total["n"], *(f"{total[c]:.3f}" for c in columns),
             f"{total['microseconds']:.0f}", ""]
            for length, total in summary.items()
        ],
    )  # fmt: skip
    if options.json:
        document = {"split": options.split, "seed": options.seed, "rows": rows}
        options.json.write_text(json.dumps(document | {"all": summary}, indent=1) + "\n")


if __name__ == "__main__":
    main()
