"""Two nonsmooth minimisers as spatial operators. Each keeps the certificate of its last call and tells its active set."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from varmorph.torch import Implicit, Newton, RegularisedDilation2d
from varmorph.torch.energy.certificates import Certificate
from varmorph.torch.lasso import sparse_code

# Accuracies of single precision that training needs.
GAP = 1e-5
SOLVER, ADJOINT = Newton(tolerance=1e-4), Implicit(tolerance=1e-3)


class SparseWindows(nn.Module):
    """Each window of each channel is coded by the lasso; a channel reads its value off the code.

    Parameters
    ----------
    channels, kernel_size : int
        The window holds kernel_size^2 values of one channel; beyond the image there are zeros.
    atoms : int
        Size m of the dictionary, which all channels share; its atoms have norm 1.
    initial_strength, ridge : float
        First weight of the absolute values, learned for each channel; weight of the squares, fixed.

    Attributes
    ----------
    dictionary : (kernel_size^2, m)
        Atoms before they are normalised.
    log_strength : (C,)
        Logarithms of the weights of the absolute values.
    readout : (C, m)
        What each atom adds to the output.
    certificate : Certificate or None
        Of the last call, an entry a window.
    """

    certificate: Certificate | None

    def __init__(self, channels: int, kernel_size: int, *, atoms: int, initial_strength: float, ridge: float) -> None:
        super().__init__()
        self.kernel_size, self.ridge = kernel_size, ridge
        self.dictionary = nn.Parameter(torch.randn(kernel_size**2, atoms))
        self.log_strength = nn.Parameter(torch.full((channels,), math.log(initial_strength)))
        self.readout = nn.Parameter(torch.randn(channels, atoms) / math.sqrt(atoms))
        self.certificate = None
        self.code: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        n, c, h, w = x.shape
        before, after = self.kernel_size // 2, self.kernel_size - 1 - self.kernel_size // 2
        padded = F.pad(x.reshape(n * c, 1, h, w), (before, after, before, after))
        windows = F.unfold(padded, self.kernel_size).view(n, c, -1, h * w).movedim(2, 3)
        # The code of x at strength s is s times the code of x / s at strength 1: so all channels are solved at once.
        strength = self.log_strength.exp()[:, None, None]
        atoms = self.dictionary / self.dictionary.norm(dim=0)
        solution = sparse_code((windows / strength).flatten(0, 2), atoms, 1.0, ridge=self.ridge, tolerance=GAP)
        self.certificate, self.code = solution.certificate, solution.unknowns
        code = strength * solution.value.view(n, c, h * w, -1)
        return (code * self.readout[:, None]).sum(-1).view(n, c, h, w)

    def active_set(self) -> Tensor:
        """Tell the sign of each coefficient of the last call, int8 (windows, m)."""
        if self.code is None:
            raise RuntimeError("active_set: the layer has not been called yet")
        return self.code.sign().to(torch.int8)


class WeightedTotalVariation(RegularisedDilation2d):
    """Regularised dilation whose lateral edges pay total variation, less where the image jumps.

    The weight of the edge between pixels i and j of a channel is sigmoid(a - b |x_i - x_j|), a and b learned: the image says
    where the output may jump. Huber's penalty with a small smoothing stands for the absolute value.

    Parameters
    ----------
    channels, kernel_size : int
        As in `varmorph.torch.RegularisedDilation2d`.
    initial_level : float
        Of the first half of the channels; the second half starts at its negative, as an erosion.
    initial_coupling, edge_smoothing, ridge : float
        First strength of the total variation, its smoothing, and the pull towards the image.

    Attributes
    ----------
    edge_offset, edge_contrast : (C,)
        a and b.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        *,
        initial_level: float,
        initial_coupling: float,
        edge_smoothing: float,
        ridge: float,
    ) -> None:
        super().__init__(
            channels,
            kernel_size,
            initial_level=initial_level,
            initial_coupling=initial_coupling,
            edge_penalty="huber",
            edge_smoothing=edge_smoothing,
            ridge=ridge,
            solver=SOLVER,
            adjoint=ADJOINT,
        )
        with torch.no_grad():
            self.logit_level[channels // 2 :].neg_()
        nn.init.normal_(self.bias, std=0.3)  # as backbone-variational starts
        self.edge_offset = nn.Parameter(torch.full((channels,), 2.0))
        self.edge_contrast = nn.Parameter(torch.ones(channels))
        self.value: Tensor | None = None

    def forward(self, x: Tensor, edge_weights: Tensor | None = None) -> Tensor:
        """Map (N, C, H, W) to the same shape; edge weights are those of the class unless they are given."""
        if edge_weights is None:
            edge_weights = self.edge_weights(x)
        y = super().forward(x, edge_weights)
        self.value = y.detach()
        return y

    def edge_weights(self, x: Tensor) -> Tensor:
        """Return the weights (N, C, 2, H, W): to the pixel below and to the one at the right."""
        below, right = F.pad(x.diff(dim=-2), (0, 0, 0, 1)), F.pad(x.diff(dim=-1), (0, 1))
        jumps = torch.stack((below, right), dim=2).abs()
        offset, contrast = self.edge_offset.view(-1, 1, 1, 1), self.edge_contrast.view(-1, 1, 1, 1)
        return torch.sigmoid(offset - contrast * jumps)

    def active_set(self) -> Tensor:
        """Tell on which piece each lateral edge of the last call lies: -1, 0 (quadratic) or 1, int8 (planes, edges)."""
        if self.value is None:
            raise RuntimeError("active_set: the layer has not been called yet")
        planes = self.value.flatten(0, 1)
        differences = torch.cat([planes.diff(dim=axis).flatten(1) for axis in (-2, -1)], dim=1)
        return (differences.sign() * (differences.abs() > self.edge_smoothing)).to(torch.int8)
