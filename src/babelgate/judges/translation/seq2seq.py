"""Translation by NLLB-200 or MADLAD-400 on this machine."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ...errors import ModelError
from .base import Translation
from .families import FAMILIES, Family
from .pieces import Piece, halves, join, pieces

_FAILURES = (OSError, ValueError, KeyError, RuntimeError, ImportError, TypeError)
_VERSION = "1"
# Anything that looks like MADLAD's marks, whether or not the tokenizer holds it as a special token.
_MARKS = re.compile(r"<2(?=\w)")
# In every sentencepiece vocabulary, and not always among the tokens that a tokenizer calls special.
_CONTROLS = ("<s>", "</s>", "<unk>", "<pad>")


class Seq2SeqTranslator:
    """Translates sentence by sentence with an encoder-decoder model, by beam search.

    ``beams``: how many are kept (1 is greedy). ``batch_size``: sentences at once. ``max_tokens``:
    longest input of the model, in tokens; a longer sentence is split at a blank, and a text with
    one that has none, or whose translation does not end, fails as ``truncated``.

    Raises:
        ModelError: if the model is of neither family, or its tokenizer drops the language marks.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str = "",
        revision: str = "",
        beams: int = 4,
        batch_size: int = 16,
        max_tokens: int = 256,
    ) -> None:
        self.family = _family(model, tokenizer)
        self._model = model.eval()
        self._tokenizer = tokenizer
        self._identity = f"{name}@{revision or _weights(model)}" if name else _weights(model)
        self._beams, self._batch_size, self._max_tokens = beams, batch_size, max_tokens
        self._mark = int(tokenizer.convert_tokens_to_ids(self.family.mark))
        special = {*tokenizer.get_added_vocab(), *tokenizer.all_special_tokens, *_CONTROLS}
        longest_first = sorted((t for t in special if len(t) > 1), key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._check_marks()

    @classmethod
    def load(
        cls,
        spec: str | Path,
        *,
        revision: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        **options: Any,
    ) -> Seq2SeqTranslator:
        """Load a model from the hub (``facebook/nllb-200-distilled-600M``) or a folder.

        ``dtype`` ``auto`` is bfloat16 on an accelerator and float32 elsewhere: float16 overflows in
        T5 models. ``options`` are those of the class.

        Raises:
            ModelError: if the model cannot be found, read or used. Only safetensors are read, and
                no code from the model's repository is run.
        """
        import transformers

        found = {"revision": revision or "main", "trust_remote_code": False}
        target = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        if dtype == "auto":
            kind = torch.float32 if target == "cpu" else torch.bfloat16
        elif dtype in ("bfloat16", "float16", "float32"):
            kind = getattr(torch, dtype)
        else:
            raise ModelError(f"dtype {dtype!r} is not one of auto, bfloat16, float16, float32")
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(str(spec), **found)
            model, info = transformers.AutoModelForSeq2SeqLM.from_pretrained(
                str(spec), dtype=kind, use_safetensors=True, output_loading_info=True, **found
            )
            model.to(target)
        except _FAILURES as error:
            text = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ModelError(f"translator {str(spec)!r} cannot be loaded: {text}") from error
        if lacking := sorted(info["missing_keys"]):  # transformers would go on with random ones
            raise ModelError(
                f"translator {str(spec)!r} lacks {len(lacking)} of its tensors, such as "
                f"{lacking[0]}; its files are incomplete or belong to another architecture"
            )
        commit = str(getattr(model.config, "_commit_hash", None) or "")
        return cls(model, tokenizer, name=Path(spec).name, revision=commit, **options)

    @property
    def name(self) -> str:
        """``nllb`` or ``madlad``."""
        return self.family.name

    @property
    def version(self) -> str:
        """The model, its commit or a fingerprint of its weights, its type, and the search."""
        kind = str(self._model.dtype).removeprefix("torch.")
        return f"{_VERSION}:{self._identity}:{kind}:{self._beams}:{self._max_tokens}"

    @property
    def languages(self) -> frozenset[str]:
        """Codes of the languages that the family was trained to translate."""
        return self.family.languages

    def translate(self, texts: Sequence[str], sources: Sequence[str]) -> list[Translation]:
        """Return one translation per text, in order."""
        cuts = [
            pieces(text) if source in self.languages else []
            for text, source in zip(texts, sources, strict=True)
        ]
        jobs = [
            (source, piece.text)
            for cut, source in zip(cuts, sources, strict=True)
            for piece in cut
            if piece.words
        ]
        made = self._sentences(list(dict.fromkeys(jobs)))
        return [self._whole(cut, source, made) for cut, source in zip(cuts, sources, strict=True)]

    def _whole(
        self, cut: list[Piece], source: str, made: dict[tuple[str, str], Translation]
    ) -> Translation:
        if source not in self.languages:
            return Translation(None, f"unsupported: {self.name} does not know {source!r}")
        done = [made[source, piece.text] for piece in cut if piece.words]
        for one in done:
            if one.text is None:
                return one
        return Translation(join(cut, [one.text or "" for one in done]))

    def _sentences(self, jobs: list[tuple[str, str]]) -> dict[tuple[str, str], Translation]:
        """Translate (language, sentence) pairs, each once."""
        parts: dict[tuple[str, str], list[list[int]] | None] = {}
        for source, text in jobs:
            self._set_source(source)
            parts[source, text] = self._fitting(text)
        groups: defaultdict[int, list[tuple[int, ...]]] = defaultdict(list)
        for ids in {tuple(p) for some in parts.values() if some for p in some}:
            # Batches share a limit that depends on the sentence alone, so that what a sentence
            # becomes does not depend on its neighbours.
            groups[_limit(len(ids))].append(ids)
        made: dict[tuple[int, ...], str | None] = {}
        for limit, group in sorted(groups.items()):
            group.sort(key=lambda ids: (len(ids), ids))
            for start in range(0, len(group), self._batch_size):
                batch = group[start : start + self._batch_size]
                made.update(zip(batch, self._generate(batch, limit), strict=True))
        return {job: self._joined(some, made) for job, some in parts.items()}

    def _joined(
        self, some: list[list[int]] | None, made: dict[tuple[int, ...], str | None]
    ) -> Translation:
        if some is None:
            return Translation(
                None, f"truncated: a sentence of more than {self._max_tokens} tokens without blanks"
            )
        texts = [made[tuple(ids)] for ids in some]
        if any(text is None for text in texts):
            return Translation(None, "truncated: the translation does not end")
        # In a text of many sentences, one that is missing would not be noticed by the length.
        if not all(texts):
            return Translation(None, "empty: a sentence came back without text")
        return Translation(" ".join(text or "" for text in texts))

    def _fitting(self, text: str) -> list[list[int]] | None:
        """Return the tokens of a sentence, in as many parts as needed; ``None`` if it cannot be."""
        ids = self._encode(text)
        if len(ids) <= self._max_tokens:
            return [ids]
        if (both := halves(text)) is None:
            return None
        first, second = map(self._fitting, both)
        return None if first is None or second is None else first + second

    def _set_source(self, source: str) -> None:
        if not self.family.prefix:
            self._tokenizer.src_lang = self.family.codes[source]

    def _encode(self, text: str) -> list[int]:
        """Return the tokens of a sentence with the marks of the family.

        Special tokens spelt out in the text (``</s>``, ``eng_Latn``) are broken up: they would end
        the sentence or change the language.
        """
        plain = self._special.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)
        if self.family.prefix:
            plain = f"{self.family.mark} {_MARKS.sub('< 2', plain)}"
        return list(self._tokenizer(plain, truncation=False)["input_ids"])

    @torch.inference_mode()
    def _generate(self, batch: list[tuple[int, ...]], limit: int) -> list[str | None]:
        """Return the English of encoded sentences; ``None`` where it did not end."""
        config, device = self._model.config, self._model.device
        pad = config.pad_token_id if config.pad_token_id is not None else 0
        width = max(map(len, batch))
        ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in batch])
        mask = torch.arange(width) < torch.tensor([len(row) for row in batch])[:, None]
        options = {} if self.family.prefix else {"forced_bos_token_id": self._mark}
        out = self._model.generate(
            input_ids=ids.to(device),
            attention_mask=mask.long().to(device),
            max_new_tokens=limit,
            num_beams=self._beams,
            do_sample=False,
            **options,
        )
        return [self._decode(row[1:], limit) for row in out.tolist()]

    def _decode(self, made: list[int], limit: int) -> str | None:
        end = self._model.generation_config.eos_token_id
        ends = {end} if isinstance(end, int) else set(end or ())
        length = next((i for i, token in enumerate(made) if token in ends), None)
        # BART-like configurations force an end at the limit, which is none.
        if length is None or length + 1 >= limit:
            return None
        return str(self._tokenizer.decode(made[:length], skip_special_tokens=True)).strip()

    def _check_marks(self) -> None:
        """Make sure that what says the languages is one token and reaches the model."""
        for source in sorted(self.languages):
            self._set_source(source)
            code = self.family.mark if self.family.prefix else self.family.codes[source]
            ids = self._encode("a")
            if self._tokenizer.convert_tokens_to_ids(code) not in ids or self._unknown(code):
                raise ModelError(
                    f"the tokenizer of translator {self._identity!r} does not know the mark "
                    f"{code!r} of {self.name}; use the tokenizer that belongs to the model"
                )

    def _unknown(self, token: str) -> bool:
        found = self._tokenizer.convert_tokens_to_ids(token)
        return found is None or found == self._tokenizer.unk_token_id


def _limit(length: int) -> int:
    """Return how many tokens may be made from ``length`` of them: ample, in few steps."""
    return 2 * max(16, 1 << (length - 1).bit_length()) + 16


def _family(model: Any, tokenizer: Any) -> Family:
    for family in FAMILIES.values():
        found = tokenizer.convert_tokens_to_ids(family.mark)
        if found is not None and found != tokenizer.unk_token_id:
            return family
    raise ModelError(
        f"translator of type {model.config.model_type!r} is none of {', '.join(FAMILIES)}: its "
        f"tokenizer has none of {', '.join(f.mark for f in FAMILIES.values())}"
    )


def _weights(model: Any) -> str:
    """Return 12 hex digits that change with the weights: all shapes, and some values of each."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        flat = value.detach().flatten()
        some = flat[:: max(1, flat.numel() // 64)][:64].float().cpu()
        digest.update(f"{name}{tuple(value.shape)}".encode() + some.numpy().tobytes())
    return digest.hexdigest()[:12]
