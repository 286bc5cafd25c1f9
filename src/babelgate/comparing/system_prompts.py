"""A system prompt that asks for refusals, in the prompt's language: the cheapest rival.

Written by language models for this project and not reviewed by native speakers of every language.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources


@cache
def safety_prompts() -> dict[str, str]:
    """Return the system prompt of every language that there is one for."""
    file = resources.files("babelgate.comparing") / "data" / "system_prompts.json"
    return json.loads(file.read_text(encoding="utf-8"))
