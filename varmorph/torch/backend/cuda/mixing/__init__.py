"""CUDA kernels of the operators that mix channels, compiled with Triton."""
