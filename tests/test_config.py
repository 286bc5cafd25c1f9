"""Settings: who wins over whom, every mistake at once, and names that nobody knows."""

import json
import math
from pathlib import Path

import pytest
from pydantic import ValidationError

from babelgate.config import (
    COMMANDS,
    CalibrateSettings,
    EvaluateSettings,
    MeasureSettings,
    build,
)
from babelgate.errors import ConfigError


@pytest.fixture
def write(tmp_path):
    def written(text):
        path = tmp_path / "settings.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return written


def made(kind=MeasureSettings, section="measure", environment=None, file=None, **flags):
    return build(kind, flags=flags, file=file, section=section, environment=environment or {})


def message(*args, **kwargs):
    with pytest.raises(ConfigError) as caught:
        made(*args, **kwargs)
    return str(caught.value)


def test_flag_wins_over_environment_over_file_over_default(write):
    file, environment = write("seed = 3"), {"BABELGATE_SEED": "2"}
    assert made().seed == 0
    assert made(file=file).seed == 3
    assert made(file=file, environment=environment).seed == 2
    assert made(file=file, environment=environment, seed="1").seed == 1
    # A flag that was not given is None and hides nothing; zero is given.
    assert made(file=file, environment=environment, seed=None).seed == 2
    assert made(file=file, environment=environment, seed=0).seed == 0


def test_the_rest_of_the_environment_is_not_ours():
    environment = {"SEED": "5", "BABELGATE_CACHE": "/x", "BABELGATE_NONSENSE": "1"}
    assert made(environment=environment) == MeasureSettings()


def test_the_process_environment_is_read_unless_another_is_given(monkeypatch):
    monkeypatch.setenv("BABELGATE_SEED", "7")
    assert build(MeasureSettings, flags={}).seed == 7
    assert made().seed == 0


def test_a_commands_table_wins_over_the_top_and_others_are_not_read(write):
    file = write(
        """
        seed = 1
        per_cell = 5
        shots = 2
        [measure]
        seed = 2
        [calibrate]
        seed = 3
        """
    )
    measure = made(file=file)
    assert (measure.seed, measure.per_cell) == (2, 5)
    # `shots` at the top is for the commands that know it, `per_cell` for the others.
    calibrate = made(CalibrateSettings, "calibrate", file=file)
    assert (calibrate.seed, calibrate.shots) == (3, 2)
    assert made(EvaluateSettings, "evaluate", file=file).seed == 1


def test_comma_lists(write):
    want = ("en", "de", "sw")
    assert made(languages="en, de,sw,").languages == want
    assert made(environment={"BABELGATE_LANGUAGES": "en,de,sw"}).languages == want
    assert made(file=write('languages = "en,de,sw"')).languages == want
    assert made(file=write('languages = ["en", "de", "sw"]')).languages == want
    assert made(CalibrateSettings, layers="3, 14").layers == (3, 14)
    assert made(CalibrateSettings, curve="8,0,2,2").curve == (0, 2, 8)
    # Only lists are split: a name may hold a comma.
    assert made(prompts="a,b").prompts == "a,b"


def test_language_codes_are_brought_to_the_registrys_spelling():
    assert made(languages="jw,EN,zh-CN,en").languages == ("jv", "en", "zh")
    found = made(CalibrateSettings, sources="IW", targets=["pt-BR"])
    assert (found.sources, found.targets) == (("he",), ("pt-br",))
    text = message(CalibrateSettings, languages="en,germna", targets="e n")
    assert "languages: " in text
    assert "Did you mean 'de'?" in text
    assert "targets: " in text


def test_paths_and_choices():
    assert made(out="x/y").out == Path("x/y")
    assert made().out == Path("runs/latest")
    assert made(EvaluateSettings, gate="g", language_known=False).gate == Path("g")
    assert made(dtype="float32").dtype == "float32"


def test_every_mistake_is_told_at_once_with_field_and_value():
    text = message(
        CalibrateSettings,
        section="calibrate",
        seed="-1",
        dtype="int8",
        shots="many",
        layers="1,x",
        curve="-1,2",
        environment={"BABELGATE_RANK": "0"},
    )
    assert text.startswith("settings do not fit:\n")
    lines = text.splitlines()[1:]
    assert sorted(line.split(":")[0].strip() for line in lines) == [
        "curve", "dtype", "layers.1", "rank", "seed", "shots",
    ]  # fmt: skip
    assert all("(given " in line for line in lines)
    assert "'many'" in text
    assert "'int8'" in text
    assert "shots cannot be negative" in text


def test_unknown_flags_are_mistakes():
    assert "speed: " in message(speed=3)


def test_unknown_names_in_a_file_come_together_with_suggestions(write):
    file = write(
        """
        sede = 1
        [measure]
        max_new_token = 5
        shots = 3
        [mesure]
        seed = 1
        """
    )
    text = message(file=file)
    assert str(file) in text
    assert [line.strip() for line in text.splitlines()[1:]] == [
        "[mesure]: no such command. Did you mean 'measure'?",
        "max_new_token: no such setting. Did you mean 'max_new_tokens'?",
        "sede: no such setting. Did you mean 'seed'?",
        # A setting of calibrate in measure's table: the name itself is no suggestion.
        "shots: no such setting. Did you mean 'prompts'?",
    ]


def test_values_of_a_file_are_checked_like_flags(write):
    text = message(file=write('seed = -1\nper_cell = "few"\n'))
    assert "seed: " in text
    assert "per_cell: " in text


@pytest.mark.parametrize("content", ["seed = ", "[measure", "seed = 1\nseed = 2", "a = \x00"])
def test_bad_toml_names_the_file(write, content):
    file = write(content)
    text = message(file=file)
    assert f"config file {file} is not valid TOML" in text


def test_files_that_cannot_be_read(tmp_path):
    assert "No such file" in message(file=tmp_path / "none.toml")
    assert "directory" in message(file=tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'model = "\xe9"')
    assert "not valid TOML" in message(file=tmp_path / "latin.toml")


def test_a_setting_named_like_a_command_is_no_setting(write):
    assert "measure: no such setting" in message(file=write("measure = 3"))


def test_settings_never_change_and_can_be_written_down():
    settings = made(CalibrateSettings, layers="1,2", out="o")
    with pytest.raises(ValidationError):
        settings.seed = 1
    dumped = json.loads(json.dumps(settings.model_dump(mode="json"), allow_nan=False))
    assert CalibrateSettings(**dumped) == settings


@pytest.mark.parametrize("command", COMMANDS)
def test_every_setting_has_a_description_and_a_default_that_fits(command):
    kind = COMMANDS[command]
    defaults = kind()
    assert len(kind.model_fields) >= 10
    for name, field in kind.model_fields.items():
        assert field.description, name
        assert not field.is_required()
    assert kind(**defaults.model_dump()) == defaults


@pytest.mark.parametrize("value", ["nan", "inf", "-1"])
def test_strength_is_a_number_that_can_be_used(value):
    assert "strength: " in message(CalibrateSettings, strength=value)
    assert math.isfinite(made(CalibrateSettings, strength="0").strength)
