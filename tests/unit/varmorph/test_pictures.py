"""The pictures of the introduction are there, and are what the script draws."""

import re

import numpy as np
import pytest
import torch

image = pytest.importorskip("PIL.Image", reason="pillow is not installed")
pytest.importorskip("matplotlib", reason="matplotlib is not installed")
pytest.importorskip("skimage", reason="scikit-image is not installed")

from varmorph.pictures import draw  # noqa: E402

HEIGHTS = {"erosion-mean-dilation.png": 314, "opening-closing.png": 314, "regularised.png": 580, "gradients.png": 345}
GREY_LEVELS = 1.0  # between two drawings, on average: letters may be set differently
KILOBYTES = 150


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    draw.draw(folder)
    return folder


def greys(path):
    with image.open(path) as picture:
        return np.asarray(picture.convert("L"), dtype=float)


def test_the_script_draws_every_picture_as_large_as_the_page_expects(drawn):
    assert {path.name: greys(path).shape for path in drawn.iterdir()} == {
        name: (height, draw.WIDTH) for name, height in HEIGHTS.items()
    }


@pytest.mark.parametrize("name", HEIGHTS)
def test_the_committed_picture_is_the_drawn_one(drawn, name):
    committed = draw.FOLDER / name
    assert committed.stat().st_size < KILOBYTES * 1000
    assert np.abs(greys(committed) - greys(drawn / name)).mean() < GREY_LEVELS


def test_the_introduction_shows_exactly_these_pictures():
    text = (draw.FOLDER.parent / "README.md").read_text()
    assert sorted(re.findall(r"!\[[^\]]+\]\(pictures/([^)]+)\)", text)) == sorted(HEIGHTS)


def test_text_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="runs over the side"):
        draw.Canvas(60).write("level " * 60, 0, 30)


def test_the_window_is_a_disk():
    assert (draw.disk(5) == 0).sum(1).tolist() == [3, 5, 5, 5, 3]
    assert torch.isneginf(draw.disk(5)[0, 0])
