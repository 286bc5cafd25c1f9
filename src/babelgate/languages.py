"""The languages babelgate knows: codes, names, scripts, resource tiers; and identification of text.

A language outside the registry can still be used as a prompt's language (its tier is ``unlisted``)
and be identified; the registry only fixes names, tiers and spellings of codes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast, get_args

from .errors import LanguageError, did_you_mean
from .language_id import LanguageGuess, identify, identify_many
from .languages_data import OTHER_SHARES, REGISTRY

__all__ = [
    "TIERS",
    "Language",
    "LanguageGuess",
    "Tier",
    "identify",
    "identify_many",
    "is_known",
    "language",
    "languages",
    "normalise_code",
    "parse_languages",
    "tier",
]

Tier = Literal["high", "mid", "low"]
TIERS: tuple[Tier, ...] = get_args(Tier)
_UNLISTED = "unlisted"


@dataclass(frozen=True, slots=True)
class Language:
    """A language of the registry.

    ``share`` is its percentage of Common Crawl pages (CC-MAIN-2026-04). ``tier`` follows it: high
    above 1 %, mid 0.1 to 1 %, low below, save for two border cases explained in the table.
    """

    code: str
    name: str
    script: str
    tier: Tier
    share: float
    aliases: tuple[str, ...] = ()


_LANGUAGES: dict[str, Language] = {
    code: Language(code, name, script, cast(Tier, level), share, aliases)
    for code, (name, script, level, share, aliases) in REGISTRY.items()
}
_ALIASES: dict[str, str] = {
    alias: entry.code for entry in _LANGUAGES.values() for alias in entry.aliases
}
# ISO 639 language, then optional script, region or variant subtags: pt, pt-br, sr-latn, ary.
_CODE = re.compile(r"[a-z]{2,3}(-[a-z0-9]{2,8})*")


def normalise_code(code: str) -> str:
    """Return the code babelgate uses for a language: ``jw`` -> ``jv``, ``zh-CN`` -> ``zh``.

    Region and script subtags of registry languages are dropped; other well-formed codes come back
    in lower case as they are.

    Raises:
        LanguageError: if it is not a language code.
    """
    plain = code.strip().lower().replace("_", "-")
    base = plain.partition("-")[0]
    if _CODE.fullmatch(plain) is None:
        raise LanguageError(
            f"{code!r} is not a language code such as 'en' or 'pt-br'.{_hint(plain)}"
        )
    base = _ALIASES.get(base, base)
    return base if base in _LANGUAGES else plain


def language(code: str) -> Language:
    """Return the registry's entry for a code or alias, in any case.

    Raises:
        LanguageError: if the registry has no such language.
    """
    found = _LANGUAGES.get(normalise_code(code))
    if found is None:
        raise LanguageError(
            f"language {code!r} is not in the registry ({', '.join(_LANGUAGES)}).{_hint(code)}"
        )
    return found


def languages(tier: str | None = None) -> tuple[Language, ...]:
    """Return the registry's languages, or those of one tier, in the registry's order.

    Raises:
        LanguageError: for a tier that does not exist.
    """
    if tier is not None and tier not in TIERS:
        raise LanguageError(
            f"{tier!r} is not a resource tier: {', '.join(TIERS)}.{did_you_mean(tier, [*TIERS])}"
        )
    return tuple(entry for entry in _LANGUAGES.values() if tier in (None, entry.tier))


def tier(code: str) -> str:
    """Return ``high``, ``mid`` or ``low``; ``unlisted`` for a language outside the registry.

    Raises:
        LanguageError: if it is not a language code.
    """
    found = _LANGUAGES.get(normalise_code(code))
    return found.tier if found else _UNLISTED


def parse_languages(text: str) -> tuple[str, ...]:
    """Return the codes in a list such as ``en,de jw``, each once, in order.

    Besides the registry's, the codes of some fifty larger languages (pt, tr, uk, id ...) are taken.

    Raises:
        LanguageError: for an empty list or another code.
    """
    codes = [part for part in re.split(r"[,\s]+", text) if part]
    if not codes:
        raise LanguageError("no language given; write codes with commas, such as en,de,sw")
    return tuple(
        dict.fromkeys(
            normalise_code(code) if is_known(code) else language(code).code for code in codes
        )
    )


def is_known(code: str) -> bool:
    """Whether a code is the registry's, or of a larger language outside it (pt, tr, uk ...)."""
    try:
        plain = normalise_code(code)
    except LanguageError:
        return False
    return plain in _LANGUAGES or plain.partition("-")[0] in OTHER_SHARES


def _hint(text: str) -> str:
    """Return a suggestion for a mistyped code or an English name."""
    wanted = text.strip().lower()
    names = {entry.name.lower(): entry.code for entry in _LANGUAGES.values()}
    if wanted in names:
        return f" Did you mean {names[wanted]!r}?"
    hint = did_you_mean(wanted, [*_LANGUAGES, *_ALIASES]) if len(wanted) < 4 else ""
    if hint:
        return hint
    import difflib

    close = difflib.get_close_matches(wanted, names, n=1, cutoff=0.7)
    return f" Did you mean {names[close[0]]!r}?" if close else ""
