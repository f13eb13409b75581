"""Morphological operators as functions for JAX."""
