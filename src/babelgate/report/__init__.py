"""The report of a run: one HTML file that opens offline, and the same numbers as plain tables.

Reads artifacts only (``results.json``, ``diagnosis.json``, ``run.json``, ``completions.jsonl``,
``verdicts.jsonl``; of `diagnose` and `directions`, ``breaks.json``, ``geometry.json`` and
``directions.json``), so a run can be reported on a machine without the model.
"""

from __future__ import annotations

from pathlib import Path

from ..artifacts import write_text
from .diagnosed import render_studies
from .load import load_run
from .load_studies import load_studies, only_studies
from .markdown import to_markdown
from .page import page, run_sections
from .study_sections import study_sections
from .terminal import print_results

__all__ = ["print_results", "render_report", "to_markdown", "write_report"]


def render_report(run: Path, *, show_replies: bool = False) -> str:
    """Return the report of a run folder as one self-contained HTML document.

    Replies are left out unless ``show_replies``; then each one lies behind a click.

    Raises:
        StoreError: if there is nothing to report, or a file that exists is damaged.
    """
    if only_studies(Path(run)):
        return render_studies(run)
    return page(load_run(Path(run), replies=show_replies), show_replies=show_replies)


def write_report(
    run: Path,
    out: Path | None = None,
    *,
    figures: Path | None = None,
    show_replies: bool = False,
) -> Path:
    """Write the report of a run folder and return its path (default ``run/report.html``).

    ``figures`` is a folder that receives every figure as an SVG file of its own. Files are
    replaced whole: a failure leaves the old report as it was.

    Raises:
        StoreError: if an artifact is missing or damaged, or a file cannot be written.
    """
    run = Path(run)
    path = run / "report.html" if out is None else Path(out)
    if only_studies(run):
        html, shown = render_studies(run), study_sections(load_studies(run))
    else:
        loaded = load_run(run, replies=show_replies)
        html, shown = page(loaded, show_replies=show_replies), run_sections(loaded)
    write_text(path, html)
    if figures is not None:
        for section in shown:
            for figure in section.all_figures:
                write_text(Path(figures) / f"{figure.name}.svg", figure.standalone())
    return path
