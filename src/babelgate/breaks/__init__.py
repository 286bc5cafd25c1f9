"""What breaks where: understanding, representation, threshold or action, per language.

A prompt is refused when four things hold in a row: the model understands it, its states tell harm
from harmlessness, the threshold cuts where the two part, and the decision becomes a reply. Each
step gets a verdict from an interval, never from a point value; the first broken one is the
diagnosis. Pure: evidence in, verdicts and sentences out.
"""

from .borders import (
    ACTION,
    BORDERS,
    LEAST_GATE,
    REPRESENTATION,
    THRESHOLD,
    TWINS,
    UNDERSTANDING,
    Border,
)
from .evidence import MEASURES, Evidence
from .judging import breaks_of, what_breaks
from .results import NOTHING, STEPS, UNDECIDED, VERDICTS, Breaks, LanguageBreaks, Step, Verdict

__all__ = [
    "ACTION", "BORDERS", "LEAST_GATE", "MEASURES", "NOTHING", "REPRESENTATION", "STEPS",
    "THRESHOLD", "TWINS", "UNDECIDED", "UNDERSTANDING", "VERDICTS", "Border", "Breaks", "Evidence",
    "LanguageBreaks", "Step", "Verdict", "breaks_of", "what_breaks",
]  # fmt: skip
