"""Formulas that stand once for both frameworks, written with the namespace `xp`: `jax.numpy`, or PyTorch under its names."""
