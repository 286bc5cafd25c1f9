"""The untouched model's judged replies to train and val prompts: who refuses without any repair."""

from __future__ import annotations

from .action_replies import BaseReplies, base_replies
from .completions import reply_limits
from .config import DiagnoseSettings, DirectionsSettings
from .fit_data import threshold_prompts
from .judges import Judge
from .models.chat import ChatModel
from .plan import Plan, States
from .prompts import take
from .types import Position

#: What both studies of activation space store, so that either finds the other's states.
POSITIONS: tuple[Position, ...] = ("t_inst", "t_post")


def untouched_replies(
    model: ChatModel,
    plan: Plan,
    states: States,
    judge: Judge,
    settings: DiagnoseSettings | DirectionsSettings,
) -> BaseReplies:
    """Return judged replies to ``settings.reply_prompts`` prompts per language, label and split.

    Translations of the same prompts in every language, without a contrast set's twins where there
    is anything else. Kept where a search for actions looks for them, so that each is made once.
    """
    usable = plan.prompts.select(where=lambda p: p.key not in states.excluded)
    parts = [threshold_prompts(usable.select(languages=[x]).prompts) for x in usable.languages]
    plain = {p.key for part in parts for p in part}
    pool = usable.select(where=lambda p: p.key in plain)
    chosen = take(pool, settings.reply_prompts, settings.seed)
    limits = reply_limits(model, plan.prompts, settings.max_new_tokens)
    return base_replies(model, chosen.prompts, judge, settings.out / "actions", limits)
