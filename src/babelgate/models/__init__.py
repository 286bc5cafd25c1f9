"""Chat models: loading, tokens, blocks and hooks."""

from .chat import ChatModel
from .loading import load_model
from .template import ChatTemplate, Tokens

__all__ = ["ChatModel", "ChatTemplate", "Tokens", "load_model"]
