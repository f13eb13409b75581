"""CUDA kernels of the separable window operators, compiled with Triton."""
