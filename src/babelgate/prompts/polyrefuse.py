"""PolyRefuse (Wang et al. 2025, arXiv 2505.17306), as in its GitHub repository or as JSONL files.

The repository keeps JSON lists named ``harmful_test_translated_de.json`` in ``PolyRefuse/`` or
``dataset/splits_multi/`` and the English originals in ``dataset/splits/``. A list's order is what
aligns the languages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import PromptError
from ..languages import normalise_code
from ..types import Label, Prompt, Split
from .jsonl import decode, parse_prompt, read_bytes

SOURCE = "polyrefuse"
_FOLDERS = ("PolyRefuse", "dataset/splits_multi", "dataset/splits", "splits_multi", "splits", ".")
_FILE = re.compile(
    r"(?P<label>harmful|harmless)_(?P<split>train|val|test)"
    r"(?:_translated_(?P<language>[a-z]{2,3})|_(?P<sampled>\d+)_sampled)?\.json"
)
# English harmless prompts are a sample of a larger file; these are the sizes that were translated.
_SAMPLED = {"train": 200, "val": 200, "test": 500}
_ID = re.compile(r"(?P<label>harmful|harmless)-(?P<split>train|val|test)-\d{3,}")

# Two translations of the harmless test set exist; they hold different prompts.
_FIRST = frozenset(("de", "fr", "es", "it", "nl", "pl", "ru", "ja", "ar", "ko", "th", "yo"))
_SECOND = frozenset(("en", "ba", "be", "tg"))


def group_of(prompt_id: str, language: str, label: Label, split: Split) -> str:
    """Return the ``group_id`` of a prompt: equal for translations of each other, and only those.

    Harmful prompts are aligned over all languages, harmless train and val over all but Chinese,
    harmless test within two groups of languages. A language that is in neither stands alone.
    """
    aligned = "all"
    if label == "harmless" and split == "test":
        aligned = "a" if language in _FIRST else "b" if language in _SECOND else language
    elif label == "harmless" and language == "zh":
        aligned = "zh"
    return f"{SOURCE}:{prompt_id}" + ("" if aligned == "all" else f"@{aligned}")


def looks_like(prompts: Iterable[Prompt]) -> bool:
    """Whether prompts from a plain file carry PolyRefuse's ids and no groups of their own."""
    pool = list(prompts)
    for prompt in pool:
        match = _ID.fullmatch(prompt.id)
        if prompt.group_id != prompt.id or prompt.source not in ("", SOURCE) or match is None:
            return False
        if (match["label"], match["split"]) != (prompt.label, prompt.split):
            return False
    return bool(pool)


def align(prompts: Iterable[Prompt]) -> list[Prompt]:
    """Return the prompts with PolyRefuse's groups and source."""
    return [
        replace(p, source=SOURCE, group_id=group_of(p.id, p.language, p.label, p.split))
        for p in prompts
    ]


def find_files(folder: Path) -> dict[tuple[Label, Split, str], Path]:
    """Return the JSON lists of a checkout of the repository, one per label, split and language.

    An unsampled English harmless list is passed over: it is not what was translated.
    """
    found: dict[tuple[Label, Split, str], Path] = {}
    for name in _FOLDERS:
        for path in sorted((folder / name).glob("*.json")) if (folder / name).is_dir() else ():
            match = _FILE.fullmatch(path.name)
            if match is None:
                continue
            label, split = match["label"], match["split"]
            english = match["language"] is None
            if english and label == "harmless" and match["sampled"] != str(_SAMPLED[split]):
                continue
            if english and label == "harmful" and match["sampled"]:
                continue
            found.setdefault((label, split, match["language"] or "en"), path)  # pyright: ignore
    return found


def read_checkout(folder: Path, languages: frozenset[str] | None = None) -> list[Prompt]:
    """Return the prompts of a checkout of the repository, only of ``languages`` if given.

    Raises:
        PromptError: if there are no such lists, or one is broken.
    """
    files = find_files(folder)
    if not files:
        raise PromptError(
            f"{folder} is not a checkout of mainlp/Multilingual-Refusal: no file such as "
            "PolyRefuse/harmful_test_translated_de.json in it"
        )
    prompts: list[Prompt] = []
    for (label, split, code), path in files.items():
        language = normalise_code(code)
        if languages is not None and language not in languages:
            continue
        for i, entry in enumerate(_read_list(path)):
            prompts.append(_prompt(entry, label, split, language, i, path))
    return prompts


def _prompt(entry: Any, label: Label, split: Split, language: str, i: int, path: Path) -> Prompt:
    where = f"{path}, entry {i + 1}"
    if not isinstance(entry, dict):
        raise PromptError(f"{where}: expected an object with 'instruction', not {entry!r:.60}")
    # Harmful lists keep the English in `instruction`; some harmless lists the translation.
    text = entry.get("instruction_translated") or entry.get("instruction")
    prompt_id = f"{label}-{split}-{i:03d}"
    record = {
        "id": prompt_id,
        "language": language,
        "label": label,
        "split": split,
        "text": text,
        "category": entry.get("category"),
        "group_id": group_of(prompt_id, language, label, split),
        "source": SOURCE,
    }
    return parse_prompt(record, where)


def _read_list(path: Path) -> list[Any]:
    try:
        value = json.loads(decode(read_bytes(path), str(path)))
    except (ValueError, RecursionError) as error:
        raise PromptError(f"{path}: not JSON ({error})") from None
    if not isinstance(value, list):
        raise PromptError(f"{path}: expected a list of prompts, not {type(value).__name__}")
    return value
