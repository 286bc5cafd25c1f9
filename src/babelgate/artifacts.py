"""Files: atomic writes, the cache, and a run folder whose stages know what they depend on."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ._version import __version__
from .errors import StoreError


def cache_dir() -> Path:
    """Return the folder for downloads and converted models.

    ``BABELGATE_CACHE``, else ``babelgate`` in ``XDG_CACHE_HOME``, else ``~/.cache/babelgate``.
    """
    if given := os.environ.get("BABELGATE_CACHE"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "babelgate"


def replace_file(source: Path, target: Path) -> None:
    """Rename a finished file into place and make the rename durable."""
    os.replace(source, target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that replaces it if the block succeeds.

    A reader sees the old file or the whole new one, never a half.

    Raises:
        StoreError: if the disk is full or the folder cannot be written.
    """
    work = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield work
        with work.open("rb+") as file:
            os.fsync(file.fileno())
        replace_file(work, path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        with suppress(OSError):  # it may never have been made, its folder neither
            work.unlink()


def write_error(path: Path, error: OSError) -> StoreError:
    """Return the error for a write that failed, with what to do about it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(
            f"the disk that holds {path} is full; free some space and run the same command again, "
            "finished work is kept"
        )
    return StoreError(f"cannot write {path}: {error.strerror or error}")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically; half surrogate pairs, which are no text, become "?"."""
    with atomic_path(path) as work:
        work.write_text(text, encoding="utf-8", errors="replace")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically, indented for people; NaN is refused, not written."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n")


def fingerprint(value: Any) -> str:
    """Return 16 hex digits of the sha256 of a JSON value, independent of key order."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _line(row: Mapping[str, Any]) -> str:
    """Return one line of JSON; half surrogate pairs, which UTF-8 cannot hold, stay escaped."""
    text = json.dumps(dict(row), ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(dict(row))
    return text + "\n"


@dataclass
class JsonLines:
    """An append-only JSONL file in which every finished line survives a kill.

    A torn last line, the trace of a kill during a write, is dropped when the file is next opened. A
    last line that lacks only its newline is whole, and is kept.
    """

    path: Path

    def read(self) -> list[dict[str, Any]]:
        """Return the finished lines.

        Raises:
            StoreError: if a line before the last is damaged.
        """
        if not self.path.exists():
            return []
        lines = self.path.read_bytes().split(b"\n")
        rows = []
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                if number == len(lines):  # no newline after it: the write was cut
                    break
                raise StoreError(f"{self.path}, line {number} is damaged: {error}") from error
            if not isinstance(row, dict):
                raise StoreError(f"{self.path}, line {number} should hold a JSON object")
            rows.append(row)
        return rows

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add lines and force them to disk before returning."""
        text = "".join(map(_line, rows))
        if not text:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as file:
                self._drop_torn_line(file)
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise write_error(self.path, error) from error

    def rewrite(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Replace the whole file atomically."""
        write_text(self.path, "".join(map(_line, rows)))

    @staticmethod
    def _drop_torn_line(file: Any) -> None:
        size = file.seek(0, os.SEEK_END)
        if size == 0:
            return
        file.seek(size - 1)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        content = file.read()
        start = content.rfind(b"\n") + 1
        try:
            json.loads(content[start:])
        except ValueError:
            file.truncate(start)
        else:
            file.write(b"\n")  # whole but for its newline: `read` has counted it
        file.seek(0, os.SEEK_END)


@dataclass
class RunFolder:
    """A run's files and ``run.json``: what was run, with what, and which stages are done.

    A stage is keyed by everything its result depends on. Re-running with the same key does
    nothing; with another, the stage's old files are stale and are made again.
    """

    path: Path
    record: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def open(path: Path, *, command: str, config: Mapping[str, Any]) -> RunFolder:
        """Open or create a run folder and note this command in ``run.json``.

        Raises:
            StoreError: if the folder cannot be written or its ``run.json`` is damaged.
        """
        record: dict[str, Any] = {}
        file = path / "run.json"
        if file.exists():
            try:
                record = json.loads(file.read_text(encoding="utf-8"))
                _check_record(record)
            except (OSError, ValueError) as error:
                raise StoreError(
                    f"{file} is damaged ({error}); remove the folder or choose another `--out`"
                ) from error
        record["schema"] = 1
        record["command"] = [Path(sys.argv[0]).name, *sys.argv[1:]]
        record["stage"] = command
        record.setdefault("config", {})[command] = dict(config)
        record["versions"] = versions()
        record["hardware"] = hardware()
        record.setdefault("stages", {})
        record.setdefault("notes", [])
        run = RunFolder(path, record)
        run.save()
        return run

    def save(self) -> None:
        """Write ``run.json``."""
        write_json(self.path / "run.json", self.record)

    def is_done(self, stage: str, key: str) -> bool:
        """Whether the stage finished with the same key."""
        return self.record["stages"].get(stage, {}).get("key") == key

    def set_done(self, stage: str, key: str, seconds: float, **facts: Any) -> None:
        """Record a finished stage with its time and facts worth keeping."""
        self.record["stages"][stage] = {"key": key, "seconds": round(seconds, 2), **facts}
        self.save()

    def set(self, name: str, value: Any) -> None:
        """Record a top-level fact, such as the model's identity."""
        self.record[name] = value
        self.save()

    def note(self, message: str) -> None:
        """Record something that a reader of the results must know, once."""
        if message not in self.record["notes"]:
            self.record["notes"].append(message)
            self.save()


def _check_record(record: Any) -> None:
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    for name, kind in {"stages": dict, "config": dict, "notes": list}.items():
        if not isinstance(record.get(name, kind()), kind):
            raise ValueError(f"{name} is a {type(record[name]).__name__}")


@contextmanager
def timed() -> Iterator[list[float]]:
    """Yield a list that holds the block's wall-clock seconds when the block has ended."""
    taken: list[float] = []
    start = time.perf_counter()
    try:
        yield taken
    finally:
        taken.append(time.perf_counter() - start)


def versions() -> dict[str, str]:
    """Return the versions of babelgate and of the libraries that numbers depend on."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"babelgate": __version__, "python": platform.python_version()}
    for name in ("torch", "transformers", "tokenizers", "safetensors", "numpy", "scipy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """Return processor, cores and accelerator; nothing that names the machine or its user."""
    info: dict[str, Any] = {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
    }
    cpu = Path("/proc/cpuinfo")
    if cpu.exists():
        names = [x for x in cpu.read_text().splitlines() if x.startswith("model name")]
        if names:
            info["processor"] = names[0].partition(":")[2].strip()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        info["accelerator"] = torch.cuda.get_device_name(0)
    return info
