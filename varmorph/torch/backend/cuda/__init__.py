"""CUDA kernels of the separable window operators and of those that mix channels, compiled with Triton."""
