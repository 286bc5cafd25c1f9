"""Transfer of refusal directions: the direction of one language, its effect on another.

A direction is projected out everywhere, or added at its block, and refusals are counted before and
after on the same prompts, beside controls that carry no refusal (Wang et al. 2025, arXiv
2505.17306: one language's direction in fourteen). :func:`.run.transfer_matrix` does all of it;
:mod:`.results` is what it returns.
"""
