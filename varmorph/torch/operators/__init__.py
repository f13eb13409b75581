"""Morphological operators as functions for PyTorch."""
