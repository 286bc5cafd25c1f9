"""Guard models as judges: what each is asked and answers is data, one runner asks them all."""

from .judge import GuardJudge, guard_judge
from .spec import GuardSpec, guard_names, load_spec

__all__ = ["GuardJudge", "GuardSpec", "guard_judge", "guard_names", "load_spec"]
