"""Attacks on images: projected gradient descent in the sup norm (Madry et al., ICLR 2018), judged in float64.

The steps run in float32; what they find is brought back into the ball and to pixels in [0, 1] in float64, and counts where the network in
float64, the one that certificates speak of, is wrong there.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from morphobench.training.loop import centred
from morphobench.training.torch.lipschitz import margins

__all__ = ["LOSSES", "accurate", "broken_by_attack"]

BATCH = 128
FIRST_SHARE = 2.5  # of the ball, that all steps together could walk: Madry et al.


def _cross_entropy(scores: Tensor, truth: Tensor) -> Tensor:
    # Networks whose scores are bounded by construction have gradients of nearly the same direction at every scale; a scale of the
    # scores themselves keeps the softmax from being flat, or from saturating.
    size = scores.detach().std(1, keepdim=True).clamp(min=1e-6)
    return nn.functional.cross_entropy(scores / size, truth, reduction="sum")


def _margin(scores: Tensor, truth: Tensor) -> Tensor:
    return -margins(scores, truth).sum()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"cross-entropy": _cross_entropy, "margin": _margin}


def accurate(model: nn.Module, images: Tensor, truth: Tensor) -> Tensor:
    """Tell which images (N, C, H, W) in [0, 1] the model takes for what they are, (N,); in the type of the images."""
    with torch.no_grad():
        parts = [model(centred(part)).argmax(1) for part in images.split(BATCH)]
    return torch.cat(parts) == truth if parts else truth.new_zeros(0, dtype=torch.bool)


def broken_by_attack(
    fast: nn.Module,
    exact: nn.Module,
    images: Tensor,
    truth: Tensor,
    epsilon: float,
    *,
    steps: int,
    restarts: int,
    seed: int,
) -> Tensor:
    """Tell which images an attack takes away from the truth, (N,).

    Parameters
    ----------
    fast, exact : Module
        The same network in evaluation mode, in float32 and in float64.
    images, truth : Tensor
        (N, C, H, W) in [0, 1], float64, and (N,).
    epsilon : float
        Radius of the ball in the sup norm.
    steps, restarts : int
        Steps of each start, and random starts for each of `LOSSES`. An image that is broken is not attacked again.
    seed : int
        Of the starts.
    """
    generator = torch.Generator().manual_seed(seed)
    broken = ~accurate(exact, images, truth)
    for _ in range(restarts):
        for loss in LOSSES.values():
            start = 2 * torch.rand(images.shape, generator=generator, dtype=torch.float64) - 1
            for some in (~broken).nonzero().flatten().split(BATCH):
                broken[some] = _attacked(fast, exact, images[some], truth[some], epsilon, steps, loss, start[some])
    return broken


def _attacked(
    fast: nn.Module,
    exact: nn.Module,
    images: Tensor,
    truth: Tensor,
    epsilon: float,
    steps: int,
    loss: Callable[[Tensor, Tensor], Tensor],
    start: Tensor,
) -> Tensor:
    """Attack some images from one start."""
    low, high = (images - epsilon).clamp(min=0), (images + epsilon).clamp(max=1)

    def inside(changed: Tensor) -> Tensor:
        return torch.maximum(torch.minimum(changed.double(), high), low)

    changed, length = inside(images + epsilon * start), FIRST_SHARE * epsilon / steps
    found, going = torch.zeros(len(images), dtype=torch.bool), torch.arange(len(images))
    for step in range(steps + 1):
        leaf = changed[going].float().requires_grad_()
        scores = fast(centred(leaf))
        wrong = scores.detach().argmax(1) != truth[going]
        if bool(wrong.any()):
            found[going[wrong]] = ~accurate(exact, changed[going[wrong]], truth[going[wrong]])
        if step == steps or bool(found.all()):
            break
        (gradient,) = torch.autograd.grad(loss(scores, truth[going]), leaf)
        moved = changed.clone()
        moved[going] = changed[going] + length * gradient.double().sign()
        changed, going = inside(moved), (~found).nonzero().flatten()
    return found
