"""Energies of coupled unknowns in JAX: their parts, solvers, adjoints and certificates."""
