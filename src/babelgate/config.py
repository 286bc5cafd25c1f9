"""Settings: one typed model per command, filled from flags, environment and a TOML file.

Each field's description is its help text on the command line. Imports nothing heavy.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from .errors import ConfigError, LanguageError, did_you_mean
from .languages import normalise_code

_ENVIRONMENT = "BABELGATE_"
AnySettings = TypeVar("AnySettings", bound="Settings")


class Settings(BaseModel):
    """Base of all settings: unknown names are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class ModelSettings(Settings):
    """Which model, where and how."""

    model: str = Field(default="demo", description="hub id, folder, .gguf file, demo or smollm2")
    revision: str | None = Field(default=None, description="branch, tag or commit of a hub model")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        default="auto", description="number type of the weights; auto suits the device"
    )
    blocks: str | None = Field(default=None, description="dotted name of the decoder blocks")
    chat_template: str | None = Field(default=None, description="Jinja file or source, or plain")


class PromptSettings(Settings):
    """Which prompts."""

    prompts: str = Field(
        default="starter",
        description="starter, a file or folder, polyrefuse:PATH, multijail:PATH, hf:ID@COMMIT",
    )
    languages: tuple[str, ...] | None = Field(
        default=None, description="codes, comma-separated; all by default"
    )
    seed: int = Field(default=0, ge=0, description="seed of every random choice")

    @field_validator(
        "languages", "sources", "targets", "select", "reply_sources", "reply_languages",
        check_fields=False,
    )  # fmt: skip
    @classmethod
    def _as_the_registry_spells(cls, codes: tuple[str, ...] | None) -> tuple[str, ...] | None:
        try:
            return None if codes is None else tuple(dict.fromkeys(map(normalise_code, codes)))
        except LanguageError as error:
            raise ValueError(str(error)) from None


class RunSettings(ModelSettings, PromptSettings):
    """What every command that computes shares."""

    out: Path = Field(
        default=Path("runs/latest"), description="run folder; finished work in it is reused"
    )
    batch_tokens: int | None = Field(
        default=None,
        ge=16,
        description="tokens per forward pass when capturing; suits the device by default",
    )


class JudgeSettings(Settings):
    """Who decides what refuses."""

    judge: str = Field(
        default="embedded",
        description="embedded, lexicon, guard:NAME[=MODEL], api:MODEL; A+B asks several",
    )
    adjudicator: str | None = Field(
        default=None, description="judge that decides where several disagree"
    )
    translator: str | None = Field(
        default=None,
        description="for guard and api judges, translate into English first: "
        "nllb[=MODEL], madlad[=MODEL], api:MODEL",
    )
    any_language: bool = Field(
        default=False, description="ask guards also about languages that their cards do not list"
    )
    api_url: str | None = Field(
        default=None, description="base of the API, such as http://127.0.0.1:8000/v1"
    )
    api_concurrency: int = Field(default=4, ge=1, description="API requests at once")
    api_prompt_price: float | None = Field(
        default=None, ge=0, description="price of a million prompt tokens, to report the cost"
    )
    api_completion_price: float | None = Field(
        default=None, ge=0, description="price of a million completion tokens"
    )


class MeasureSettings(RunSettings, JudgeSettings):
    """Generate and judge, without a gate."""

    split: Literal["train", "val", "test"] = Field(
        default="test", description="which split to measure on"
    )
    per_cell: int | None = Field(
        default=None, ge=1, description="prompts per language and label; all by default"
    )
    max_new_tokens: int = Field(
        default=48,
        ge=1,
        description="reply length in English; other languages get it times their fertility",
    )
    rows: int | None = Field(default=None, ge=1, description="replies generated together")


class CalibrateSettings(RunSettings, JudgeSettings):
    """Fit a gate, and choose what follows its decisions."""

    sources: tuple[str, ...] | None = Field(
        default=None,
        description="languages the gate is fitted on; by default the high-tier ones there are",
    )
    targets: tuple[str, ...] | None = Field(
        default=None, description="languages with thresholds of their own; by default all others"
    )
    contrast: str | None = Field(
        default=None,
        description="prompt set with harmless twins to train with as well, such as starter",
    )
    train_per_cell: int | None = Field(
        default=None,
        ge=2,
        description="train prompts per source language and label; all by default",
    )
    val_per_cell: int | None = Field(
        default=None, ge=2, description="val prompts per language and label; all by default"
    )
    shot_pool: int = Field(
        default=32, ge=1, description="target train prompts per label to draw shots from"
    )
    layers: tuple[int, ...] | None = Field(
        default=None,
        description="blocks to read; by default chosen on source languages left out in turn",
    )
    readout_layers: int = Field(default=5, ge=1, le=8, description="read at most this many blocks")
    rank: int = Field(default=10, ge=1, description="dimensions of each block's subspace")
    basis: Literal["directions", "states"] = Field(
        default="directions",
        description="what a block's subspace is made of: directions (the paper's mean differences) "
        "or states (principal components of the train prompts' states)",
    )
    components: int = Field(
        default=256, ge=1, description="dimensions of each block's subspace with basis = states"
    )
    shots: int = Field(
        default=4, ge=0, description="labelled target examples per class for the threshold"
    )
    rule: Literal["source", "paper", "midpoint", "shrunken", "unlabelled", "combined"] = Field(
        default="shrunken",
        description="how shots, and for the last two the other target prompts without their "
        "labels, set a threshold",
    )
    curve: tuple[int, ...] = Field(
        default=(0, 1, 2, 4, 8), description="shots to draw the curve for"
    )
    draws: int = Field(
        default=50, ge=1, description="random draws of the shots per point of the curve"
    )
    strength: float = Field(
        default=1.0,
        ge=0,
        allow_inf_nan=False,
        description="factor on the paper's steering strength",
    )

    action: Literal["search", "paper", "fixed"] = Field(
        default="search",
        description="what follows a decision: search (tried on val prompts), paper (add or project "
        "out the harmfulness direction), fixed (a fixed refusal, or nothing)",
    )
    action_prompts: int = Field(
        default=12, ge=2, description="val prompts per target language and label to try actions on"
    )
    direction_prompts: int = Field(
        default=64,
        ge=2,
        description="train prompts per label whose replies refusal directions are made from",
    )
    max_new_tokens: int = Field(
        default=20, ge=1, description="reply length in English when actions are tried"
    )
    max_harmless_rise: float = Field(
        default=0.10,
        ge=0,
        description="bound of an action: rise of harmless refusals in any language (share)",
    )
    max_degenerate_rise: float = Field(
        default=0.02, ge=0, description="bound of an action: rise of degenerate replies (share)"
    )
    max_kl: float = Field(
        default=1.0,
        ge=0,
        description="bound of an action: KL of the next token on answered harmless prompts (nats)",
    )

    @field_validator("curve")
    @classmethod
    def _not_negative(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(k < 0 for k in value):
            raise ValueError("shots cannot be negative")
        return tuple(sorted(set(value)))


class CompareSettings(MeasureSettings, CalibrateSettings):
    """Calibrate, then compare methods on the same prompts."""

    methods: tuple[str, ...] | None = Field(
        default=None, description="methods to compare; by default all that can run"
    )
    seeds: int = Field(default=5, ge=1, description="draws of the shots to average over")
    test_prompts: str | None = Field(
        default=None, description="prompts to compare on, where they are not those calibrated on"
    )
    cast_data: Path | None = Field(
        default=None, description="folder of CAST's released data, for the cast methods"
    )
    guard: str | None = Field(
        default=None,
        description="model to put in front: a chat model that is asked, or guard:MODEL for one "
        "whose template asks",
    )
    latency_prompts: int = Field(
        default=8, ge=0, description="prompts to time every method on; 0 turns it off"
    )

    def calibration(self) -> CalibrateSettings:
        """Return the part that a calibration reads: targets in every language compared."""
        own = self.model_dump(include=set(CalibrateSettings.model_fields))
        return CalibrateSettings(**own)


class ThresholdsSettings(RunSettings):
    """Study what shots buy under every rule."""

    sources: tuple[str, ...] | None = Field(
        default=None,
        description="languages the probes are fitted on; by default the high-tier ones",
    )
    targets: tuple[str, ...] | None = Field(
        default=None, description="other languages to study; by default all others"
    )
    contrast: str | None = Field(
        default=None,
        description="prompt set with harmless twins to train with as well, such as starter",
    )
    train_per_cell: int | None = Field(
        default=None, ge=2, description="train prompts per source language and label"
    )
    val_per_cell: int | None = Field(
        default=None, ge=2, description="val prompts per language and label; all by default"
    )
    shot_pool: int = Field(
        default=80, ge=1, description="target train prompts per label: shots and unlabelled ones"
    )
    layers: tuple[int, ...] | None = Field(
        default=None, description="blocks to study alone, and together; by default all candidates"
    )
    readout_layers: int = Field(
        default=5, ge=1, le=8, description="most blocks of the set that left-out sources choose"
    )
    ranks: tuple[int, ...] = Field(
        default=(1, 2, 3, 5, 8, 10), description="dimensions of each block's subspace"
    )
    l2: float = Field(default=1e-2, gt=0, description="L2 strength of single-block probes")
    shots: tuple[int, ...] = Field(
        default=(0, 1, 2, 4, 8, 16, 32, 64), description="labelled examples per class"
    )
    draws: int = Field(default=100, ge=1, description="random draws of the shots")
    unlabelled: tuple[int, ...] = Field(
        default=(16, 16),
        description="harmful,harmless train prompts per language that are used without labels",
    )

    @field_validator("ranks", "shots", "unlabelled")
    @classmethod
    def _counts(cls, value: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        least = 1 if info.field_name == "ranks" else 0
        if not value or any(n < least for n in value):
            raise ValueError(f"expected numbers of at least {least}")
        if info.field_name == "unlabelled":
            if len(value) != 2:
                raise ValueError("expected two numbers: harmful, harmless")
            return value
        return tuple(sorted(set(value)))

    def calibration(self) -> CalibrateSettings:
        """Return the settings that select prompts and layers as a calibration would."""
        own = set(CalibrateSettings.model_fields) - {"shots", "draws"}
        return CalibrateSettings(shots=0, **{k: v for k, v in self if k in own})


class _GeometrySettings(RunSettings, JudgeSettings):
    """What the two studies of activation space share."""

    sources: tuple[str, ...] | None = Field(
        default=None,
        description="languages that directions and thresholds are pooled over; by default the "
        "high-tier ones there are",
    )
    targets: tuple[str, ...] | None = Field(
        default=None, description="other languages to study; by default all others"
    )
    train_per_cell: int | None = Field(
        default=64, ge=2, description="train prompts per language and label"
    )
    val_per_cell: int | None = Field(
        default=48, ge=2, description="val prompts per language and label"
    )
    reply_prompts: int = Field(
        default=32,
        ge=0,
        description="prompts per language, label and split whose untouched replies are generated, "
        "to tell refused from answered; 0 turns replies off",
    )
    max_new_tokens: int = Field(default=20, ge=1, description="reply length in English")
    rows: int | None = Field(default=None, ge=1, description="replies generated together")

    def calibration(self) -> CalibrateSettings:
        """Return the settings that select prompts as a calibration would, targets like sources."""
        own = set(CalibrateSettings.model_fields) - {"layers"}
        shared: dict[str, Any] = {k: v for k, v in self if k in own}
        if self.train_per_cell is not None:
            # Directions are made in targets too, so these get as many train prompts as sources.
            shared["shot_pool"] = self.train_per_cell
        return CalibrateSettings(**shared)


class DiagnoseSettings(_GeometrySettings):
    """Where in activation space, and where on the way to a reply, a language fails."""

    layers: tuple[int, ...] | None = Field(
        default=None, description="blocks to study; all by default"
    )
    pivot: str | None = Field(
        default=None,
        description="language that translations are matched with; English or the first",
    )
    readout_layers: int = Field(default=5, ge=1, le=8, description="blocks that the gate reads")


class DirectionsSettings(_GeometrySettings):
    """Refusal directions by language: selection, transfer, files."""

    select: tuple[str, ...] | None = Field(
        default=None, description="languages to select a direction in; all by default"
    )
    candidates: tuple[int, ...] | None = Field(
        default=None, description="blocks whose input is searched; all before 80 % of the depth"
    )
    full_maps: bool = Field(
        default=False, description="compute every candidate's scores, also those no filter needs"
    )
    fallback: bool = Field(
        default=True,
        description="where the model never refuses or refuses everything, contrast harmful with "
        "harmless prompts instead, and say so",
    )
    min_induce: float = Field(
        default=0.0,
        allow_inf_nan=False,
        description="filter: log-odds of refusal that adding a direction must bring about on "
        "harmless prompts; 0 as published, lower for models that none passes on",
    )
    max_kl: float = Field(
        default=0.1,
        gt=0,
        allow_inf_nan=False,
        description="filter: change of the next token on harmless prompts (nats); as published",
    )
    transfer: Literal["none", "first-token", "replies"] = Field(
        default="first-token",
        description="effect of every direction in every language: log-odds of a refusal's first "
        "token, or judged replies as well",
    )
    transfer_prompts: int = Field(
        default=24, ge=4, description="test prompts per language and label of the transfer matrix"
    )
    transfer_layer: int | None = Field(
        default=None,
        ge=0,
        description="compare mean differences of this block in every language, not selected ones",
    )
    reply_sources: tuple[str, ...] | None = Field(
        default=None, description="languages whose directions are tried by replies; all by default"
    )
    reply_languages: tuple[str, ...] | None = Field(
        default=None, description="languages they are tried in by replies; all by default"
    )
    controls: int = Field(
        default=3, ge=0, description="random directions, and shuffled labels, to compare with"
    )


class EvaluateSettings(MeasureSettings):
    """Generate with and without a gate, and judge."""

    gate: Path | None = Field(
        default=None, description="gate folder; by default the one in the run folder"
    )
    language_known: bool = Field(
        default=True, description="use the prompt's stated language; otherwise it is identified"
    )


class JudgeFileSettings(JudgeSettings):
    """Judge replies that are in files already."""

    files: tuple[Path, ...] = Field(default=(), description="JSONL files of replies")
    against: str | None = Field(
        default=None, description="field with 0/1 labels of refusal to compare with"
    )
    prompts: str | None = Field(
        default=None,
        description="prompt set to look prompts up in by language and id, such as polyrefuse:PATH",
    )
    language: str | None = Field(
        default=None, description="language of lines that state none; otherwise identified"
    )
    out: Path | None = Field(
        default=None,
        description="file for the verdicts, resumed from; by default verdicts.jsonl for judges "
        "that take long, none for the others",
    )
    unparsed: bool = Field(default=False, description="list the replies without a verdict, and why")
    show_replies: bool = Field(
        default=False, description="with --unparsed, print the replies too; they may be harmful"
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps")
    seed: int = Field(default=0, ge=0, description="seed of the intervals")


def build(
    kind: type[AnySettings],
    *,
    flags: Mapping[str, Any],
    file: Path | None = None,
    section: str = "",
    environment: Mapping[str, str] = os.environ,
) -> AnySettings:
    """Return settings from flags, then environment, then file, then defaults.

    The file is TOML; keys at its top hold for every command that knows them, those in a table named
    after the command only for it. ``BABELGATE_MODEL`` and so on are read from the environment.

    Raises:
        ConfigError: listing every field that is wrong at once.
    """
    values: dict[str, Any] = {}
    if file is not None:
        values |= _from_file(file, kind, section)
    for name in kind.model_fields:
        if (given := environment.get(_ENVIRONMENT + name.upper())) is not None:
            values[name] = given
    values |= {k: v for k, v in flags.items() if v is not None}
    for name, value in values.items():
        field = kind.model_fields.get(name)
        if isinstance(value, str) and field is not None and "tuple" in str(field.annotation):
            values[name] = tuple(part.strip() for part in value.split(",") if part.strip())
    try:
        return kind(**values)
    except ValidationError as error:
        lines = [
            f"{'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']} (given {e['input']!r})"
            for e in error.errors()
        ]
        raise ConfigError("settings do not fit:\n  " + "\n  ".join(lines)) from None


def _from_file(file: Path, kind: type[Settings], section: str) -> dict[str, Any]:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"config file {file}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {file} is not valid TOML: {error}") from error
    known_anywhere = {n for k in COMMANDS.values() for n in k.model_fields}
    top = {k: v for k, v in document.items() if not isinstance(v, dict)}
    own = document.get(section, {})
    own = own if isinstance(own, dict) else {}
    problems = [
        f"{name}: no such setting.{did_you_mean(name, sorted(known))}"
        for names, known in ((top, known_anywhere), (own, set(kind.model_fields)))
        for name in set(names) - known
    ]
    problems += [
        f"[{name}]: no such command.{did_you_mean(name, list(COMMANDS))}"
        for name, value in document.items()
        if isinstance(value, dict) and name not in COMMANDS
    ]
    if problems:
        raise ConfigError(f"config file {file} does not fit:\n  " + "\n  ".join(sorted(problems)))
    return {k: v for k, v in top.items() if k in kind.model_fields} | own


#: The settings model of each command.
COMMANDS: dict[str, type[Settings]] = {
    "measure": MeasureSettings,
    "calibrate": CalibrateSettings,
    "evaluate": EvaluateSettings,
    "compare": CompareSettings,
    "judge": JudgeFileSettings,
    "thresholds": ThresholdsSettings,
    "diagnose": DiagnoseSettings,
    "directions": DirectionsSettings,
}
