"""Morphological layers for JAX."""
