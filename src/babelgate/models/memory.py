"""Telling a batch that is too large from any other failure."""

from __future__ import annotations

import torch

_WORDS = ("out of memory", "can't allocate memory")


def is_out_of_memory(error: Exception) -> bool:
    """Whether halving the batch may help: processors and Apple's say so in a plain RuntimeError."""
    return isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)) or any(
        words in str(error) for words in _WORDS
    )


def free_memory() -> None:
    """Give back what a failed pass left cached on an accelerator."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
