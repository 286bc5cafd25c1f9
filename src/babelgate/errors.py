"""The errors babelgate raises on purpose: one sentence each, naming value, expectation and fix."""

from __future__ import annotations


class BabelgateError(Exception):
    """A failure that is not the user's fault (exit code 1)."""

    exit_code = 1


class UserError(BabelgateError):
    """Input that cannot be used as given (exit code 2): the message says what to change."""

    exit_code = 2


class PromptError(UserError):
    """A prompt file or set that cannot be used."""


class LanguageError(UserError):
    """A language code that the registry does not know, or that the data at hand lacks."""


class ModelError(UserError):
    """A model that cannot be found, read or understood."""


class ConfigError(UserError):
    """Settings that do not fit; the message lists every field that is wrong."""


class GateError(UserError):
    """A gate file that is corrupt, or that belongs to another model, template or dtype."""


class StoreError(BabelgateError):
    """An activation store or run file that is corrupt or cannot be written."""


class JudgeError(BabelgateError):
    """A judge that cannot work at all: no connection, a refused key, a model that never answers."""


class DownloadError(BabelgateError):
    """A download that could not be finished; what arrived is kept and resumed."""


def did_you_mean(name: str, known: list[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the closest known name, or the empty string."""
    import difflib

    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""
