"""Energies of coupled unknowns in PyTorch: their parts, solvers, adjoints and certificates."""
