"""Prompt sets: where they come from, what is in them, and what is wrong with them."""

from .audit import Audit, audit, print_audit
from .jsonl import read_csv, read_jsonl, write_prompts
from .leakage import Duplicate, leaks
from .sample import require, take
from .sources import load_prompts

__all__ = [
    "Audit",
    "Duplicate",
    "audit",
    "leaks",
    "load_prompts",
    "print_audit",
    "read_csv",
    "read_jsonl",
    "require",
    "take",
    "write_prompts",
]
