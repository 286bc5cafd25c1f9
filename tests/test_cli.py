"""The command line: help without torch, mistakes as one sentence, JSON that parses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from babelgate.cli import app
from babelgate.config import COMMANDS
from babelgate.console import note, table

COMMAND_NAMES = (
    "calibrate", "compare", "demo", "diagnose", "directions", "evaluate", "judge", "measure",
    "models", "power", "prompts", "report", "thresholds", "vectors",
)  # fmt: skip
SOURCE = Path(__file__).parents[1] / "src"


def shell(*command, cwd):
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, cwd=cwd, env=environment, check=False
    )


def line(number=0, **changes):
    return {"id": f"p{number}", "language": "en", "label": "harmful", "split": "test",
            "text": f"text number {number}"} | changes  # fmt: skip


def write(path, *lines):
    path.write_text("".join(x if isinstance(x, str) else json.dumps(x) + "\n" for x in lines))
    return path


# ---------------------------------------------------------------------------------------------
# help


def test_help_of_every_command_imports_nothing_heavy(tmp_path):
    script = f"""
import sys
from babelgate.cli import main
for command in {[None, *COMMAND_NAMES]!r}:
    try:
        main([command, "--help"] if command else ["--help"])
    except SystemExit as stop:
        assert stop.code == 0, (command, stop.code)
    else:
        raise AssertionError("no exit")
heavy = {{"torch", "transformers", "numpy", "scipy", "tokenizers", "safetensors", "jinja2", "httpx"}}
assert "click" in sys.modules
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    done = shell(sys.executable, "-c", script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.count("Usage: babelgate") == len(COMMAND_NAMES) + 1


def test_the_commands_are_known():
    assert tuple(sorted(app.commands)) == COMMAND_NAMES
    assert set(COMMANDS) < set(COMMAND_NAMES)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_setting_is_a_flag_with_its_help(run, command):
    code, out, _ = run(command, "--help")
    assert code == 0
    text = " ".join(out.split())
    for name in set(COMMANDS[command].model_fields) - {"files"}:  # given as arguments
        assert f"--{name.replace('_', '-')}" in text
    assert "--config FILE" in text
    assert "--json" in text


def test_version_and_no_command(run):
    code, out, _ = run("--version")
    assert code == 0
    assert out.startswith("babelgate, version ")
    code, out, err = run()
    assert code == 2
    assert "Commands:" in out + err


# ---------------------------------------------------------------------------------------------
# mistakes


@pytest.mark.parametrize(
    ("typed", "hint"), [("measur", "measure"), ("callibrate", "calibrate"), ("zzz", None)]
)
def test_unknown_commands(run, typed, hint):
    code, out, err = run(typed)
    assert code == 2
    assert out == ""
    assert f"No such command {typed!r}." in err
    assert (f"Did you mean {hint!r}?" in err) == (hint is not None)
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(["measure", "--nonsense"], "--nonsense"), (["measure", "--dtype", "int8"], "float32"),
     (["report"], "RUN"), (["prompts", "a", "b"], "b"), (["demo", "--seed", "x"], "--seed")],
)  # fmt: skip
def test_wrong_usage(run, arguments, word):
    code, _, err = run(*arguments)
    assert code == 2
    assert word in err
    assert "Traceback" not in err


def mistake(done, code=2):
    """Check that a command failed with one ``error:`` line, and return the message."""
    got, out, err = done
    assert got == code, err
    assert out == ""
    assert "Traceback" not in err
    assert "bug" not in err
    lines = err.splitlines()
    assert [x.startswith("error: ") for x in lines].count(True) == 1
    at = next(i for i, x in enumerate(lines) if x.startswith("error: "))
    # Only lists of wrong fields, which are indented, may follow.
    assert all(x.startswith("  ") for x in lines[at + 1 :])
    return "\n".join(lines[at:])


@pytest.mark.parametrize("command", ["measure", "calibrate"])
@pytest.mark.parametrize("model", ["nowhere", "./nowhere", "/nowhere/at/all", "no.gguf", "a/b/c"])
def test_a_missing_model(run, command, model):
    assert repr(model) in mistake(run(command, "--model", model))


def test_a_mistyped_demo_model(run):
    assert "Did you mean 'demo'?" in mistake(run("models", "dmeo"))


def test_a_model_folder_without_config(run, tmp_path):
    (tmp_path / "model").mkdir()
    for arguments in (["models", "model"], ["measure", "--model", "model"]):
        text = mistake(run(*arguments))
        assert "'model'" in text
        assert "config.json" in text


def test_a_damaged_model_folder(run, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{")
    assert "'model'" in mistake(run("models", "model"))


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("{\n", ["not JSON"]),
        ({"id": "x"}, ["'language'", "missing"]),
        (line(label="harmfull"), ["'label'", "Did you mean 'harmful'?"]),
        (line(split="dev"), ["'split'", "'dev'"]),
        (line(language="germna"), ["'language'", "Did you mean 'de'?"]),
        (line(text=3), ["'text'", "int"]),
    ],
)
def test_a_bad_line_of_a_prompt_file(run, tmp_path, bad, words):
    write(tmp_path / "set.jsonl", line(1), bad, line(2))
    for arguments in (["prompts", "set.jsonl"], ["measure", "--prompts", "set.jsonl"]):
        text = mistake(run(*arguments))
        assert "set.jsonl, line 2" in text
        assert [w for w in words if w not in text] == []


def test_prompt_files_that_are_not_there(run):
    assert "Did you mean 'starter'?" in mistake(run("prompts", "startre"))
    assert "'gone.jsonl'" in mistake(run("measure", "--prompts", "gone.jsonl"))


def test_unknown_languages_are_told_before_a_model_is_loaded(run, tmp_path):
    write(tmp_path / "set.jsonl", line(1))
    assert "'qq'" in mistake(run("prompts", "starter", "--languages", "qq"))
    assert "Did you mean 'de'?" in mistake(run("prompts", "starter", "--languages", "germna"))
    assert "Did you mean 'de'?" in mistake(run("measure", "--languages", "en,germna"))
    for flag, command in (
        ("languages", "measure"),
        ("sources", "calibrate"),
        ("targets", "calibrate"),
    ):
        text = mistake(
            run(command, "--prompts", "set.jsonl", f"--{flag}", "en,jw,qq", "--model", "x")
        )
        assert "no prompts in jv, qq" in text
        assert "has en" in text


def test_a_missing_run_folder(run):
    assert "nowhere/results.json does not exist" in mistake(run("report", "nowhere"), 1)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"schema": 9}', '{"schema": 1}',
                '{"schema": 1, "model": {}, "prompts": {}, "judge": {}, "rows": ["x"], '
                '"macro": [], "comparisons": []}'],
)  # fmt: skip
@pytest.mark.parametrize("flag", ["--json", "--markdown"])
def test_corrupt_results(run, tmp_path, content, flag):
    (tmp_path / "results.json").write_text(content)
    assert "results.json" in mistake(run("report", ".", flag), 1)
    assert not (tmp_path / "report.html").exists()


def test_a_missing_gate_is_told_before_anything_is_loaded(run):
    text = mistake(run("evaluate", "--gate", "nowhere", "--model", "nowhere"))
    assert "nowhere/gate.json does not exist" in text


def test_config_errors_come_together(run, tmp_path):
    text = mistake(run("measure", "--seed", "-1", "--rows", "x", "--per-cell", "0"))
    assert [x.split(":")[0].strip() for x in text.splitlines()[1:]] == ["seed", "per_cell", "rows"]
    write(tmp_path / "c.toml", "sede = 1\n[mesure]\n")
    text = mistake(run("measure", "--config", "c.toml"))
    assert "Did you mean 'seed'?" in text
    assert "Did you mean 'measure'?" in text
    assert "gone.toml" in mistake(run("measure", "--config", "gone.toml"))
    write(tmp_path / "c.toml", "seed = \n")
    assert "not valid TOML" in mistake(run("calibrate", "--config", "c.toml"))


def test_a_flag_wins_over_a_config_file(run, tmp_path):
    write(tmp_path / "c.toml", '[measure]\nmodel = "from-file"\n')
    assert "'from-file'" in mistake(run("measure", "--config", "c.toml"))
    text = mistake(run("measure", "--config", "c.toml", "--model", "from-flag"))
    assert "'from-flag'" in text


@pytest.mark.parametrize("place", [0, 1, 2])
def test_debug_shows_where_and_keeps_the_exit_code(run, place):
    arguments = ["report", "nowhere"]
    arguments.insert(place, "--debug")
    code, _, err = run(*arguments)
    assert code == 1
    assert "Traceback" in err
    assert "StoreError" in err
    assert err.splitlines()[-1].startswith("error: ")
    code, _, err = run("--debug", "prompts", "gone.jsonl")
    assert code == 2
    assert "Traceback" in err


def test_what_nobody_expected_is_told_as_a_bug(run, monkeypatch):
    def fail(*_args, **_kwargs):
        raise RuntimeError("something broke")

    monkeypatch.setattr("babelgate.prompts.load_prompts", fail)
    code, out, err = run("prompts", "starter")
    assert (code, out) == (1, "")
    assert err.startswith("error: RuntimeError: something broke\n")
    assert "--debug" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("raised", "code", "word"),
    [(KeyboardInterrupt, 130, "run the same command again"), (MemoryError, 1, "--batch-tokens")],
)
def test_stopped_and_out_of_memory(run, monkeypatch, raised, code, word):
    def fail(*_args, **_kwargs):
        raise raised

    monkeypatch.setattr("babelgate.prompts.load_prompts", fail)
    got, _, err = run("prompts", "starter")
    assert got == code
    assert word in err
    assert "Traceback" not in err


def test_errors_of_a_process(tmp_path):
    """The same through the door that people use."""
    done = shell(sys.executable, "-m", "babelgate", "report", "nowhere", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    done = shell(sys.executable, "-m", "babelgate", "prompst", cwd=tmp_path)
    assert done.returncode == 2
    assert "Did you mean 'prompts'?" in done.stderr


def test_a_reader_that_has_seen_enough_gets_no_message(tmp_path):
    """As under ``| head``: nobody reads the pipe any more when the output comes."""
    write(tmp_path / "set.jsonl", line(1))
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "babelgate", "prompts", "set.jsonl", "--json"],
        stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, cwd=tmp_path, check=False,
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
    )  # fmt: skip
    os.close(writer)
    assert done.stderr == ""


# ---------------------------------------------------------------------------------------------
# output


def test_prompts_as_json_and_as_text(run, tmp_path):
    write(
        tmp_path / "set.jsonl",
        line(0, text="How do I bake bread?", label="harmless"),
        line(1, text="How do I pick a lock that is not mine?"),
        line(1, text="Wie öffne ich ein fremdes Schloss?", language="de"),
    )
    code, out, err = run("prompts", "set.jsonl", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["schema"] == 1
    assert found["n"] == 3
    assert sorted((c["language"], c["label"], c["n"]) for c in found["cells"]) == [
        ("de", "harmful", 1), ("en", "harmful", 1), ("en", "harmless", 1),
    ]  # fmt: skip
    code, out, _ = run("prompts", "set.jsonl", "--json", "--languages", "de")
    assert json.loads(out)["n"] == 1
    code, out, _ = run("prompts", "set.jsonl")
    assert code == 0
    assert "de" in out
    assert "\x1b" not in out  # plain without a terminal


def test_text_is_printed_as_it_is(capsys):
    """Neither markup nor names of pictures in paths, titles and cells are interpreted."""
    note("/a:key:b [bold]x[/bold] [/y] " + "long " * 300)
    table("set [/x] :key:", ["name [/z]", "n"], [["[red]a[/red] :key:", "1"], ["b", ""]])
    done = capsys.readouterr()
    assert done.err == "/a:key:b [bold]x[/bold] [/y] " + "long " * 300 + "\n"
    assert "[red]a[/red] :key:" in done.out
    assert "name [/z]" in done.out
    assert "[/x]" in done.out


def test_columns_of_numbers_are_aligned_right(capsys):
    table("t", ["name", "n", "text"], [["a", "5", "long text"], ["b", "-10", ""]])
    rows = [x.rstrip() for x in capsys.readouterr().out.splitlines()[-2:]]
    assert rows == ["a       5  long text", "b     -10"]


# ---------------------------------------------------------------------------------------------
# the whole way on a tiny model


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A tiny random model on disk, and prompts in two source languages and a target."""
    from tiny import raw_model, tokenizer

    folder = tmp_path_factory.mktemp("work")
    raw_model("llama").save_pretrained(folder / "model")
    tokenizer().save_pretrained(folder / "model")
    lines = [
        line(f"{split}{label}{i}", language=language, label=label, split=split,
             text=f"{label[:6]} {i * 37} {split} {language} {'abcdefg'[i]}" * 2)
        for language in ("en", "de", "sw")
        for split in ("train", "val", "test")
        for label in ("harmful", "harmless")
        for i in range(3)
    ]  # fmt: skip
    write(folder / "set.jsonl", *lines)
    return folder


def common(workplace, out):
    return ["--model", workplace / "model", "--prompts", workplace / "set.jsonl", "--dtype",
            "float32", "--device", "cpu", "--out", out, "--json"]  # fmt: skip


def test_model_facts_as_json(run, workplace):
    code, out, _ = run(
        "models", workplace / "model", "--json", "--dtype", "float32", "--device", "cpu"
    )
    assert code == 0
    found = json.loads(out)
    assert (found["n_layers"], found["d_model"], found["dtype"]) == (4, 32, "float32")


def test_calibrate_evaluate_and_report(run, workplace, tmp_path):
    code, out, err = run(
        "calibrate", *common(workplace, "r"), "--sources", "en,de", "--shots", "1", "--curve",
        "0,1", "--draws", "2", "--action", "paper",
    )  # fmt: skip
    assert code == 0, err
    assert {row["language"] for row in json.loads(out)["thresholds"]} == {"sw"}
    assert (tmp_path / "r" / "gate" / "gate.json").exists()
    code, out, err = run(
        "evaluate", *common(workplace, "r"), "--max-new-tokens", "2", "--languages", "en,sw"
    )
    assert code == 0, err
    found = json.loads(out)
    assert {row["method"] for row in found["rows"]} == {"base", "gate"}
    assert {row["language"] for row in found["rows"]} == {"en", "sw"}
    assert (tmp_path / "r" / "report.html").exists()
    code, again, _ = run("report", "r", "--json")
    assert code == 0
    assert json.loads(again) == found
    code, text, _ = run("report", "r", "--markdown")
    assert code == 0
    assert "|" in text
    # Prompts that the gate was fitted on are refused, and so is another model's gate.
    text = mistake(run("evaluate", *common(workplace, "r"), "--split", "train"))
    assert "were used to fit this gate" in text
    wrong = [*common(workplace, "r"), "--chat-template", "plain"]
    assert "template: " in mistake(run("evaluate", *wrong))


def test_measure(run, workplace):
    code, out, err = run(
        "measure", *common(workplace, "m"), "--max-new-tokens", "1", "--per-cell", "1"
    )
    assert code == 0, err
    found = json.loads(out)
    assert {row["method"] for row in found["rows"]} == {"base"}
    assert sum(sum(c.values()) for row in found["rows"] for c in row["outcomes"].values()) == 6
    assert "Report: m/report.html" in err


def test_too_many_shots(run, workplace):
    text = mistake(run("calibrate", *common(workplace, "s"), "--sources", "en,de", "--shots", "9"))
    assert "sw train harmful: have 3, need 9" in text


def test_layers_that_the_model_lacks(run, workplace):
    arguments = [*common(workplace, "s"), "--sources", "en,de", "--shots", "1", "--layers", "2,7"]
    assert "blocks 0 to 3" in mistake(run("calibrate", *arguments))


def test_prompts_in_another_form_are_written_and_what_is_left_out_is_said(run, tmp_path):
    written = tmp_path / "forms.jsonl"
    code, out, err = run(
        "prompts", "starter", "--languages", "ru", "--form", "plain,code-switched",
        "--to", written, "--json",
    )  # fmt: skip
    assert code == 0, err
    records = [json.loads(line) for line in written.read_text(encoding="utf-8").splitlines()]
    # English versions are found although English was not asked for.
    assert len(records) == 2 * 280 == json.loads(out)["n"]
    assert {r["form"] for r in records} == {"plain", "code-switched"}
    assert {r["language"] for r in records} == {"ru"}
    _, _, err = run("prompts", "starter", "--form", "code-switched", "--languages", "en,ru")
    assert "code-switched: left out 112 harmful in en: is English" in err
    assert "Did you mean 'framed-story'?" in mistake(run("prompts", "--form", "framed-stori"))
    nothing = run("prompts", "starter", "--languages", "en", "--form", "code-switched")
    assert "no prompt can be brought into the form code-switched" in mistake(nothing)
