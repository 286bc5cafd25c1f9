"""The registry, and identification of all its languages on sentences of our own."""

import json
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from babelgate.errors import LanguageError
from babelgate.language_id import SURE, _model, dominant_script
from babelgate.languages import (
    TIERS,
    identify,
    identify_many,
    is_known,
    language,
    languages,
    normalise_code,
    parse_languages,
    tier,
)

SAMPLES = json.loads(
    (Path(__file__).parent / "data" / "language_samples.json").read_text(encoding="utf-8")
)
CODES = [entry.code for entry in languages()]


def test_registry_is_whole():
    assert len(CODES) == 30 == len(set(CODES))
    assert set(CODES) == set(SAMPLES["registry"])
    assert sum((languages(t) for t in TIERS), ()) == languages()
    aliases = [alias for entry in languages() for alias in entry.aliases]
    assert len(aliases) == len(set(aliases))
    assert not set(aliases) & set(CODES)


def test_tiers_follow_shares_save_for_two_border_cases():
    bounds = {"high": (1, 100), "mid": (0.1, 1), "low": (0, 0.1)}
    outside = [
        entry.code
        for entry in languages()
        if not bounds[entry.tier][0] <= entry.share <= bounds[entry.tier][1]
    ]
    assert outside == ["vi", "bn"]


@pytest.mark.parametrize(
    ("given_code", "expected"),
    [("jw", "jv"), ("IW", "he"), ("zh-CN", "zh"), ("zh_tw", "zh"), ("en-US", "en"), ("DEU", "de"),
     (" fr ", "fr"), ("pt-BR", "pt-br"), ("gsw", "gsw")],
)  # fmt: skip
def test_codes_are_normalised(given_code, expected):
    assert normalise_code(given_code) == expected
    assert normalise_code(expected) == expected


@pytest.mark.parametrize(
    ("text", "hint"),
    [("germna", "'de'"), ("english", "'en'"), ("dee", "'de'"), ("xx", ""), ("", ""), ("e n", "")],
)
def test_unknown_language_is_named_with_a_suggestion(text, hint):
    with pytest.raises(LanguageError) as caught:
        language(text)
    assert repr(text) in str(caught.value)
    assert (f"Did you mean {hint}" in str(caught.value)) or not hint


def test_tier_of_listed_and_unlisted_languages():
    assert [tier(code) for code in ("en", "ar", "sw", "jw", "pt")] == [
        "high", "mid", "low", "low", "unlisted",
    ]  # fmt: skip
    with pytest.raises(LanguageError):
        tier("not a code")
    with pytest.raises(LanguageError, match="mid"):
        languages("middle")


def test_parse_languages():
    assert parse_languages("en, de,jw  EN") == ("en", "de", "jv")
    assert parse_languages("pt,sw") == ("pt", "sw")
    assert is_known("pt-br")
    assert not is_known("??")
    for wrong in ("", " , ", "en,qq"):
        with pytest.raises(LanguageError):
            parse_languages(wrong)


@pytest.mark.parametrize("code", CODES)
def test_every_registry_language_is_identified(code):
    guesses = identify_many(SAMPLES["registry"][code])
    assert [guess.candidates[0][0] for guess in guesses] == [code] * 6
    assert all(guess.code in (code, None) for guess in guesses)
    assert sum(guess.code == code for guess in guesses) >= 5


def opening(text: str, code: str) -> str:
    n = {"zh": 6, "ja": 6, "th": 12, "km": 12, "my": 12}.get(code)
    return text[:n] if n else " ".join(text.split()[:3])


def test_openings_are_identified_or_unsure():
    pairs = [(c, opening(t, c)) for c, texts in SAMPLES["registry"].items() for t in texts]
    guesses = identify_many(text for _, text in pairs)
    sure = [(code, guess.code) for (code, _), guess in zip(pairs, guesses) if guess.code]
    assert len(sure) >= 0.95 * len(pairs)
    assert sum(code == got for code, got in sure) >= 0.98 * len(sure)


def test_other_languages_are_not_taken_for_registry_ones():
    wrong = [
        (code, guess.code)
        for code, texts in SAMPLES["others"].items()
        for guess in identify_many(texts)
        if guess.code not in (code, None)
    ]
    assert wrong == []


@pytest.mark.parametrize("text", SAMPLES["unsure"])
def test_texts_without_language_are_unsure(text):
    assert identify(text).code is None


@pytest.mark.parametrize("mixed", SAMPLES["mixed"], ids=lambda m: "-".join(m["languages"]))
def test_mixed_texts_are_unsure_and_name_a_part(mixed):
    guess = identify(mixed["text"])
    assert guess.code is None
    assert guess.candidates[0][0] in mixed["languages"]


def test_terms_left_in_latin_do_not_hide_the_language():
    for text, code in [
        ("解释 Python 中函数“count_words”的作用。", "zh"),
        ("Pythonの関数を説明してください。", "ja"),
        ("ช่วยอธิบาย machine learning ให้ฉันหน่อยว่าคืออะไร [สั้น ๆ]", "th"),
        ("Что такое API и зачем он нужен?", "ru"),
        ("Was macht die Funktion foo(x) in Python genau?", "de"),
    ]:
        assert identify(text).code == code, text


def test_entities_and_noise_do_not_change_the_guess():
    plain = identify("Wo kann ich frisches Brot kaufen?")
    noisy = identify(
        "Wo kann ich &quot;frisches&quot; Brot kaufen? 🙂 https://example.org/en/bread 42"
    )
    assert plain.code == noisy.code == "de"


def test_script_shares():
    assert dominant_script("") == ("", 0.0, 0.0)
    assert dominant_script("東京タワーへ行く")[0] == "Kana"
    assert dominant_script("去东京")[0] == "Han"
    script, share, _ = dominant_script("привет abcdef")
    assert script == "Cyrillic"
    assert share == pytest.approx(6 / 9)  # six Latin letters count half


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_identification_never_fails_and_keeps_its_promises(text):
    guess = identify(text)
    assert 0 <= guess.confidence <= 1
    if guess.code is not None:
        assert guess.confidence >= SURE
        assert guess.candidates[0][0] == guess.code
    values = [p for _, p in guess.candidates]
    assert values == sorted(values, reverse=True)
    assert sum(values) <= 1.001
    assert guess == identify(text)


def test_threads_share_one_model():
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(_model())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len({id(model) for model in found}) == 1


def test_model_file_is_read_without_pickle():
    import inspect

    from py3langid import modelio

    assert "allow_pickle=False" in inspect.getsource(modelio.load_model)


DATA = Path(__file__).parents[1] / "../shared/data"


@pytest.mark.skipif(not (DATA / "polyrefuse").is_dir(), reason="needs the shared data")
def test_identification_on_prompts():
    from babelgate.prompts import load_prompts, take

    prompts = take(load_prompts(DATA / "polyrefuse", splits="val"), 15)
    guesses = identify_many(p.text for p in prompts)
    sure = [(p, g) for p, g in zip(prompts, guesses) if g.code is not None]
    assert len(prompts) == 15 * 2 * 15
    assert len(sure) >= 0.98 * len(prompts)
    assert sum(g.code == p.language for p, g in sure) >= 0.995 * len(sure)
