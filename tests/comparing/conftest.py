"""One finished comparison of every method, shared by the tests of this folder."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from babelgate.comparing.run import compare

from .made import MadeJudge, cast_folder, prompt_set, recorded, settings, use_judge


@pytest.fixture(scope="session")
def finished(llama, tmp_path_factory):
    """Every method compared on a tiny model, with the setting and contenders that it had."""
    out = tmp_path_factory.mktemp("compare")
    with pytest.MonkeyPatch.context() as patch:
        judge = MadeJudge()
        use_judge(patch, judge)
        seen = recorded(patch)
        wanted = settings(out / "run", cast_data=cast_folder(out / "cast"), guard="tiny")
        comparison = compare(llama, prompt_set(), wanted)
    setting, contenders = seen[-1]
    return SimpleNamespace(
        comparison=comparison,
        settings=wanted,
        out=out / "run",
        setting=setting,
        contenders={c.name: c for c in contenders},
        judge=judge,
    )


@pytest.fixture
def judge(monkeypatch):
    """A made-up judge that the test's comparisons use."""
    made = MadeJudge()
    use_judge(monkeypatch, made)
    return made
