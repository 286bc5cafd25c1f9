"""Data sets on the hub, with a stand-in for the `datasets` package."""

import importlib
import sys
from types import ModuleType, SimpleNamespace

import pytest

from babelgate.errors import DownloadError, PromptError
from babelgate.prompts import load_prompts

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Rows(list):
    def __init__(self, rows, features=None):
        super().__init__(rows)
        self.column_names = list(rows[0])
        self.features = features or {}


@pytest.fixture
def hub(monkeypatch):
    """Put a fake `datasets` in place; return its contents by name and the calls it got."""
    state = SimpleNamespace(sets={}, calls=[])

    def load_dataset(path, name=None, revision=None):
        state.calls.append((path, name, revision))
        found = state.sets[path]
        if isinstance(found, Exception):
            raise found
        return found

    fake = ModuleType("datasets")
    fake.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", fake)
    return state


def test_columns_splits_and_class_labels(hub):
    features = {"label": SimpleNamespace(names=["harmless", "harmful"])}
    row = {"language": "en", "text": "a", "label": 1, "topic": "t", "category": None}
    hub.sets["me/set"] = {
        "validation": Rows([row, row | {"text": "b", "label": 0, "language": "sw"}], features),
        "test": Rows([row | {"split": "train", "id": "own"}], features),
    }
    prompts = load_prompts(f"hf:me/set@{COMMIT}:small")
    assert hub.calls == [("me/set", "small", COMMIT)]
    assert prompts.name == "me/set"
    assert [(p.id, p.split, p.label, p.source) for p in prompts] == [
        ("validation-00000", "val", "harmful", "hf:me/set"),
        ("validation-00001", "val", "harmless", "hf:me/set"),
        ("own", "train", "harmful", "hf:me/set"),
    ]
    assert dict(prompts.prompts[0].extra) == {"topic": "t"}
    assert len(load_prompts(f"hf:me/set@{COMMIT}", languages="sw")) == 1


def test_multijail_on_the_hub(hub):
    row = {"id": 3, "source": "x", "en": "a", "zh": "b", "jv": "c", "tags": ["T", "U"]}
    hub.sets["DAMO/MultiJail"] = {"train": Rows([row])}
    prompts = load_prompts(f"hf:DAMO/MultiJail@{COMMIT}", languages="en,jv")
    assert [p.key for p in prompts] == ["en/multijail-003", "jv/multijail-003"]
    assert prompts.prompts[0].category == "T; U"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("hf:me/set", "full commit hash"),
        ("hf:me/set@main", "not 'main'"),
        (f"hf:me/set@{COMMIT[:12]}", "full commit hash"),
        (f"hf:set@{COMMIT}", "should look like"),
        ("hf:", "should look like"),
    ],
)
def test_an_unpinned_set_is_refused(hub, spec, message):
    with pytest.raises(PromptError, match=message):
        load_prompts(spec)
    assert hub.calls == []


def test_columns_that_do_not_fit_are_named(hub):
    hub.sets["me/set"] = {"test": Rows([{"prompt": "a"}])}
    with pytest.raises(PromptError, match="hf:me/set, split test, row 1: field 'language'"):
        load_prompts(f"hf:me/set@{COMMIT}")


@pytest.mark.parametrize(
    ("failure", "kind"),
    [(ConnectionError("down"), DownloadError), (ValueError("odd"), PromptError)],
)
def test_failures_of_the_hub(hub, failure, kind):
    hub.sets["me/set"] = failure
    with pytest.raises(kind, match=f"cannot load hf:me/set.*{failure}"):
        load_prompts(f"hf:me/set@{COMMIT}")


def test_without_the_package_the_extra_is_named(monkeypatch):
    real = importlib.import_module

    def refuse(name, *rest):
        if name == "datasets":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(PromptError, match=r"pip install babelgate\[hub\]"):
        load_prompts(f"hf:me/set@{COMMIT}")
