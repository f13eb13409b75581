"""Every line of the table in the README of the library gives what the line of another library gives."""

from importlib.metadata import version

import cv2
import kornia.morphology
import numpy as np
import pytest
import scipy.ndimage
import skimage.morphology
import torch
from elsewhere import FIXTURES, WINDOWS, arrays, read_table

import varmorph.torch
from varmorph import structuring

VERSIONS, LINES = read_table()
LIBRARIES = {"kornia": kornia, "scipy": scipy, "skimage": skimage, "cv2": cv2, "np": np, "tensor": torch.tensor}
OURS = {
    **{name: getattr(module, name) for module in (varmorph.torch, structuring) for name in module.__all__},
    **{"varmorph": varmorph, "np": np, "tensor": torch.tensor},
}


@pytest.fixture(scope="module")
def fixtures():
    with np.load(FIXTURES) as file:
        return dict(file)


def with_image_of_pytorch(drawn):
    return {**drawn, "x": torch.tensor(drawn["image"])[None, None]}


def what_tensorflow_gave(fixtures, line, window):
    assert f"{line.there} {window}" in fixtures, "run tests/fixtures/elsewhere/make_fixtures.py: the line was changed"
    drawn = {name: fixtures[f"{name} {window}"] for name in ("image", "b")}
    return drawn, fixtures[f"{line.there} {window}"]


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("line", LINES, ids=lambda line: line.there)
def test_both_columns_give_the_same(line, window, fixtures):
    if line.library == "TensorFlow":
        drawn, theirs = what_tensorflow_gave(fixtures, line, window)
    else:
        drawn = with_image_of_pytorch(arrays(window))
        theirs = eval(line.there, LIBRARIES | drawn)
    ours = eval(line.here, OURS | with_image_of_pytorch(drawn))
    assert ours.dtype in (torch.float64, torch.bool)
    np.testing.assert_array_equal(ours[0, 0], np.asarray(theirs).squeeze())


def test_opencv_gives_the_greatest_number_where_a_window_holds_no_pixel():
    image, after = np.zeros((1, 2)), np.array([[0, 0, 1]], np.uint8)
    function = torch.tensor(structuring.flat(after))
    greatest = np.finfo(np.float64).max
    np.testing.assert_array_equal(cv2.dilate(image, after), [[0.0, -greatest]])
    np.testing.assert_array_equal(
        varmorph.torch.dilation(torch.tensor(image)[None, None], function)[0, 0], [[0, -np.inf]]
    )


def test_the_table_speaks_of_all_five_libraries():
    assert set(VERSIONS) == {"kornia", "SciPy", "scikit-image", "OpenCV", "TensorFlow"}
    assert {line.library for line in LINES} == set(VERSIONS)


@pytest.mark.parametrize(
    ("library", "distribution"),
    [("kornia", "kornia"), ("SciPy", "scipy"), ("scikit-image", "scikit-image"), ("OpenCV", "opencv-python-headless")],
)
def test_the_table_names_the_versions_that_it_is_tested_with(library, distribution):
    assert VERSIONS[library] == version(distribution)


def test_the_table_names_the_version_of_tensorflow_that_wrote_the_fixtures(fixtures):
    assert VERSIONS["TensorFlow"] == str(fixtures["version"])
