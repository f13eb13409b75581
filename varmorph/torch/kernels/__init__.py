"""Compiled kernels: for the CPU with Numba, for CUDA with Triton. Nothing here is imported before one is needed."""
