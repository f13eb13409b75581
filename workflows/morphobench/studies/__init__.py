"""The studies: how exact the gradients of the operators are, and what their solvers cost.

The only part of the suite that imports `varmorph`; the command line imports the modules of this package when a study
is run, since they start PyTorch.
"""
