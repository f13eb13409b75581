import pytest

from morphobench.settings.studies import GradientStudy
from morphobench.studies.instances import Specification, build

NUMBERS = {
    "variational_dilation": ("separable", 2.0, None, None),
    "variational_erosion": ("separable", -3.0, None, None),
    "regularised_dilation": ("regularised", 2.0, 1.0, 0.1),
    "joint_opening": ("joint", 2.0, 0.5, None),
    "reconstruction": ("geodesic", None, None, None),
}


def make(operator, data="random", size=8, **changed):
    """Build a small instance of an operator."""
    family, level, coupling, ridge = NUMBERS[operator]
    numbers = {
        "family": family,
        "logit_level": level,
        "coupling": coupling,
        "ridge": ridge,
        "edge_smoothing": 0.1,
        **changed,
    }
    return build(Specification(operator=operator, data=data, image_size=size, kernel_size=3, **numbers), 3)


@pytest.fixture(scope="session")
def make_instance():
    return make


@pytest.fixture(scope="session", params=["variational_dilation", "variational_erosion"])
def instance(request):
    return make(request.param)


@pytest.fixture(scope="session")
def gradient_settings():
    """Settings of the gradient study that list few cells."""
    small = {
        "image_sizes": [6],
        "kernel_sizes": [3],
        "logit_levels": [2.0],
        "coupled_levels": [2.0],
        "couplings": [1.0],
    }
    few = {
        "adjoint_tolerances": [1e-6],
        "forward_tolerances": [1e-3],
        "neumann": [2],
        "truncated": [2],
        "unrolled": [2],
    }
    return {**GradientStudy().model_dump(), **small, **few, "steps": [1e-3, 1e-6], "repeats": 1, "coordinates": 4}
