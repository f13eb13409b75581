"""Methods in NumPy, which train by themselves."""
