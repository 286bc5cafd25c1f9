"""What builds a method of a comparison: from the setting, and what the run was given.

What is fitted uses the sources' labelled train prompts and, for thresholds, the shots of the
targets: the same ones for every method.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..action_file import Actions
from ..models.chat import ChatModel
from .contenders import Contender
from .fitted import FittedGate
from .setting import Setting


@dataclass(frozen=True)
class Given:
    """What a comparison was given beside its setting."""

    ours: FittedGate
    #: The paper's gate, reading at most so many blocks (1).
    paper: Callable[..., FittedGate]
    actions: Actions
    cast_data: Path | None = None
    guard: Callable[[], tuple[ChatModel, str]] | None = None


Builder = Callable[[Setting, Given], Contender]


def register(builders: dict[str, Builder], name: str) -> Callable[[Builder], Builder]:
    """Return a decorator that puts a builder among others under a name."""

    def put(build: Builder) -> Builder:
        builders[name] = build
        return build

    return put
