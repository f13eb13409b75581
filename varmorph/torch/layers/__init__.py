"""Morphological layers for PyTorch."""
