"""Section on what methods have learned: structuring functions, weights, levels."""
