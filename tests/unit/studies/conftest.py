import numpy as np
import pytest

from morphobench.studies.instances import Instance, gradient_instances, kink_instances

SETTINGS = {"image_size": 8, "kernel_sizes": [3], "logit_levels": [-3.0, 2.0], "data": ["random"], "seed": 3}


@pytest.fixture(scope="session", params=[0, 1, 2, 3], ids=["dilation-3", "dilation+2", "erosion-3", "erosion+2"])
def instance(request):
    return list(gradient_instances(SETTINGS))[request.param]


@pytest.fixture(scope="session", params=[0, 1, 2, 3], ids=["dilation-3", "dilation+2", "erosion-3", "erosion+2"])
def tied(request):
    return list(kink_instances(SETTINGS))[request.param]


@pytest.fixture(scope="session")
def spaced():
    """One row of well separated values, so that the active set holds for steps up to 1e-2."""
    x = np.array([[[[0.0, 3.0, 1.0, 7.0, 2.0, 11.0]]]])
    bias = np.array([[[0.25, 0.0, -0.5]]])
    weight = np.array([[[0.75, 1.25, 1.0]]])
    cotangent = np.array([[[[1.0, -0.5, 2.0, 0.5, -1.0, 1.5]]]])
    return Instance("spaced", "variational_dilation", "random", x, bias, weight, np.array([1.5]), cotangent)
