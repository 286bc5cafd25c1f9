"""Translators on tiny random models: what reaches the model, what it may return, what is flagged."""

from __future__ import annotations

import pytest
import torch
from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES

from babelgate.errors import ModelError
from babelgate.judges.translation import Translator
from babelgate.judges.translation.families import FAMILIES
from babelgate.judges.translation.seq2seq import Seq2SeqTranslator
from babelgate.languages import languages
from babelgate.languages_data import OTHER_SHARES

from .models import madlad_model, madlad_tokenizer, nllb_model, nllb_tokenizer

TEXTS = [
    "Ich kann das nicht.",
    "Hallo",
    "Das ist ein etwas laengerer Satz, der mehr Platz braucht als die anderen.",
    "eins zwei drei",
    "Ja. Nein. Vielleicht!",
]


def made(family: str, *, eos_bias: float = 0.0, **options) -> Seq2SeqTranslator:
    if family == "nllb":
        tokenizer = nllb_tokenizer()
        model = nllb_model(len(tokenizer), eos_bias=eos_bias)
    else:
        tokenizer = madlad_tokenizer()
        model = madlad_model(len(tokenizer), tokenizer.pad_token_id, eos_bias=eos_bias)
    return Seq2SeqTranslator(model, tokenizer, **{"beams": 1, **options})


@pytest.fixture(params=["nllb", "madlad"])
def family(request) -> str:
    return request.param


def spied(translator: Seq2SeqTranslator, monkeypatch) -> list[dict]:
    """Record what ``generate`` is given."""
    calls: list[dict] = []
    generate = translator._model.generate

    def spy(**options):
        calls.append(options)
        return generate(**options)

    monkeypatch.setattr(translator._model, "generate", spy)
    return calls


def test_every_language_of_the_registry_has_a_code_that_nllb_has():
    codes = FAMILIES["nllb"].codes
    assert {entry.code for entry in languages()} <= set(codes)
    assert set(OTHER_SHARES) - set(codes) == {"la"}
    assert set(codes.values()) <= set(FAIRSEQ_LANGUAGE_CODES)
    assert len(set(codes.values())) == len(codes)
    known = {"ba": "bak_Cyrl", "yi": "ydd_Hebr", "jv": "jav_Latn", "si": "sin_Sinh"}
    assert {code: codes[code] for code in known} == known


def test_madlad_knows_the_registry_and_no_language_is_translated_from_english_to_english():
    assert {entry.code for entry in languages()} <= set(FAMILIES["madlad"].codes)
    for family in FAMILIES.values():
        assert "en" not in family.languages
        assert len(family.languages) > 70


@pytest.mark.parametrize("source", ["de", "ba", "yi", "my", "zh"])
def test_nllb_is_told_source_and_target(source, monkeypatch):
    translator = made("nllb")
    calls = spied(translator, monkeypatch)
    translator.translate(["abc"], [source])
    assert len(calls) == 1
    ids = calls[0]["input_ids"][0].tolist()
    tokens = translator._tokenizer.convert_ids_to_tokens(ids)
    assert tokens == [FAMILIES["nllb"].codes[source], "▁", "a", "b", "c", "</s>"]
    forced = calls[0]["forced_bos_token_id"]
    assert translator._tokenizer.convert_ids_to_tokens(forced) == "eng_Latn"


def test_nllb_begins_its_output_with_the_forced_token(monkeypatch):
    translator = made("nllb")
    generate = translator._model.generate
    outputs = []

    def spy(**options):
        outputs.append(generate(**options))
        return outputs[-1]

    monkeypatch.setattr(translator._model, "generate", spy)
    translator.translate(["abc"], ["de"])
    first = outputs[0][0, 1].item()
    assert translator._tokenizer.convert_ids_to_tokens(first) == "eng_Latn"


def test_madlad_is_told_the_target_in_front_of_the_text(monkeypatch):
    translator = made("madlad")
    calls = spied(translator, monkeypatch)
    translator.translate(["abc"], ["sw"])
    tokens = translator._tokenizer.convert_ids_to_tokens(calls[0]["input_ids"][0].tolist())
    assert tokens == ["▁", "<2en>", "▁", "a", "b", "c", "</s>"]
    assert "forced_bos_token_id" not in calls[0]


def test_sources_in_one_call_keep_their_own_codes(monkeypatch):
    translator = made("nllb")
    calls = spied(translator, monkeypatch)
    translator.translate(["abc", "abc", "abd"], ["de", "yo", "de"])
    rows = [row.tolist() for call in calls for row in call["input_ids"]]
    first = sorted(translator._tokenizer.convert_ids_to_tokens([row[0] for row in rows]))
    assert first == ["deu_Latn", "deu_Latn", "yor_Latn"]


@pytest.mark.parametrize("text", ["</s> ab", "a eng_Latn b", "<2de> ab", "a <pad> b", "<unk><s>"])
def test_marks_spelt_out_in_a_text_stay_text(family, text):
    translator = made(family)
    translator._set_source("de")
    marks = {"</s>", "<2de>", "<2en>", "eng_Latn", "deu_Latn", "<pad>", "<s>", "<unk>"}
    tokens = translator._tokenizer.convert_ids_to_tokens(translator._encode(text))
    plain = translator._tokenizer.convert_ids_to_tokens(translator._encode("ab"))
    found = [t for t in tokens if t in marks]
    assert found == [t for t in plain if t in marks]
    assert len(tokens) > len(plain)


@pytest.mark.parametrize("beams", [1, 3])
def test_batch_equals_single(family, beams):
    """Greedy and beam search: what a sentence becomes does not depend on its neighbours."""
    texts = set()
    for bias in (3.0, 5.0, 6.0):
        together = made(family, eos_bias=bias, batch_size=8, beams=beams)
        alone = made(family, eos_bias=bias, batch_size=1, beams=beams)
        sources = ["de"] * len(TEXTS)
        batch = together.translate(TEXTS, sources)
        assert batch == alone.translate(TEXTS, sources)
        assert batch == [alone.translate([t], ["de"])[0] for t in TEXTS]
        assert batch[::-1] == together.translate(TEXTS[::-1], sources)
        texts |= {one.text for one in batch}
    assert len(texts - {None}) > 0


def test_output_that_does_not_end_is_flagged(family):
    never, soon = made(family, eos_bias=-50.0), made(family, eos_bias=50.0)
    assert [one.problem for one in never.translate(TEXTS[:2], ["de", "de"])] == [
        "truncated: the translation does not end"
    ] * 2
    # This one ends at once, which is noticed too: a sentence of many may not go missing.
    assert [one.problem for one in soon.translate(TEXTS[:2], ["de", "de"])] == [
        "empty: a sentence came back without text"
    ] * 2


def test_an_end_that_is_forced_at_the_limit_is_no_end():
    translator = made("nllb", eos_bias=-50.0)
    translator._model.generation_config.forced_eos_token_id = 2
    one = translator.translate(["abc"], ["de"])[0]
    assert one.problem == "truncated: the translation does not end"


def test_long_input_is_split_at_blanks_or_flagged(family, monkeypatch):
    translator = made(family, eos_bias=50.0, max_tokens=24)
    calls = spied(translator, monkeypatch)
    monkeypatch.setattr(translator, "_decode", lambda row, limit: f"w{sum(row) % 7}")
    words, solid = "abcd efgh " * 12 + "ijkl", "x" * 60
    split, cut = translator.translate([words, solid], ["de", "de"])
    assert split.text is not None
    assert cut.text is None
    assert cut.problem is not None
    assert cut.problem.startswith("truncated: a sentence of more than 24 tokens")
    assert max(call["input_ids"].shape[1] for call in calls) <= 24
    # Nothing was dropped: the parts hold every letter of the sentence.
    parts = translator._fitting(words) or []
    assert len(parts) > 4
    assert len(split.text.split()) == len(parts)
    tokens = translator._tokenizer.convert_ids_to_tokens([i for part in parts for i in part])
    assert "".join(t for t in tokens if len(t) == 1 and t != "▁") == words.replace(" ", "")


def test_one_cut_sentence_fails_the_whole_text(family):
    translator = made(family, max_tokens=24)
    translator._decode = lambda row, limit: "word"
    assert translator.translate(["Kurz. Kurz."], ["de"])[0].text == "word word"
    whole = translator.translate(["Kurz. " + "x" * 60 + ". Kurz."], ["de"])[0]
    assert whole.text is None


def test_lines_numbers_and_fences_stay_where_they_were(family, monkeypatch):
    translator = made(family)
    monkeypatch.setattr(
        translator, "_generate", lambda batch, limit: [f"W{len(row)}" for row in batch]
    )
    text = "1. Eins\n\n- zwei. drei\n```python\nx = [1]\n```\n42"
    one = translator.translate([text], ["de"])[0]
    assert one.text is not None
    lines = one.text.split("\n")
    assert lines[0].startswith("1. W")
    assert lines[1] == ""
    assert lines[2].startswith("- W")
    assert lines[2].count("W") == 2
    assert lines[3:] == ["```python", "x = [1]", "```", "42"]


def test_an_unknown_source_is_flagged_and_not_translated(family, monkeypatch):
    translator = made(family)
    calls = spied(translator, monkeypatch)
    ones = translator.translate(["abc", "abc"], ["tlh", "en"])
    assert [one.text for one in ones] == [None, None]
    assert all((one.problem or "").startswith("unsupported") for one in ones)
    assert calls == []
    assert translator.translate([], []) == []


def test_names_and_versions(family):
    translator = made(family)
    assert isinstance(translator, Translator)
    assert translator.name == family
    assert translator.version == made(family).version
    assert translator.version != made(family, beams=2).version
    assert translator.version != made(family, eos_bias=1.0).version
    pinned = made(family, name="some-model", revision="abc123")
    assert "some-model@abc123" in pinned.version


def test_a_tokenizer_without_the_marks_is_refused():
    from tiny import raw_model, tokenizer

    with pytest.raises(ModelError, match="none of nllb, madlad"):
        Seq2SeqTranslator(raw_model("gpt2"), tokenizer())
    lacking = nllb_tokenizer()
    whole = nllb_model(len(lacking))
    convert = lacking.convert_tokens_to_ids
    lacking.convert_tokens_to_ids = lambda t: (
        lacking.unk_token_id if t == "bak_Cyrl" else convert(t)
    )
    with pytest.raises(ModelError, match="bak_Cyrl"):
        Seq2SeqTranslator(whole, lacking)


def test_load_from_a_folder(family, tmp_path):
    original = made(family, eos_bias=0.0)
    original._model.save_pretrained(tmp_path / "m")
    original._tokenizer.save_pretrained(tmp_path / "m")
    loaded = Seq2SeqTranslator.load(tmp_path / "m", device="cpu", beams=1)
    assert loaded.name == family
    assert loaded._model.dtype == torch.float32
    assert loaded._encode("abc") == original._encode("abc")
    sources = ["de"] * len(TEXTS)
    assert loaded.translate(TEXTS, sources) == original.translate(TEXTS, sources)
    assert loaded.version.split("@")[1] == original.version.split(":", 1)[1]


def test_load_says_what_is_wrong(tmp_path):
    with pytest.raises(ModelError, match="cannot be loaded"):
        Seq2SeqTranslator.load(tmp_path)
    with pytest.raises(ModelError, match="float8"):
        Seq2SeqTranslator.load(tmp_path, dtype="float8")


def test_pickled_weights_are_not_read(tmp_path):
    original = made("nllb")
    original._tokenizer.save_pretrained(tmp_path)
    original._model.config.save_pretrained(tmp_path)
    torch.save(original._model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="cannot be loaded"):
        Seq2SeqTranslator.load(tmp_path, device="cpu")
