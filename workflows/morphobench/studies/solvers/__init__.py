"""The study of what layers and solvers cost."""
