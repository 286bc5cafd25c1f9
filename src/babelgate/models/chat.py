"""A chat model: weights, tokenizer, template and blocks under one identity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ..types import ModelIdentity
from .blocks import find_blocks, text_config
from .identity import weights_fingerprint
from .template import ChatTemplate, Tokens


@dataclass(frozen=True)
class ChatModel:
    """A loaded causal language model with everything that babelgate needs to know of it.

    Build it with :func:`babelgate.models.load_model`, or with :meth:`wrap` around a transformers
    model and tokenizer that are already in memory.
    """

    model: Any
    template: ChatTemplate
    blocks: nn.ModuleList
    identity: ModelIdentity

    @staticmethod
    def wrap(
        model: Any,
        tokenizer: Any,
        *,
        name: str = "",
        revision: str = "",
        blocks: str | None = None,
        chat_template: str | None = None,
    ) -> ChatModel:
        """Wrap a transformers causal language model and its tokenizer.

        Raises:
            ModelError: if blocks or chat template cannot be found.
        """
        model.eval()
        template = ChatTemplate(tokenizer, chat_template)
        found = find_blocks(model, blocks)
        config = text_config(model.config)
        identity = ModelIdentity(
            name=name or str(getattr(model.config, "name_or_path", "") or type(model).__name__),
            revision=revision,
            dtype=str(next(model.parameters()).dtype).removeprefix("torch."),
            template=template.fingerprint,
            weights=weights_fingerprint(model),
            n_layers=len(found),
            d_model=int(config.hidden_size),
        )
        return ChatModel(model, template, found, identity)

    @property
    def tokenizer(self) -> Any:
        """The transformers tokenizer."""
        return self.template.tokenizer

    @property
    def device(self) -> torch.device:
        """Where token ids must be put: the device on which the embedding runs."""
        embedding = self.model.get_input_embeddings()
        # Weights that accelerate keeps elsewhere are on no device until they are used.
        hook = getattr(embedding, "_hf_hook", None)
        place = getattr(hook, "execution_device", None)
        return embedding.weight.device if place is None else torch.device(place)

    @property
    def context_length(self) -> int | None:
        """Longest sequence that the model was made for, or None where it does not say."""
        length = getattr(text_config(self.model.config), "max_position_embeddings", None)
        return int(length) if length else None

    @property
    def stop_ids(self) -> frozenset[int]:
        """Token ids that end a reply: the generation configuration's and the tokenizer's."""
        found: set[int] = set()
        generation = getattr(self.model, "generation_config", None)
        for value in (
            getattr(generation, "eos_token_id", None),
            getattr(self.tokenizer, "eos_token_id", None),
        ):
            found.update(value if isinstance(value, (list, tuple)) else [value] if value else [])
        return frozenset(i for i in found if isinstance(i, int))

    def encode(self, texts: Sequence[str], system: str | None = None) -> Tokens:
        """Return the templated texts as tokens: see :meth:`ChatTemplate.encode`."""
        return self.template.encode(texts, system)

    def renamed(self, name: str) -> ChatModel:
        """Return the same model under another name."""
        return replace(self, identity=replace(self.identity, name=name))
