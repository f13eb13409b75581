"""CPU kernels of energies whose unknowns are coupled: regularised operators plane by plane, the others edge by edge."""
