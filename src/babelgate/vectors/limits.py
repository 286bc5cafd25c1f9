"""What files of vectors from elsewhere may hold: sizes are checked before anything is made."""

from __future__ import annotations

from pathlib import Path

from ..errors import UserError

#: The largest file that is read. 200 blocks of width 32,768 in float64 are 52 MB.
LARGEST = 64 * 1024 * 1024
#: The most values or vectors that a file may list: more than any model has blocks.
MOST = 10_000


def read_limited(path: Path, what: str) -> bytes:
    """Return a file's bytes.

    Raises:
        UserError: if it is missing, not a plain file, too large to be a ``what``, or unreadable.
    """
    try:
        if not path.exists():
            raise UserError(f"{path} does not exist")
        if not path.is_file():
            raise UserError(f"{path} is not a file")
        size = path.stat().st_size
        if size > LARGEST:
            raise UserError(
                f"{path} has more than {LARGEST // 2**20} MiB, which no {what} has; is it a model?"
            )
        # By its size: asking for more would set that much memory aside.
        with path.open("rb") as file:
            return file.read(size)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def block_number(text: str) -> int | None:
    """Return the number of a block that ASCII digits name; None if there are too many to be one."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 4):
        return None
    return int(text)
