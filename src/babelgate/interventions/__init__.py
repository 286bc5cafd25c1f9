"""Interventions on the residual stream: what they touch and what they do, per row and phase."""

from .base import Batch, Decision, Intervention, Phase, Steering
from .gated import GatedIntervention

__all__ = ["Batch", "Decision", "GatedIntervention", "Intervention", "Phase", "Steering"]
