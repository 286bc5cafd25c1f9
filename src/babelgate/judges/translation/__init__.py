"""Translation into English, for judges that read nothing else; failures are never judged as text.

Import ``Seq2SeqTranslator`` from ``.seq2seq`` (it needs torch) and ``ApiTranslator`` from ``.api``.
"""

from .base import Translation, Translator, problem, translate
from .judge import TranslatedJudge

__all__ = ["TranslatedJudge", "Translation", "Translator", "problem", "translate"]
