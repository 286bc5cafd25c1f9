"""The templates that come with the package."""

from __future__ import annotations

import functools
from importlib import resources


@functools.cache
def asset(name: str) -> str:
    """Return the text of a file in ``templates/``."""
    return (resources.files("babelgate.report") / "templates" / name).read_text(encoding="utf-8")
