"""Interventions on the residual stream: what they touch and what they do, per row and phase."""

from .actions import AddDirection, Nothing, ProjectOut, Say, Together, everywhere
from .base import (
    EMBEDDING,
    Action,
    Batch,
    Decider,
    Decision,
    Intervention,
    Phase,
    Reading,
    Steering,
    Words,
)
from .conditional import ConditionalIntervention, Ungated
from .gated import GateDecider, gated

__all__ = [
    "EMBEDDING",
    "Action",
    "AddDirection",
    "Batch",
    "ConditionalIntervention",
    "Decider",
    "Decision",
    "GateDecider",
    "Intervention",
    "Nothing",
    "Phase",
    "ProjectOut",
    "Reading",
    "Say",
    "Steering",
    "Together",
    "Ungated",
    "Words",
    "everywhere",
    "gated",
]
