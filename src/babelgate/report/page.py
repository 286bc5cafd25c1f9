"""The page: sections, what was run, and (only when asked for) the replies, as one HTML file."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from .._version import __version__
from ..types import Completion
from . import palette
from .assets import asset
from .definitions import Definition, definitions
from .figure import LAYOUTS, Figure, standalone_css
from .judge_facts import NOTES
from .load import RunFolder
from .names import language_label, methods
from .numbers import count, plural
from .sections import Section, sections
from .study_sections import shown_studies
from .summary import summarise
from .unparsed import Unparsed, unparsed

# What the section on the judge shows in words and tables.
_TOLD = frozenset({*NOTES, "errors", "judges", "judge", "adjudicator", "usage"})


@dataclass(frozen=True)
class Reply:
    """A completion with the verdicts on it, ready for the page."""

    completion: Completion
    outcomes: tuple[str, ...]


@dataclass(frozen=True)
class Head:
    """The top of a page: what it is on, of which model, and a few facts."""

    title: str
    model: str
    facts: Sequence[str]


About = list[tuple[str, tuple[Definition, ...]]]


@dataclass(frozen=True)
class Page:
    """What a page shows, from its head to what was run; ``replies`` only where asked for."""

    head: Head
    summary: Sequence[str]
    sections: Sequence[Section]
    about: About
    unparsed: Unparsed | None = None
    show_replies: bool = False
    replies: Mapping[str, list[Reply]] = field(default_factory=dict)

    @property
    def html(self) -> str:
        """The page as one self-contained HTML document."""
        script = asset("page.js")
        context: dict[str, Any] = {
            "title": self.head.title,
            "model": self.head.model,
            "facts": self.head.facts,
            "summary": self.summary,
            "sections": self.sections,
            "layouts": LAYOUTS,
            "drawing": _drawing,
            "about": self.about,
            "unparsed": self.unparsed,
            "show_replies": self.show_replies,
            "replies": self.replies,
            "css": Markup(_css()),
            "script": Markup(script),
            "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            "figure_css": standalone_css(),
            "version": __version__,
        }
        return _environment().get_template("page.html").render(context)

    @property
    def figures(self) -> list[Figure]:
        """Every figure, in the order of the sections."""
        return [figure for section in self.sections for figure in section.all_figures]


def run_page(run: RunFolder, *, show_replies: bool = False) -> Page:
    """Return the page of a run: what breaks where first, the rest of the studies last."""
    results = run.results
    studied, studied_words = shown_studies(run.studies)
    first = [s for s in studied if s.key == "breaks"]
    measured = sections(results, run.diagnosis, run.verdicts, run.actions)
    return Page(
        Head("Refusal across languages", model_name(results.model), _facts(run)),
        summarise(results, run.diagnosis) + studied_words,
        [*first, *measured, *(s for s in studied if s not in first)],
        _about(run),
        unparsed(run, show_replies=show_replies),
        show_replies,
        _replies(run) if show_replies else {},
    )


@functools.cache
def _environment() -> Environment:
    # Names and texts come from models and files: everything is escaped unless we built it.
    environment = Environment(
        loader=PackageLoader("babelgate.report"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = count
    return environment


def _drawing(figure: Figure) -> list[tuple[str, Markup]]:
    return [(layout.name, Markup(figure.svg(layout))) for layout in LAYOUTS]


def _css() -> str:
    light, dark = palette.variables(palette.LIGHT), palette.variables(palette.DARK)
    return (
        f":root{{color-scheme:light;{light}}}"
        f"@media screen and (prefers-color-scheme:dark)"
        f"{{:root:not([data-theme=light]){{color-scheme:dark;{dark}}}}}"
        f"@media screen{{:root[data-theme=dark]{{color-scheme:dark;{dark}}}}}"
        f"{asset('page.css')}{asset('figure.css')}"
    )


def model_name(model: Mapping[str, Any]) -> str:
    """Return a model's name for a heading."""
    return str(model.get("name") or "unnamed model")


def _facts(run: RunFolder) -> list[str]:
    results = run.results
    languages = {r.language for r in results.rows}
    facts = [
        plural(len(languages), "language"),
        plural(len(methods(results)), "method") + f" ({', '.join(methods(results))})",
    ]
    if results.prompts.get("name"):
        facts.append(f"prompts: {results.prompts['name']}")
    if results.judge.get("name"):
        facts.append(f"judge: {results.judge['name']}")
    return facts


def _about(run: RunFolder) -> About:
    """Return what was run and how, as titled definition lists."""
    results = run.results
    info = run.run or {}
    loose = {k: v for k, v in info.items() if not isinstance(v, Mapping)}
    parts: list[tuple[str, Mapping[str, Any]]] = [
        ("Run", loose),
        ("Model", results.model),
        ("Prompts", results.prompts),
        ("Judge", {k: v for k, v in results.judge.items() if k not in _TOLD}),
    ]
    if run.diagnosis is not None:
        parts.append(("Gate", run.diagnosis.gate))
    parts += [
        (str(key).replace("_", " ").capitalize(), value)
        for key, value in info.items()
        if isinstance(value, Mapping)
    ]
    return [(title, definitions(value)) for title, value in parts if value]


def _replies(run: RunFolder) -> dict[str, list[Reply]]:
    outcomes: dict[tuple[str, str], list[str]] = {}
    for v in run.verdicts:
        outcomes.setdefault((v.method, v.key), []).append(f"{v.outcome} ({v.judge})")
    found: dict[str, list[Reply]] = {}
    for c in run.completions:
        if (c.method, c.key) not in outcomes:
            continue  # of a method or language that these results do not cover
        reply = Reply(c, tuple(outcomes.get((c.method, c.key), ())))
        found.setdefault(language_label(c.language), []).append(reply)
    return found
