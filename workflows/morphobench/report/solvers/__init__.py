"""Section on the cost of layers and solvers."""
