"""Reconstruction beside its peers, in one process: see `test_operators`.

One image of 256 x 256 is reconstructed from itself lowered by half its standard deviation, over the 8 neighbours. White
noise has many short paths, a photograph fewer and longer ones. Calls that take seconds are timed once.
"""

import kornia.morphology
import numpy as np
import pytest
import torch
from skimage import data, morphology, transform

import varmorph.torch

every_phase = pytest.mark.parametrize("phase", ["forward", "forward and backward"])


@pytest.fixture(params=["noise", "camera"])
def kind(request):
    return request.param


@pytest.fixture
def marker_and_mask(timed, kind):
    side = 256 if timed else 16
    if kind == "noise":
        image = torch.randn(side, side, generator=torch.Generator().manual_seed(0))
    else:
        image = torch.from_numpy(transform.resize(data.camera(), (side, side), anti_aliasing=True)).float()
    mask = image[None, None]
    return mask - 0.5 * mask.std(), mask


@pytest.fixture
def compare_reconstructions(compare, marker_and_mask, kind):
    def compare_reconstructions(function, implementation, phase, *, once=False):
        leaves = [image.requires_grad_() for image in marker_and_mask]
        operator = f"reconstruction, {kind}"
        compare(operator, function, leaves, implementation=implementation, window=3, phase=phase, once=once)

    return compare_reconstructions


@every_phase
def test_varmorph(compare_reconstructions, phase):
    compare_reconstructions(varmorph.torch.reconstruction, "varmorph", phase)


def test_scikit_image(measure, marker_and_mask, kind):
    marker, mask = (image.squeeze().numpy() for image in marker_and_mask)
    ours = varmorph.torch.reconstruction(*marker_and_mask)
    np.testing.assert_array_equal(morphology.reconstruction(marker, mask), ours.squeeze().numpy())
    measure(
        lambda: morphology.reconstruction(marker, mask),
        operator=f"reconstruction, {kind}",
        implementation="scikit-image",
        phase="forward",
        window=[3, 3],
        shape=list(marker_and_mask[1].shape),
        threads=1,
    )


@every_phase
def test_kornia(compare_reconstructions, marker_and_mask, phase):
    theirs = kornia.morphology.reconstruction
    assert torch.equal(theirs(*marker_and_mask), varmorph.torch.reconstruction(*marker_and_mask))
    compare_reconstructions(theirs, "kornia", phase, once=True)
