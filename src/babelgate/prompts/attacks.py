"""The same requests in other forms: mixed with English, in Latin letters, inside a story or task.

For measuring whether a gate still reads harm when the form changes. Every form treats harmful and
harmless prompts alike and keeps what they are: language, label, split, group, pair and category.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Literal, cast, get_args

from ..errors import PromptError, UserError, did_you_mean
from ..language_id import dominant_script
from ..types import Label, Prompt, PromptSet
from .duplicates import normalise
from .transliterate import transliterate, why_not_transliterated, without_diacritics

Form = Literal[
    "plain",
    "code-switched",
    "transliterated",
    "without-diacritics",
    "framed-story",
    "framed-homework",
]
FORMS: tuple[Form, ...] = get_args(Form)

# What ends a clause, in the scripts at hand.
_CLAUSE_ENDS = frozenset(",;:.!?،؛؟۔、，；：。！？।—\n")
_UNSPACED = frozenset({"Han", "Kana", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan"})
# Written before the consonant that they belong to.
_LEADING_VOWELS = frozenset("เแโใไເແໂໃໄ")
_FEWEST = 4


@dataclass(frozen=True, slots=True)
class Skipped:
    """How many prompts of one language and label a form left out, and why."""

    form: Form
    language: str
    label: Label
    reason: str
    n: int


@dataclass(frozen=True)
class Reformed:
    """Prompts in another form, and what was left out."""

    prompts: PromptSet
    skipped: tuple[Skipped, ...]

    @property
    def one_sided(self) -> tuple[tuple[str, str], ...]:
        """(form, language) where one class was left out whole: no selectivity can be had there."""
        sides = Counter((str(p.extra["form"]), p.language, str(p.label)) for p in self.prompts)
        lost = dict.fromkeys((str(s.form), s.language, str(s.label)) for s in self.skipped)
        kept = {key[:2] for key in sides}
        return tuple(
            (form, code)
            for form, code, label in lost
            if (form, code) in kept and not sides[form, code, label]
        )


def change_form(
    prompts: PromptSet, form: str, *, english: Iterable[Prompt] | None = None
) -> Reformed:
    """Return the prompts in a form: id ``ID~FORM``, ``form`` and ``form_of`` in ``extra``.

    ``plain`` keeps ids and texts. ``code-switched`` takes English versions (same group, label) from
    ``english``, by default from the prompts themselves. A prompt whose twin had to be left out is
    left out too. The source is ``SOURCE (FORM)``.

    Raises:
        UserError: for a form that does not exist, or transliteration without its library.
    """
    if form not in FORMS:
        hint = did_you_mean(form, [*FORMS])
        raise UserError(f"form {form!r} is not one of {', '.join(FORMS)}.{hint}")
    form = cast(Form, form)
    change = _changes(prompts if english is None else english)[form]
    made: dict[str, Prompt] = {}
    reasons: dict[str, str] = {}
    for prompt in prompts:
        try:
            made[prompt.key] = _as(prompt, form, change(prompt))
        except _LeftOutError as left_out:
            reasons[prompt.key] = str(left_out)
    lone = {(p.language, p.pair_id) for p in prompts if p.pair_id is not None and p.key in reasons}
    for prompt in prompts:
        if (prompt.language, prompt.pair_id) in lone and made.pop(prompt.key, None):
            reasons[prompt.key] = "its twin was left out"
    counts: Counter[tuple[str, Label, str]] = Counter(
        (p.language, p.label, reasons[p.key]) for p in prompts if p.key in reasons
    )
    name = prompts.name if form == "plain" else f"{prompts.name} ({form})"
    return Reformed(
        PromptSet(name, tuple(made.values())),
        tuple(Skipped(form, *cell, n) for cell, n in counts.items()),
    )


def change_forms(
    prompts: PromptSet, forms: Iterable[str], *, english: Iterable[Prompt] | None = None
) -> Reformed:
    """Return the prompts in several forms, one after another, as one set.

    Raises:
        UserError: as :func:`change_form`, and without any form.
    """
    if not (wanted := tuple(dict.fromkeys(forms))):
        raise UserError(f"no form was given; choose from {', '.join(FORMS)}")
    parts = [change_form(prompts, form, english=english) for form in wanted]
    return Reformed(
        PromptSet.union([part.prompts for part in parts]),
        tuple(skip for part in parts for skip in part.skipped),
    )


class _LeftOutError(Exception):
    """Why a prompt cannot be brought into a form."""


_Change = Callable[[Prompt], tuple[str, Mapping[str, object]]]


def _changes(english: Iterable[Prompt]) -> dict[Form, _Change]:
    versions: dict[tuple[str, Label], str] = {
        (p.group_id, p.label): p.text for p in english if p.language == "en"
    }
    return {
        "plain": lambda prompt: (prompt.text, {}),
        "code-switched": lambda prompt: (_switched(prompt, versions), {}),
        "transliterated": lambda prompt: (_transliterated(prompt), {}),
        "without-diacritics": lambda prompt: (_bare(prompt), {}),
        "framed-story": lambda prompt: _framed(prompt, "framed-story"),
        "framed-homework": lambda prompt: _framed(prompt, "framed-homework"),
    }


def _as(prompt: Prompt, form: Form, changed: tuple[str, Mapping[str, object]]) -> Prompt:
    text, facts = changed
    extra = {**prompt.extra, "form": form, "form_of": prompt.id, **facts}
    if form == "plain":
        return replace(prompt, extra=MappingProxyType(extra))
    return replace(
        prompt,
        id=f"{prompt.id}~{form}",
        text=text,
        source=f"{prompt.source} ({form})" if prompt.source else form,
        extra=MappingProxyType(extra),
    )


# ---------------------------------------------------------------------------------------------
# code-switching


def _switched(prompt: Prompt, versions: Mapping[tuple[str, Label], str]) -> str:
    if prompt.language == "en":
        raise _LeftOutError("is English")
    version = versions.get((prompt.group_id, prompt.label))
    if version is None:
        raise _LeftOutError("has no English version")
    if normalise(version) == normalise(prompt.text):
        raise _LeftOutError("is the same in English")
    own, other = middle(prompt.text), middle(version)
    if own is None or other is None:
        raise _LeftOutError("is too short to cut")
    return f"{prompt.text[:own].rstrip()} {version[other:].lstrip()}"


def middle(text: str) -> int | None:
    """Return where to cut a text in two, counted in characters; None if there is no place.

    The place nearest to the middle, of the best kind that there is: after a clause's punctuation in
    the middle third; at a space in the middle half, or anywhere in scripts with spaces between
    words; without spaces, in the middle half, before a kanji or katakana that follows hiragana
    (where Japanese phrases end); else between any two characters of Chinese, Japanese, Thai and
    the like, but not before a combining mark, after a vowel written before its consonant, or
    inside a run of Latin letters or digits. Words of those scripts may be cut in two.
    """
    n = len(text)
    places = range(1, n)
    third = [i for i in places if n / 3 <= i <= 2 * n / 3]
    half = [i for i in places if n / 4 <= i <= 3 * n / 4]
    unspaced = dominant_script(text)[0] in _UNSPACED
    kinds = [
        [i for i in third if _after_clause(text, i)],
        [i for i in (half if unspaced else places) if text[i].isspace()],
    ]
    if unspaced:
        kinds += [[i for i in half if _phrase_end(text, i)], [i for i in half if _apart(text, i)]]
    for kind in kinds:
        inside = [i for i in kind if text[:i].strip() and text[i:].strip()]
        if inside and (not unspaced or n >= _FEWEST):
            return min(inside, key=lambda i: abs(i - n / 2))
    return None


def _after_clause(text: str, i: int) -> bool:
    if text[i - 1] not in _CLAUSE_ENDS:
        return False
    # Not within 3.5, 10:30 or a web address; wide punctuation has no space after it.
    return text[i].isspace() or not text[i - 1].isascii()


def _phrase_end(text: str, i: int) -> bool:
    hiragana = "\u3041" <= text[i - 1] <= "\u309f"
    return hiragana and ("\u30a1" <= text[i] <= "\u30fa" or "\u4e00" <= text[i] <= "\u9fff")


def _apart(text: str, i: int) -> bool:
    before, after = text[i - 1], text[i]
    # Marks, and vowels after the consonant that Unicode files as letters, as in Thai.
    if unicodedata.category(after).startswith("M") or after in "ะาำๆฯะາຳーっッゃゅょャュョ":
        return False
    joined = before.isascii() and before.isalnum() and after.isascii() and after.isalnum()
    return before not in _LEADING_VOWELS and not joined


# ---------------------------------------------------------------------------------------------
# letters


def _transliterated(prompt: Prompt) -> str:
    if reason := why_not_transliterated(prompt.text, prompt.language):
        raise _LeftOutError(reason)
    return transliterate(prompt.text, prompt.language)


def _bare(prompt: Prompt) -> str:
    if dominant_script(prompt.text)[0] != "Latin":
        raise _LeftOutError("is not in Latin letters")
    bare = without_diacritics(prompt.text)
    if bare == unicodedata.normalize("NFC", prompt.text):
        raise _LeftOutError("has no diacritics")
    return bare


# ---------------------------------------------------------------------------------------------
# frames


def _framed(prompt: Prompt, form: Form) -> tuple[str, Mapping[str, object]]:
    patterns = frames().get((prompt.language, form))
    if patterns is None:
        raise _LeftOutError("has no frame in its language")
    # Twins and translations get the same frame, so that nothing but harm or language differs.
    digest = hashlib.sha256(f"{form}:{prompt.pair_id or prompt.group_id}".encode()).digest()
    variant = int.from_bytes(digest[:8]) % len(patterns)
    before, after = patterns[variant].split("{text}")
    return f"{before}{prompt.text.strip()}{after}", {"frame_variant": variant}


@lru_cache(maxsize=1)
def frames() -> Mapping[tuple[str, str], tuple[str, ...]]:
    """Return the bundled frames: ``{(language, form): patterns with one {text}}``.

    They were written by a language model and not reviewed by native speakers.

    Raises:
        PromptError: if they are missing or damaged.
    """
    folder = resources.files("babelgate.prompts").joinpath("data", "frames")
    if not folder.is_dir():
        raise PromptError("the bundled frames are missing; install babelgate again")
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if not entry.name.endswith(".jsonl"):
            continue
        code = entry.name.removesuffix(".jsonl")
        for line in entry.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            form, pattern = record["form"], record["pattern"]
            if form not in FORMS or pattern.count("{text}") != 1:
                raise PromptError(f"the bundled frames of {code} are damaged; install again")
            found[code, form] = (*found.get((code, form), ()), pattern)
    return MappingProxyType(found)
