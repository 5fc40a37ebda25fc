"""Weights on the grids of the runtimes that will read them: how they round, how a training learns to live with it."""
