"""Section on nonsmooth differentiation."""
