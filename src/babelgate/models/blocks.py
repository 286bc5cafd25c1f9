"""Finding a model's decoder blocks by structure, so that no list of architectures is needed."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..errors import ModelError


def text_config(config: Any) -> Any:
    """Return the text part of a (possibly multimodal) model configuration."""
    getter = getattr(config, "get_text_config", None)
    return getter(decoder=True) if callable(getter) else config


def find_blocks(model: nn.Module, name: str | None = None) -> nn.ModuleList:
    """Return the decoder blocks of a causal language model, in order.

    They are the ``ModuleList`` with as many entries as the text configuration has hidden layers
    that sits beside the token embedding (``model.embed_tokens`` and ``model.layers``;
    ``transformer.wte`` and ``transformer.h``; vision towers have no token embedding).
    ``name`` is a dotted path that overrides the search.

    Raises:
        ModelError: if ``name`` is no ModuleList, or if the search finds none or several.
    """
    lists = {n: m for n, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m)}
    if name is not None:
        if name not in lists:
            raise ModelError(
                f"blocks {name!r} is not a list of modules in this model; it has: "
                + ", ".join(f"{n} ({len(m)})" for n, m in lists.items())
            )
        return lists[name]

    depth = getattr(text_config(getattr(model, "config", None)), "num_hidden_layers", None)
    getter: Any = getattr(model, "get_input_embeddings", None)
    embedding = getter() if getter is not None else None
    found = [
        n
        for n, m in lists.items()
        if (depth is None or len(m) == depth) and _beside(model, n, embedding)
    ]
    if len(found) != 1:
        what = "no module list" if not found else "several module lists: " + ", ".join(found)
        raise ModelError(
            f"cannot tell which modules are the {depth} decoder blocks of "
            f"{type(model).__name__}: {what} of that length beside the token embedding. Name it "
            "with `--blocks NAME` (in Python `load_model(..., blocks=NAME)`); candidates: "
            + (", ".join(f"{n} ({len(m)})" for n, m in lists.items()) or "none")
        )
    return lists[found[0]]


def _beside(model: nn.Module, name: str, embedding: nn.Module | None) -> bool:
    """Whether the module list's parent also holds the token embedding."""
    if embedding is None:
        return True
    parent = model.get_submodule(name.rpartition(".")[0])
    return any(child is embedding for child in parent.children())
