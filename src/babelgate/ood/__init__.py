"""How a gate fares out of its distribution: other prompts, categories, forms, unknown languages.

Pure: prompts and scores in, counted and estimated values out. Missing is NaN.
"""

from .categories import CategoryRow, by_category
from .forms import FormRow, by_form
from .unknown_language import LanguageUnknown, PolicyRow, language_unknown
from .unseen import Dropped, Unseen, seen_by, unseen_set

__all__ = [
    "CategoryRow",
    "Dropped",
    "FormRow",
    "LanguageUnknown",
    "PolicyRow",
    "Unseen",
    "by_category",
    "by_form",
    "language_unknown",
    "seen_by",
    "unseen_set",
]
