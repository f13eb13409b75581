"""Variational mathematical morphology: differentiable operators as energy minimisation on a graph.

`varmorph.reference` is the executable specification (NumPy, SciPy, float64); `varmorph.torch` has the operators and layers
for PyTorch, `varmorph.jax` those for JAX, and `varmorph.convert` carries layers over. Importing `varmorph` alone loads
neither NumPy nor a framework.
"""

__version__ = "0.1.0"
