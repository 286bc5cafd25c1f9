"""The commands as functions: a model, prompts, and settings by name."""

from __future__ import annotations

from typing import Any

from . import recipes
from .config import CalibrateSettings, EvaluateSettings, MeasureSettings, build
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
    model: ChatModel, prompts: PromptSet, gate: Gate | None = None, **settings: Any
) -> Results:
    """Evaluate with and without a gate; settings as in `babelgate evaluate --help`.

    Raises:
        ConfigError: listing every setting that does not fit.
    """
    gates = None if gate is None else {"gate": gate}
    return recipes.evaluate(model, prompts, _settings(EvaluateSettings, settings), gates)


def _settings(kind: Any, given: dict[str, Any]) -> Any:
    # No environment: a program says what it wants.
    return build(kind, flags=given, environment={})
