"""The study of nonsmooth differentiation."""
