"""CPU kernels of the operators that mix channels."""
