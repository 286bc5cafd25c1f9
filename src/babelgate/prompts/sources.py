"""Prompt sets by name: the bundled starter set, files, folders, PolyRefuse, MultiJail, the hub."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from pathlib import Path

from ..errors import LanguageError, PromptError, did_you_mean
from ..languages import is_known, normalise_code, parse_languages
from ..languages import languages as registry
from ..types import SPLITS, Prompt, PromptSet
from . import multijail, polyrefuse
from .hub import read_hub
from .jsonl import csv_rows, read_bytes, read_csv, read_jsonl, unique

_Languages = frozenset[str] | None
_Reader = Callable[[str, _Languages], tuple[str, list[Prompt]]]
_SUFFIXES = {".jsonl": read_jsonl, ".csv": read_csv}


def load_prompts(
    spec: str | Path | Sequence[str | Path],
    *,
    languages: str | Iterable[str] | None = None,
    splits: str | Iterable[str] | None = None,
) -> PromptSet:
    """Return the prompts of a source, or of several joined by ``+`` or given as a list.

    A source is ``starter`` or ``contrast`` (bundled), a ``.jsonl`` or ``.csv`` file, a folder (of
    such files, a checkout of PolyRefuse or of MultiJail), ``polyrefuse:PATH``, ``multijail:PATH``,
    or ``hf:owner/name@COMMIT``. ``languages`` and ``splits`` select; each must exist in the result.

    Raises:
        PromptError: for a source that does not exist or cannot be read, a split that none of the
            prompts is in, or two prompts with the same language and id.
        LanguageError: for a language code that is unknown or that no prompt has.
    """
    wanted = _wanted_languages(languages)
    chosen = (splits,) if isinstance(splits, str) else None if splits is None else tuple(splits)
    for split in chosen or ():
        if split not in SPLITS:
            hint = did_you_mean(split, [*SPLITS])
            raise PromptError(f"split {split!r} is not one of {', '.join(SPLITS)}.{hint}")
    parts = _parts(spec)
    sets = [(part, PromptSet(*_named(part, None if wanted is None else frozenset(wanted))))
            for part in parts]  # fmt: skip
    owner: dict[str, str] = {}
    for part, prompts in sets:
        for prompt in prompts:
            if prompt.key in owner:
                raise PromptError(
                    f"language {prompt.language!r}, id {prompt.id!r} is both in "
                    f"{owner[prompt.key]!r} and in {part!r}; rename one or load one of them"
                )
            owner[prompt.key] = part
    union = PromptSet.union([prompts for _, prompts in sets])
    union = union.select(languages=wanted, where=lambda p: chosen is None or p.split in chosen)
    _check_found(union, wanted, chosen, parts)
    return union


def _wanted_languages(languages: str | Iterable[str] | None) -> tuple[str, ...] | None:
    if languages is None:
        return None
    if isinstance(languages, str):
        return parse_languages(languages)
    return tuple(dict.fromkeys(normalise_code(code) for code in languages))


def _check_found(
    prompts: PromptSet,
    wanted: tuple[str, ...] | None,
    splits: tuple[str, ...] | None,
    parts: Sequence[str],
) -> None:
    """Raise an error that names what was asked for in vain, and what there is."""
    name = " + ".join(parts)
    missing = [code for code in wanted or () if code not in prompts.languages]
    if missing:
        # Readers skip languages that were not asked for, so look again at everything.
        everything = [p for part in parts for p in _named(part, None)[1]]
        have = dict.fromkeys(p.language for p in everything if splits is None or p.split in splits)
        where = f" in the splits {', '.join(splits)}" if splits else ""
        raise LanguageError(
            f"{name} has no prompts in {', '.join(missing)}{where}; it has {', '.join(have)}"
        )
    absent = [split for split in splits or () if all(p.split != split for p in prompts)]
    if absent:
        raise PromptError(f"{name} has no prompts in the split {', '.join(absent)}")
    if not len(prompts):
        raise PromptError(f"{name} holds no prompts")


def _parts(spec: str | Path | Sequence[str | Path]) -> list[str]:
    """Return the single sources of a specification."""
    if isinstance(spec, Path):
        return [str(spec)]
    if isinstance(spec, str):
        # A file name may hold a plus sign.
        parts = [spec] if _exists(spec) else [part.strip() for part in spec.split("+")]
    else:
        parts = [part for one in spec for part in _parts(one)]
    if not parts or not all(parts):
        raise PromptError(f"{spec!r} names no prompt source; try 'starter' or a .jsonl file")
    return parts


def _named(part: str, languages: _Languages) -> tuple[str, tuple[Prompt, ...]]:
    """Return the name and prompts of one source."""
    prefix, colon, rest = part.partition(":")
    if part in _BUNDLED:
        name, prompts = _bundled(part, languages)
    elif colon and prefix in _PREFIXES:
        name, prompts = _PREFIXES[prefix](rest, languages)
    elif _exists(part):
        name, prompts = _path(part, languages)
    else:
        known = [*_BUNDLED, *(f"{p}:" for p in _PREFIXES)]
        raise PromptError(
            f"there is no prompt source {part!r}: no such file or folder, nor one of "
            f"{', '.join(known)}.{did_you_mean(part.partition(':')[0], [*_BUNDLED, *_PREFIXES])}"
        )
    return name, tuple(unique(prompts, name))


def _bundled(name: str, languages: _Languages) -> tuple[str, list[Prompt]]:
    folder = resources.files("babelgate.prompts").joinpath("data", name)
    if not folder.is_dir():
        raise PromptError(f"the bundled prompts {name!r} are missing; install babelgate again")
    files = sorted(
        (entry for entry in folder.iterdir() if entry.name.endswith(".jsonl")),
        key=lambda entry: _order(entry.name.removesuffix(".jsonl")),
    )
    prompts: list[Prompt] = []
    for entry in files:
        if languages is None or entry.name.removesuffix(".jsonl") in languages:
            prompts += read_jsonl(entry.read_bytes(), f"{name}/{entry.name}")
    return name, prompts


def _path(text: str, languages: _Languages) -> tuple[str, list[Prompt]]:
    """Read a file or folder by what it looks like."""
    path = Path(text)
    if path.is_dir():
        return path.resolve().name, _folder(path, languages)
    if path.suffix not in _SUFFIXES:
        raise PromptError(f"{path} should end in .jsonl or .csv, or be a folder of such files")
    return path.stem, _file(path, languages)


def _file(path: Path, languages: _Languages) -> list[Prompt]:
    data = read_bytes(path)
    if path.suffix == ".csv":
        rows = csv_rows(data, str(path))
        if rows and multijail.is_table(rows[0][1]):
            return multijail.from_rows(rows, str(path), languages)
    prompts = _SUFFIXES[path.suffix](data, str(path))
    return [p for p in prompts if languages is None or p.language in languages]


def _folder(folder: Path, languages: _Languages) -> list[Prompt]:
    files = sorted(
        (path for path in folder.iterdir() if path.suffix in _SUFFIXES and path.is_file()),
        key=lambda path: _order(path.stem),
    )
    table = multijail.find_file(folder)
    if table is not None and table.parent != folder:
        return multijail.read_table(table, languages)
    if not files:
        return polyrefuse.read_checkout(folder, languages)
    prompts: list[Prompt] = []
    for path in files:
        # A file named after a language holds that language, so others need not be read.
        code = normalise_code(path.stem) if is_known(path.stem) else None
        if code is not None and languages is not None and code not in languages:
            continue
        found = _file(path, languages if code is None else None)
        stray = next((p for p in found if code is not None and p.language != code), None)
        if stray is not None:
            raise PromptError(
                f"{path} is named after {code!r} but prompt {stray.id!r} is in {stray.language!r}; "
                "rename the file or correct the prompt"
            )
        prompts += found
    if polyrefuse.looks_like(prompts):
        return polyrefuse.align(prompts)
    return multijail.tidy(prompts) if multijail.looks_like(prompts) else prompts


def _polyrefuse(text: str, languages: _Languages) -> tuple[str, list[Prompt]]:
    path = _existing(text, "polyrefuse")
    if path.is_dir() and polyrefuse.find_files(path):
        return polyrefuse.SOURCE, polyrefuse.read_checkout(path, languages)
    return polyrefuse.SOURCE, polyrefuse.align(_path(str(path), languages)[1])


def _multijail(text: str, languages: _Languages) -> tuple[str, list[Prompt]]:
    path = _existing(text, "multijail")
    return multijail.SOURCE, multijail.tidy(_path(str(path), languages)[1])


def _hub(text: str, languages: _Languages) -> tuple[str, list[Prompt]]:
    return text.partition("@")[0], read_hub(text, languages)


def _existing(text: str, prefix: str) -> Path:
    path = Path(text)
    if not text or not _exists(text):
        raise PromptError(f"{prefix}:{text}: there is no file or folder {text!r}")
    return path


def _exists(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):  # a name too long, or with a null character
        return False


def _order(stem: str) -> tuple[int, str]:
    """Sort languages as the registry does, other names after them."""
    codes = [entry.code for entry in registry()]
    return (codes.index(stem) if stem in codes else len(codes), stem)


_BUNDLED = ("starter", "contrast")
_PREFIXES: dict[str, _Reader] = {"polyrefuse": _polyrefuse, "multijail": _multijail, "hf": _hub}
