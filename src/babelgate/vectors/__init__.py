"""Files of directions: ours with their provenance, and exchange with llama.cpp and repeng."""

from .direction_set import (
    SCALES,
    DirectionSet,
    NamedDirection,
    Provenance,
    ScaleIs,
    named_direction,
)
from .exchange import FORMATS, export_vectors, import_vectors
from .set_file import load_directions, save_directions

__all__ = [
    "FORMATS",
    "SCALES",
    "DirectionSet",
    "NamedDirection",
    "Provenance",
    "ScaleIs",
    "export_vectors",
    "import_vectors",
    "load_directions",
    "named_direction",
    "save_directions",
]
