from importlib import import_module

import numpy as np
import pytest
import torch

from morphobench.plugins.discovery import discover_methods
from morphobench.plugins.loading import load_method


@pytest.fixture(scope="session")
def plugin(project):
    """Return a function that gives a module of methods/morpholayers by name."""
    load_method(discover_methods(project.methods)["morpholayers"], "depthwise")
    return lambda name: import_module(f"morphobench_method_morpholayers.{name}")


@pytest.fixture
def images():
    return torch.tensor(np.random.default_rng(0).random((2, 3, 9, 8)))
