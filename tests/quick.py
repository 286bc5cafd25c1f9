"""Whether something is quick, on a machine that may be slow, or lent to others at the moment."""

from __future__ import annotations

import time
from collections.abc import Callable

# What the yardstick takes of a processor on the machine that the limits were written on.
_USUAL_S = 0.035


def is_quick(call: Callable[[], object], seconds: float) -> bool:
    """Whether the call takes at most so much processor time, the best of three tries.

    The limit is for a machine that runs the yardstick in its usual time, and is longer on a slower
    one. A host that takes the processor away counts as processor time here: hence three tries.
    """
    for _ in range(3):
        slower = max(1.0, _yardstick() / _USUAL_S)
        start = time.process_time()
        call()
        if time.process_time() - start < seconds * slower:
            return True
    return False


def _yardstick() -> float:
    start = time.process_time()
    counts: dict[str, int] = {}
    for i in range(100_000):
        word = str(i * 7919 % 1009)
        counts[word] = counts.get(word, 0) + 1
    return time.process_time() - start
