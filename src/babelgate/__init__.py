"""babelgate: measure, diagnose and repair the refusal gap between languages in chat models.

The names below are loaded when first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .api import calibrate, compare, diagnose, evaluate, find_directions, measure
    from .gate_file import load_gate
    from .models import load_model
    from .prompts import load_prompts
    from .report import write_report

_HOMES = {
    "load_model": ".models",
    "load_prompts": ".prompts",
    "load_gate": ".gate_file",
    "measure": ".api",
    "calibrate": ".api",
    "compare": ".api",
    "diagnose": ".api",
    "find_directions": ".api",
    "evaluate": ".api",
    "write_report": ".report",
}

__all__ = [
    "__version__",
    "calibrate",
    "compare",
    "diagnose",
    "evaluate",
    "find_directions",
    "load_gate",
    "load_model",
    "load_prompts",
    "measure",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)
