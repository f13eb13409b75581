"""Operators whose outputs are computed one by one in PyTorch: suprema, expectiles, quantiles."""
