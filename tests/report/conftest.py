"""The report's tests read run folders that :mod:`synthetic_runs` makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from synthetic_runs import EXTREME, Spec, write_run

from babelgate.report import render_report


@pytest.fixture(scope="session")
def extreme_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of the largest run, which is not cheap to make."""
    return render_report(write_run(tmp_path_factory.mktemp("runs") / "extreme", EXTREME))


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a run folder for a :class:`Spec`."""

    def make(spec: Spec, **options) -> Path:
        return write_run(tmp_path / "run", spec, **options)

    return make
