"""Operators whose outputs are computed one by one in JAX: suprema, expectiles, quantiles."""
