"""Writing a file so that it is either the old one or the new one, never half of one."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import StoreError


def write_text(path: Path, text: str) -> None:
    """Write to a temporary name beside ``path``, flush to disk, then rename.

    Raises:
        StoreError: if the file cannot be written; the old one is then untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A model may emit half a surrogate pair; it must not cost the whole report.
        with temporary.open("w", encoding="utf-8", errors="replace", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
