"""CPU kernels of any energy of coupled unknowns: sums over edges of every kind, and linear systems with their Laplacian."""
