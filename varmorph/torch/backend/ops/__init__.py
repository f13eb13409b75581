"""Operators as PyTorch knows them: custom ops around compiled kernels, with shapes for tracing and rules for autograd."""
