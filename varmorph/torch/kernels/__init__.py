"""Compiled CPU kernels of the separable operators. Nothing here is imported before a kernel is needed."""
