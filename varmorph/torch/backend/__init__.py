"""What computes: tensor code, compiled CPU kernels, Triton."""
