"""Fixtures shared by the tests of judges behind an API."""

from __future__ import annotations

import pytest

from .api_server import KEY, chat_server


@pytest.fixture
def server():
    """A local endpoint that answers as a test tells it."""
    with chat_server() as state:
        yield state


@pytest.fixture
def key(monkeypatch):
    """The endpoint's key in the environment."""
    monkeypatch.setenv("BABELGATE_API_KEY", KEY)
