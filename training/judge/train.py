"""Train the embedded judge, measure it on models and languages left out, and write it down.

python training/judge/train.py LABELS [--out FOLDER]

LABELS is a folder of MODEL.LANGUAGE.jsonl files with labelled replies (README.md). Writes
weights.safetensors, card.json and MODEL_CARD.md; by default into the package.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import card
import numpy as np
import scipy.sparse as sp
from replies import WRITTEN, Labelled, read_all
from safetensors.numpy import save_file
from sklearn.linear_model import LogisticRegression

import babelgate
from babelgate.artifacts import atomic_path, write_json, write_text
from babelgate.judges.agreement import has_substring
from babelgate.judges.embedded.features import DENSE, Features, features
from babelgate.judges.embedded.model import mark

BITS = 16
#: The n-grams' share of the weights against the dense features', the regularisation, and how much
#: a written reply counts against a model's. Chosen on the models left out, from 2 x 2 x 4 values
#: that differ by at most 0.01 in AUC and 0.03 in kappa.
GRAM_SCALE, C, WRITTEN_WEIGHT = 3.0, 0.1, 2.0

PACKAGE = Path(babelgate.__file__).parent / "judges" / "data" / "embedded"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labels", type=Path)
    parser.add_argument("--out", type=Path, default=PACKAGE)
    options = parser.parse_args()
    items = read_all(options.labels)
    data = Data(items)
    unseen_model = data.left_out(data.source, [s for s in sorted(set(data.source)) if s != WRITTEN])
    unseen_language = data.left_out(data.language, sorted(set(data.language)))
    data.p_model = sigmoid(unseen_model)
    measured = card.measure(data, sigmoid(unseen_language))
    dense, bias, grams = data.fit(np.ones(len(items), dtype=bool))
    scale = float(np.abs(grams).max()) / 127
    marks = [mark(item.reply.completion.text) for item in items]
    with atomic_path(options.out / "weights.safetensors") as work:
        save_file(
            {
                "dense": dense.astype(np.float32),
                "grams": np.round(grams / scale).astype(np.int8),
                "scalars": np.array([bias, scale]),
                "seen": np.unique(marks).astype(np.uint32),
            },
            work,
        )
    (options.out / "weights.safetensors").chmod(0o644)  # made for its owner only
    write_json(options.out / "card.json", card.as_json(data, measured))
    write_text(options.out / "MODEL_CARD.md", card.as_markdown(data, measured))
    print(card.as_markdown(data, measured))


class Data:
    """Labelled replies as arrays, and what is fitted on parts of them."""

    def __init__(self, items: list[Labelled]) -> None:
        self.items = items
        seen: Features = features([item.reply for item in items], bits=BITS)
        self.dense = seen.dense
        count = np.bincount(seen.gram_rows, minlength=len(items))
        values = GRAM_SCALE / np.sqrt(count[seen.gram_rows])
        grams = sp.csr_matrix(
            (values, (seen.gram_rows, seen.gram_buckets)), shape=(len(items), 2**BITS)
        )
        self.x = sp.hstack([sp.csr_matrix(seen.dense), grams]).tocsr()
        self.y = np.array([item.refused for item in items], dtype=int)
        self.source = np.array([item.source for item in items])
        self.language = np.array([item.reply.prompt.language for item in items])
        self.seen = np.array([item.seen for item in items])
        self.lexicon = seen.dense[:, DENSE.index("lexicon")]
        self.substrings = np.array([has_substring(i.reply.completion.text) for i in items])
        #: Probabilities of replies of models left out, filled in by `main`.
        self.p_model = np.full(len(items), np.nan)
        self.weight = np.where(self.source == WRITTEN, WRITTEN_WEIGHT, 1.0)

    def _fit(self, rows: np.ndarray) -> LogisticRegression:
        return LogisticRegression(C=C, max_iter=20000, tol=1e-7).fit(
            self.x[rows], self.y[rows], sample_weight=self.weight[rows]
        )

    def fit(self, rows: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
        """Return the dense weights, the bias and the n-gram weights fitted on some rows."""
        fitted = self._fit(rows)
        weights = fitted.coef_[0]
        return (
            weights[: len(DENSE)],
            float(fitted.intercept_[0]),
            GRAM_SCALE * weights[len(DENSE) :],
        )

    def left_out(self, by: np.ndarray, names: list[str]) -> np.ndarray:
        """Return log-odds from fits without each named part, ``[N]``; NaN for rows of no part."""
        odds = np.full(len(self.y), np.nan)
        for name in names:
            part = by == name
            odds[part] = self._fit(~part).decision_function(self.x[part])
        return odds


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


if __name__ == "__main__":
    main()
