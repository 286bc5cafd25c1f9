"""Comparing methods fairly: the same prompts, labels, seeds, judge and base replies for all.

A method is a rule that decides (or none) and two treatments. A treatment's reply to a prompt does
not depend on who decided, so each is generated once and shared by all methods and seeds that need
it; adding a method computes only what nobody has needed before.
"""
