"""The commands as functions: a model, prompts, and settings by name."""

from __future__ import annotations

from typing import Any

from . import recipes
from .comparing.results import Comparison
from .comparing.run import compare as run_comparison
from .config import (
    CalibrateSettings,
    CompareSettings,
    DiagnoseSettings,
    DirectionsSettings,
    EvaluateSettings,
    MeasureSettings,
    build,
)
from .diagnosing.run import Diagnosed
from .diagnosing.run import diagnose as run_diagnosis
from .directing.run import Directions
from .directing.run import find_directions as run_directions
from .gate import Gate
from .models.chat import ChatModel
from .recipes import Calibrated
from .results import Results
from .types import PromptSet


def measure(model: ChatModel, prompts: PromptSet, **settings: Any) -> Results:
    """Measure refusals of the untouched model; settings as in `babelgate measure --help`.

    Raises:
        ConfigError: listing every setting that does not fit.
    """
    return recipes.measure(model, prompts, _settings(MeasureSettings, settings))


def calibrate(model: ChatModel, prompts: PromptSet, **settings: Any) -> Calibrated:
    """Fit a gate; settings as in `babelgate calibrate --help`.

    Raises:
        ConfigError: listing every setting that does not fit.
    """
    return recipes.calibrate(model, prompts, _settings(CalibrateSettings, settings))


def evaluate(
    model: ChatModel, prompts: PromptSet, gate: Gate | Calibrated | None = None, **settings: Any
) -> Results:
    """Evaluate with and without a gate; settings as in `babelgate evaluate --help`.

    ``gate`` is what :func:`calibrate` returned, with the actions that it chose, or a gate alone,
    which gets the paper's actions; by default what lies in the run folder.

    Raises:
        ConfigError: listing every setting that does not fit.
    """
    actions = gate.actions if isinstance(gate, Calibrated) else None
    if isinstance(gate, Calibrated):
        gate = gate.gate
    gates = None if gate is None else {"gate": gate}
    return recipes.evaluate(model, prompts, _settings(EvaluateSettings, settings), gates, actions)


def compare(
    model: ChatModel, prompts: PromptSet, test: PromptSet | None = None, **settings: Any
) -> Comparison:
    """Compare methods of repair; settings as in `babelgate compare --help`.

    ``test`` holds the prompts to compare on, where they are not those calibrated on.

    Raises:
        ConfigError: listing every setting that does not fit.
    """
    return run_comparison(model, prompts, _settings(CompareSettings, settings), test=test)


def diagnose(model: ChatModel, prompts: PromptSet, **settings: Any) -> Diagnosed:
    """Say where each language fails; settings as in `babelgate diagnose --help`.

    Raises:
        ConfigError: listing every setting that does not fit.
    """
    return run_diagnosis(model, prompts, _settings(DiagnoseSettings, settings))


def find_directions(model: ChatModel, prompts: PromptSet, **settings: Any) -> Directions:
    """Select refusal directions and measure transfer; as in `babelgate directions --help`.

    Raises:
        ConfigError: listing every setting that does not fit.
    """
    return run_directions(model, prompts, _settings(DirectionsSettings, settings))


def _settings(kind: Any, given: dict[str, Any]) -> Any:
    # No environment: a program says what it wants.
    return build(kind, flags=given, environment={})
