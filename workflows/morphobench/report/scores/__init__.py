"""Section on scores: ranks, differences, curves, sweeps, segmentations, and what is known from elsewhere."""
