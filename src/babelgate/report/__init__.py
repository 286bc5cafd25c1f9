"""The report of a run: one HTML file that opens offline, and the same numbers as plain tables.

Reads artifacts only (``results.json``, ``diagnosis.json``, ``run.json``, ``completions.jsonl``,
``verdicts.jsonl``; of `diagnose` and `directions`, ``breaks.json``, ``geometry.json`` and
``directions.json``), so a run can be reported on a machine without the model.
"""

from __future__ import annotations

from pathlib import Path

from ..artifacts import write_text
from .diagnosed import studies_page
from .load import load_run
from .load_studies import load_studies, only_studies
from .markdown import to_markdown
from .page import Page, run_page
from .terminal import print_results

__all__ = ["print_results", "render_report", "to_markdown", "write_report"]


def render_report(run: Path, *, show_replies: bool = False) -> str:
    """Return the report of a run folder as one self-contained HTML document.

    Replies are left out unless ``show_replies``; then each one lies behind a click.

    Raises:
        StoreError: if there is nothing to report, or a file that exists is damaged.
    """
    return _page(Path(run), show_replies).html


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
    shown = _page(run, show_replies)
    write_text(path, shown.html)
    if figures is not None:
        for figure in shown.figures:
            write_text(Path(figures) / f"{figure.name}.svg", figure.standalone())
    return path


def _page(run: Path, show_replies: bool) -> Page:
    if only_studies(run):
        return studies_page(run, load_studies(run))
    return run_page(load_run(run, replies=show_replies), show_replies=show_replies)
