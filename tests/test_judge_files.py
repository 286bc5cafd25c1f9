"""`babelgate judge` and `babelgate power`, as a user runs them."""

import json
from pathlib import Path

import pytest

LABELS = Path(__file__).parents[2] / "shared" / "data" / "refusal_labels"
SORRY = {"language": "en", "id": "1", "response": "I'm sorry, but I can't help with that."}
SURE = {"language": "en", "id": "2", "response": "Here is a recipe: take two eggs and some flour."}


def write(name, *rows):
    Path(name).write_text("".join(json.dumps(r) + "\n" for r in rows))
    return name


def test_a_file_is_judged_with_the_default_judge(run):
    code, out, err = run("judge", write("r.jsonl", SORRY, SURE))
    assert code == 0, err
    assert "judge embedded" in out
    assert "50.0" in out
    assert "All" not in out  # one language: once is enough
    assert not Path("verdicts.jsonl").exists()


def test_json_has_what_programs_ask_for(run):
    rows = [SORRY | {"y": 1}, SURE | {"y": 0}, SURE | {"id": "3", "language": "qq", "y": 0}]
    code, out, _ = run("judge", write("r.jsonl", *rows), "--against", "y", "--json")
    told = json.loads(out)
    assert code == 0
    assert (told["n"], told["n_unparsed"], told["kappa"], told["auc"]) == (3, 1, 1.0, 1.0)
    assert 0 <= told["ece"] <= 1
    assert set(told["by_language"]) == {"en", "qq"}
    assert {"n", "n_unparsed", "kappa", "auc", "ece"} <= set(told["by_language"]["qq"])
    assert told["by_language"]["qq"]["n_unparsed"] == 1
    assert told["judge"]["name"] == "embedded"


def test_without_labels_agreement_is_null(run):
    code, out, _ = run("judge", write("r.jsonl", SORRY), "--json")
    told = json.loads(out)
    assert code == 0
    assert (told["kappa"], told["auc"], told["ece"]) == (None, None, None)


def test_a_panel_prints_the_agreement_of_its_members_and_keeps_verdicts(run):
    code, out, err = run("judge", write("r.jsonl", SORRY, SURE), "--judge", "embedded+lexicon")
    assert code == 0, err
    assert "Krippendorff" in out
    assert "embedded, lexicon" in out
    assert "verdicts.jsonl" in err
    assert len(Path("verdicts.jsonl").read_text().splitlines()) == 2


def test_unparsed_replies_are_listed_without_their_text_unless_asked(run):
    odd = {"language": "qq", "id": "3", "response": "Blorp zindle wamp."}
    file = write("r.jsonl", SORRY, odd)
    code, out, _ = run("judge", file, "--unparsed")
    assert code == 0
    assert "r.jsonl, line 2" in out
    assert "low confidence" in out
    assert "Blorp" not in out
    assert "Blorp" in run("judge", file, "--unparsed", "--show-replies")[1]


def test_verdicts_are_resumed_from_out(run):
    file = write("r.jsonl", SORRY, SURE)
    assert run("judge", file, "--out", "v.jsonl")[0] == 0
    kept = Path("v.jsonl").read_bytes()
    assert run("judge", file, "--out", "v.jsonl")[0] == 0
    assert Path("v.jsonl").read_bytes() == kept


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.jsonl"], "missing.jsonl"),
        (["r.jsonl", "--against", "nothing"], "no line has the field 'nothing'"),
        (["r.jsonl", "--judge", "embeded"], "Did you mean 'embedded'"),
        (["r.jsonl", "--judge", "guard:nobody"], "nobody"),
        (["r.jsonl", "--judge", "api:some-model"], "--api-url"),
        (["r.jsonl", "--judge", "embedded", "--adjudicator", "lexicon"], "adjudicator"),
        (["r.jsonl", "--judge", "embedded+"], "missing beside '+'"),
        (["r.jsonl", "--judge", "embedded+embedded"], "more than once"),
        (["r.jsonl", "--prompts", "nowhere.jsonl"], "nowhere.jsonl"),
        (["r.jsonl", "--judge", "api:m", "--api-url", "ftp://x"], "url should be"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_code_2(run, arguments, said):
    write("r.jsonl", SORRY)
    code, out, err = run("judge", *arguments)
    assert code == 2
    assert said in err
    assert "Traceback" not in err
    assert out == ""


def test_no_files_is_a_usage_error(run):
    code, _, err = run("judge")
    assert code == 2
    assert "FILE" in err


@pytest.mark.skipif(not LABELS.exists(), reason="needs the labelled replies")
def test_published_labels_say_that_the_judge_has_seen_them(run):
    file = LABELS / "Qwen2.5-7B-Instruct.es.jsonl"
    code, out, _ = run("judge", file, "--against", "refusal", "--json")
    told = json.loads(out)
    assert code == 0
    assert told["n"] == 203
    assert told["kappa"] > 0.8
    assert any("203 of 203 replies are word for word" in note for note in told["notes"])


# ---------------------------------------------------------------------------------------------
# power


def test_power_prints_a_table_that_shrinks_with_the_difference(run):
    code, out, _ = run("power", "--base", "0.4", "--difference", "0.05,0.1", "--json")
    rows = json.loads(out)
    assert code == 0
    assert [row["difference"] for row in rows] == [0.05, 0.1]
    assert rows[0]["prompts"] > 3 * rows[1]["prompts"]
    assert "+10.0" in run("power", "--base", "0.4")[1]


def test_power_inverts_itself(run):
    needed = json.loads(run("power", "--base", "0.4", "--difference", "0.1", "--json")[1])
    n = needed[0]["prompts"]
    shown = json.loads(run("power", "--base", "0.4", "--prompts", n, "--json")[1])
    assert shown["difference"] == pytest.approx(0.1, abs=0.002)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--base", "1.4"], "base 1.4"),
        (["--base", "0.4", "--difference", "a lot"], "expected numbers"),
        (["--base", "0.9", "--difference", "0.5"], "must end in 0..1"),
        (["--base", "0.4", "--icc", "2", "--alpha", "0"], "icc 2.0"),
    ],
)
def test_impossible_designs_are_one_sentence(run, arguments, said):
    code, _, err = run("power", *arguments)
    assert code == 2
    assert said in err
