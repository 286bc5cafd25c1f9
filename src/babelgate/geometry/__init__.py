"""How languages place harm and refusal in the residual stream. Pure: arrays in, values out.

``driver`` reads one layer at a time and calls the rest. ``results`` and ``rows`` hold what comes
out and need numpy only, so that reports can read them.
"""
