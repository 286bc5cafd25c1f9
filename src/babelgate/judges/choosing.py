"""From what a user asks for to a judge: one, a panel, with or without translation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import TYPE_CHECKING

from ..config import JudgeSettings
from ..errors import UserError
from .base import Judge, get_judge

if TYPE_CHECKING:
    from .translation import Translator

#: What a translator is called, and the hub model that it means by default.
_TRANSLATORS = {
    "nllb": "facebook/nllb-200-distilled-600M",
    "madlad": "google/madlad400-3b-mt",
}


@contextmanager
def chosen_judge(
    settings: JudgeSettings, *, device: str = "auto", dtype: str = "auto"
) -> Iterator[Judge]:
    """Yield the judge that the settings describe; connections are closed afterwards.

    ``A+B`` is a panel of both, ``adjudicator`` its third. A translator is put before judges that
    may read English only (guards and remote models), not before the package's own.

    Raises:
        UserError: for a judge or translator that is not known, or settings that do not fit.
    """
    names = [name.strip() for name in settings.judge.split("+")]
    if not all(names):
        raise UserError(f"judge {settings.judge!r}: a name is missing beside '+'")
    if settings.adjudicator is not None and len(names) == 1:
        raise UserError(
            "an adjudicator decides where several judges disagree; name two, such as "
            f"`--judge {settings.judge}+embedded`"
        )
    with ExitStack() as stack:
        # One for all judges: a translation model may need gigabytes.
        translator = cache(lambda: _translator(settings, stack, device, dtype))
        judges = [_judge(name, settings, translator, device, dtype) for name in names]
        if len(judges) == 1:
            yield judges[0]
            return
        from .panel import Panel

        last = settings.adjudicator
        adjudicator = None if last is None else _judge(last, settings, translator, device, dtype)
        yield Panel(judges, adjudicator)


def _judge(
    name: str,
    settings: JudgeSettings,
    translator: Callable[[], Translator],
    device: str,
    dtype: str,
) -> Judge:
    if name.startswith("guard:"):
        from .guards import guard_judge

        found: Judge = guard_judge(
            name, device=device, dtype=dtype, any_language=settings.any_language
        )
    elif name.startswith("api:"):
        from .api_judge import ApiJudge

        found = ApiJudge(_api(name, settings))
    else:
        return get_judge(name)
    if settings.translator is None:
        return found
    from .translation import TranslatedJudge

    return TranslatedJudge(found, translator())


def _translator(settings: JudgeSettings, stack: ExitStack, device: str, dtype: str):
    name = settings.translator or ""
    if name.startswith("api:"):
        from .api_client import ApiClient
        from .translation.api import ApiTranslator

        api = _api(name, settings)
        client = stack.enter_context(ApiClient(api))
        return ApiTranslator(client, model=api.model, concurrency=api.concurrency)
    kind, _, model = name.partition("=")
    if kind not in _TRANSLATORS:
        raise UserError(f"translator {name!r} is not one of {', '.join(_TRANSLATORS)}, api:MODEL")
    from .translation.seq2seq import Seq2SeqTranslator

    return Seq2SeqTranslator.load(model or _TRANSLATORS[kind], device=device, dtype=dtype)


def _api(name: str, settings: JudgeSettings):
    from .api_settings import ApiSettings

    if settings.api_url is None:
        raise UserError(
            f"judge {name!r} needs the address of the API: "
            "`--api-url http://127.0.0.1:8000/v1` (and a key in BABELGATE_API_KEY, if it asks one)"
        )
    return ApiSettings(
        settings.api_url,
        name.removeprefix("api:"),
        concurrency=settings.api_concurrency,
        prompt_price=settings.api_prompt_price,
        completion_price=settings.api_completion_price,
    )
