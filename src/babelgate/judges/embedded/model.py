"""The embedded judge's weights: a logistic regression over the features of a reply."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import StoreError
from .features import DENSE, FORM_WINDOW, Features


@dataclass(frozen=True, slots=True)
class RefusalModel:
    """Weights of ``p(refused) = sigmoid(d . w + g / sqrt(m) + b)``.

    ``d`` are the dense features ``[len(DENSE)]`` and ``g`` the sum of the weights of the opening's
    ``m`` character n-grams (``grams [2**bits]``, stored as int8 times ``scale``). Maximum
    likelihood makes ``p`` calibrated on replies like the training's; the card has the calibration
    error on models left out, where Platt's scaling did not make it smaller.

    Raises:
        StoreError: if the shapes do not fit this version's features.
    """

    dense: np.ndarray
    bias: float
    grams: np.ndarray
    scale: float
    seen: np.ndarray
    card: dict[str, Any]

    def __post_init__(self) -> None:
        if self.dense.shape != (len(DENSE),) or self.grams.shape != (2**self.bits,):
            raise StoreError(
                f"the embedded judge's weights have shapes {self.dense.shape} and "
                f"{self.grams.shape}, expected ({len(DENSE)},) and a power of 2; install babelgate "
                "again, or train them again with training/judge/train.py"
            )

    @property
    def bits(self) -> int:
        """Binary logarithm of the number of n-gram buckets."""
        return len(self.grams).bit_length() - 1

    @property
    def fingerprint(self) -> str:
        """Sha256 of the weights, first 16 hex digits."""
        parts = (self.dense.tobytes(), self.grams.tobytes(), repr((self.bias, self.scale)).encode())
        return hashlib.sha256(b"".join(parts)).hexdigest()[:16]

    @property
    def version(self) -> str:
        """The version on the model card."""
        return str(self.card["version"])

    @property
    def languages(self) -> frozenset[str]:
        """Codes of the languages with replies in training."""
        return frozenset(self.card["languages"])

    def has_seen(self, texts: Sequence[str]) -> np.ndarray:
        """Return which replies are word for word in the training, ``[N]`` bool."""
        return np.isin(np.array([mark(text) for text in texts], dtype=np.uint32), self.seen)

    def probabilities(self, features: Features) -> np.ndarray:
        """Return the probability of refusal per reply, ``[N]``."""
        n = len(features.dense)
        weights = self.grams[features.gram_buckets].astype(np.float64)
        total = np.bincount(features.gram_rows, weights=weights, minlength=n)
        count = np.maximum(np.bincount(features.gram_rows, minlength=n), 1)
        odds = features.dense @ self.dense + self.scale * total / np.sqrt(count) + self.bias
        return 1 / (1 + np.exp(-odds))


def mark(text: str) -> int:
    """Return 32 bits of the sha256 of a reply's first 300 characters, without space around."""
    digest = hashlib.sha256(text.strip()[:FORM_WINDOW].encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4], "big")


def read_model(folder: Path) -> RefusalModel:
    """Return the model in a folder with ``weights.safetensors`` and ``card.json``.

    Raises:
        StoreError: if a file is missing or damaged.
    """
    from safetensors.numpy import load_file

    try:
        tensors = load_file(folder / "weights.safetensors")
        card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        if missing := sorted({"version", "languages", "note", "errors"} - card.keys()):
            raise StoreError(f"the embedded judge's card in {folder} has no {', '.join(missing)}")
        bias, scale = map(float, tensors["scalars"])
        return RefusalModel(tensors["dense"], bias, tensors["grams"], scale, tensors["seen"], card)
    except StoreError:
        raise
    except Exception as error:  # safetensors has errors of its own
        raise StoreError(f"the embedded judge in {folder} cannot be read: {error}") from error


@cache
def shipped_model() -> RefusalModel:
    """Return the model that ships with the package, read once."""
    with as_file(files("babelgate.judges") / "data" / "embedded") as folder:
        return read_model(folder)
