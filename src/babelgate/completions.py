"""Replies of a model to prompts under named methods, kept line by line so that nothing is lost."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .artifacts import JsonLines, fingerprint
from .errors import StoreError
from .generate import Reply, generate
from .interventions.base import Intervention
from .models.chat import ChatModel
from .types import Completion, Prompt

#: No language gets more than this many times the reply length of English.
MAX_FERTILITY = 4.0


@dataclass(frozen=True)
class Method:
    """A way of generating: a name, an intervention (None: the untouched model) and a key.

    ``key`` fingerprints everything that the replies depend on besides model and prompt.
    ``language_known`` says whether the intervention is told the prompt's language. ``systems`` are
    system prompts by the prompt's language; English stands in for a language without one.
    """

    name: str
    intervention: Intervention | None = None
    key: str = ""
    language_known: bool = True
    systems: Mapping[str, str] | None = None

    def system(self, language: str) -> str | None:
        """Return the system prompt for a language, or None for the template's own."""
        if self.systems is None:
            return None
        return self.systems.get(language, self.systems["en"])


BASE = Method("base")


def reply_limits(
    model: ChatModel, prompts: Iterable[Prompt], max_new_tokens: int
) -> dict[str, int]:
    """Return the reply length per language: the English one times the language's fertility.

    Fertility is the ratio of token counts over prompts that are translations of an English one in
    the set; between 1 and 4, and 1 where no translation pairs with English. The same number of
    tokens for every language would cut a Burmese reply after a few words.
    """
    pool = list(prompts)
    counts = dict(zip([p.key for p in pool], model.template.count_tokens([p.text for p in pool])))
    english = {p.group_id: counts[p.key] for p in pool if p.language == "en"}
    limits = {}
    for language in dict.fromkeys(p.language for p in pool):
        pairs = [
            (counts[p.key], english[p.group_id])
            for p in pool
            if p.language == language and p.group_id in english
        ]
        ratio = sum(a for a, _ in pairs) / sum(b for _, b in pairs) if pairs else 1.0
        limits[language] = math.ceil(max_new_tokens * min(MAX_FERTILITY, max(1.0, ratio)))
    return limits


def complete(
    model: ChatModel,
    prompts: Sequence[Prompt],
    methods: Sequence[Method],
    file: Path,
    *,
    limits: Mapping[str, int],
    rows: int | None = None,
    on_replies: Callable[[int], None] | None = None,
) -> list[Completion]:
    """Return one completion per method and prompt, generating only those that ``file`` lacks.

    Each line of the file carries a key of model, method, prompt text and length limit. A line for a
    wanted reply with another key is stale and is removed; replies of other methods and languages
    stay. Finished batches are on disk before the next one starts.
    """
    wanted = {
        (method.name, prompt.key): _key(model, method, prompt, limits[prompt.language])
        for method in methods
        for prompt in prompts
    }
    log = JsonLines(file)
    lines = log.read()
    kept: dict[tuple[str, str], Completion] = {}
    current = []
    for number, line in enumerate(lines, 1):
        try:
            made = Completion.from_json(line)
        except TypeError as error:
            raise StoreError(f"{file}, line {number} is no completion: {error}") from error
        key = wanted.get((made.method, made.key))
        if key is not None and key == line.get("key"):
            kept[made.method, made.key] = made
        if key is None or key == line.get("key"):
            current.append(line)
    if len(current) < len(lines):
        log.rewrite(current)
    if on_replies is not None:
        on_replies(len(kept))
    for method in methods:
        missing = [p for p in prompts if (method.name, p.key) not in kept]
        # A system prompt is part of the template's opening, so one call has one.
        for system in dict.fromkeys(method.system(p.language) for p in missing):
            todo = [p for p in missing if method.system(p.language) == system]
            batches = generate(
                model,
                [p.text for p in todo],
                max_new_tokens=[limits[p.language] for p in todo],
                intervention=method.intervention,
                languages=[p.language if method.language_known else None for p in todo],
                system=system,
                rows=rows,
            )
            for batch in batches:
                made = [_completion(todo[reply.index], method.name, reply) for reply in batch]
                log.append({**c.to_json(), "key": wanted[method.name, c.key]} for c in made)
                kept |= {(c.method, c.key): c for c in made}
                if on_replies is not None:
                    on_replies(len(made))
    return [kept[method.name, prompt.key] for method in methods for prompt in prompts]


def _completion(prompt: Prompt, method: str, reply: Reply) -> Completion:
    decision = reply.decision
    return Completion(
        language=prompt.language,
        prompt_id=prompt.id,
        method=method,
        text=reply.text,
        n_tokens=len(reply.tokens),
        stop_reason="fixed" if reply.fixed else "eos" if reply.stopped else "length",
        gate_score=None if decision is None else decision.score,
        fired=None if decision is None else decision.fired,
        gate_language=None if decision is None else decision.language,
    )


def _key(model: ChatModel, method: Method, prompt: Prompt, limit: int) -> str:
    m = model.identity
    parts = [m.weights, m.template, m.dtype, method.name, method.key, method.language_known,
             prompt.text, prompt.language, limit]  # fmt: skip
    if (system := method.system(prompt.language)) is not None:
        parts.append(system)
    return fingerprint(parts)
