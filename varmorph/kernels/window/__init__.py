"""CPU kernels of the separable window operators: in lanes where all pixels see the same shifts, else pixel by pixel."""
