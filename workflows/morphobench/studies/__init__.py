"""The studies, a package each: how exact gradients are, what solvers cost, what operators find again, what holds at kinks.

The only part of the suite that imports `varmorph`; the command line imports the modules of this package when a study
is run, since they start a framework.
"""
