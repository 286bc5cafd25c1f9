"""Other people's methods, from their formulas: what a gate of ours is compared with."""
