"""CPU kernels, compiled with Numba: what all of them share, and those of reconstruction and of graphs."""
