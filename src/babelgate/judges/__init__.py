"""Judges: what the outcome of a reply is (refused, answered, degenerate, wrong language)."""

from .base import Judge, Reply, get_judge, judge_names

__all__ = ["Judge", "Reply", "get_judge", "judge_names"]
