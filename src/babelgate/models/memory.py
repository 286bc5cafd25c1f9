"""Memory: telling a batch that is too large from other failures, and not asking for it anew."""

from __future__ import annotations

import ctypes
import os
import sys

import torch

# Parameters of glibc's mallopt, from its <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let the process keep memory that it frees, on a processor under glibc; say whether it does.

    By default glibc returns every large block to the system and takes it back, page by page, for
    the next activation or logits: 5 to 10 % of the time of generating in batches of 64 rows, and a
    quarter of the processor's time in batches of 128. Memory that was needed once then stays with
    the process (at most 2 GiB of it unused at the end of the heap). Users who set glibc's own
    variables, ``MALLOC_...``, are left alone.
    """
    if not sys.platform.startswith("linux") or any(x.startswith("MALLOC_") for x in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library, such as musl
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _LARGEST))


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
