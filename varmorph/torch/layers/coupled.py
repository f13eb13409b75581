"""The coupled operators as layers; each keeps the certificate of its last call."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy.typing as npt
import torch
from torch import Tensor, nn

from varmorph.adjoints import Adjoint
from varmorph.arguments import check_joint_penalty, check_positive_number, initial_levels
from varmorph.torch.arguments import check_edge_smoothing
from varmorph.torch.energy.certificates import Certificate
from varmorph.torch.energy.minimisation import Solution
from varmorph.torch.energy.solvers import Solver
from varmorph.torch.layers.window import VariationalLayer2d
from varmorph.torch.operators.coupled import IMPLICIT, NEWTON, joint_closing, joint_opening, regularised_dilation
from varmorph.torch.shapes import Channels, GridWeights, Images
from varmorph.windows import Padding

__all__ = ["JointClosing2d", "JointOpening2d", "RegularisedDilation2d"]


class _Coupled2d(VariationalLayer2d):
    """What the coupled layers share: a solver, an adjoint, and the certificate of the last call."""

    certificate: Certificate | None

    def __init__(
        self,
        channels: int,
        kernel_size: int | Sequence[int] | None,
        solver: Solver,
        adjoint: Adjoint,
        *,
        penalty: str,
        smoothing: float | None,
        rate: int | Sequence[int],
        padding: Padding,
        initial: npt.ArrayLike | None,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        if padding == "valid":
            raise ValueError("padding must keep the size of the image, found 'valid'")
        super().__init__(
            channels, kernel_size, penalty=penalty, smoothing=smoothing, rate=rate, padding=padding,
            initial=initial, device=device, dtype=dtype,
        )  # fmt: skip
        self.solver, self.adjoint = solver, adjoint
        self.certificate = None

    def _options(self) -> dict[str, Any]:
        options = super()._options() | {"solver": self.solver, "adjoint": self.adjoint}
        del options["stride"]
        return options

    def _keep(self, solution: Solution) -> Tensor:
        self.certificate = solution.certificate
        return solution.value

    def extra_repr(self) -> str:
        """Show the arguments that make the layer, defaults left out."""
        parts = [super().extra_repr()]
        parts += [f"solver={self.solver}"] if self.solver != NEWTON else []
        parts += [f"adjoint={self.adjoint}"] if self.adjoint != IMPLICIT else []
        return ", ".join(parts)


class RegularisedDilation2d(_Coupled2d):
    """Variational dilation whose neighbouring outputs are held together, with a learnable strength for each channel.

    Parameters
    ----------
    channels, kernel_size, initial_level, penalty, smoothing, rate, padding, initial, device, dtype
        As in `VariationalDilation2d`.
    initial_coupling : float
        First value of the coupling, > 0.
    edge_penalty, edge_smoothing, ridge, solver, adjoint
        As in `varmorph.torch.regularised_dilation`.

    Attributes
    ----------
    bias, log_weight : (C, kh, kw)
        Offsets, `initial` or zeros at first, and logarithms of the weights, zeros at first.
    logit_level, log_coupling : (C,)
        Logits of the levels, and logarithms of the couplings.
    certificate : Certificate or None
        Of the last call.

    Examples
    --------
    >>> import torch
    >>> layer = RegularisedDilation2d(4, 3, edge_penalty="huber", edge_smoothing=0.1)
    >>> layer(torch.rand(2, 4, 8, 8)).sum().backward()
    >>> layer.certificate.forward.converged, layer.certificate.backward.converged
    (tensor([True, True]), tensor([True, True]))
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int | Sequence[int] | None = None,
        *,
        initial_level: float | Sequence[float] = 2.0,
        initial_coupling: float = 1.0,
        penalty: str = "expectile",
        smoothing: float | None = None,
        edge_penalty: str = "quadratic",
        edge_smoothing: float | None = None,
        ridge: float = 0.0,
        rate: int | Sequence[int] = 1,
        padding: Padding = "geodesic",
        solver: Solver = NEWTON,
        adjoint: Adjoint = IMPLICIT,
        initial: npt.ArrayLike | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            channels, kernel_size, solver, adjoint, penalty=penalty, smoothing=smoothing, rate=rate, padding=padding,
            initial=initial, device=device, dtype=dtype,
        )  # fmt: skip
        check_edge_smoothing(edge_penalty, edge_smoothing, channels, self.bias)
        if not (math.isfinite(ridge) and ridge >= 0):
            raise ValueError(f"ridge must be a number >= 0, found {ridge!r}")
        self.edge_penalty, self.edge_smoothing, self.ridge = edge_penalty, edge_smoothing, ridge
        self.initial_level = initial_levels(initial_level, self.channels)
        self.initial_coupling = check_positive_number("initial_coupling", initial_coupling)
        self.logit_level = nn.Parameter(self.bias.new_empty(channels))
        self.log_coupling = nn.Parameter(self.bias.new_empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start with offsets 0, weights 1, and the initial level and coupling in every channel."""
        super().reset_parameters()
        with torch.no_grad():
            self.logit_level.copy_(torch.as_tensor(self.initial_level))
        nn.init.constant_(self.log_coupling, math.log(self.initial_coupling))

    @property
    def coupling(self) -> Channels:
        """The couplings (channels,), positive."""
        return self.log_coupling.exp()

    def forward(self, x: Images, edge_weights: GridWeights | None = None) -> Images:
        """Apply the operator to (N, channels, H, W); edge weights are (N, 1 or channels, 2, H, W)."""
        solution = regularised_dilation(
            x,
            self.bias,
            self.logit_level,
            self.coupling,
            weight=self.weight,
            edge_weights=edge_weights,
            edge_penalty=self.edge_penalty,
            edge_smoothing=self.edge_smoothing,
            ridge=self.ridge,
            **self._options(),
        )
        return self._keep(solution)

    def extra_repr(self) -> str:
        """Show the arguments that make the layer, defaults left out."""
        parts = [super().extra_repr()]
        if self.edge_penalty != "quadratic":
            parts.append(f"edge_penalty={self.edge_penalty!r}, edge_smoothing={self.edge_smoothing}")
        parts += [f"ridge={self.ridge}"] if self.ridge else []
        return ", ".join(parts)


class _Joint2d(_Coupled2d):
    solve: ClassVar[Callable[..., Solution]]
    signs: ClassVar[tuple[int, int]]

    def __init__(
        self,
        channels: int,
        kernel_size: int | Sequence[int] | None = None,
        *,
        initial_level: float | Sequence[float] = 4.0,
        initial_eta: float = 0.1,
        penalty: str = "expectile",
        smoothing: float | None = None,
        rate: int | Sequence[int] = 1,
        padding: Padding = "geodesic",
        solver: Solver = NEWTON,
        adjoint: Adjoint = IMPLICIT,
        initial: npt.ArrayLike | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_joint_penalty(penalty)
        super().__init__(
            channels, kernel_size, solver, adjoint, penalty=penalty, smoothing=smoothing, rate=rate, padding=padding,
            initial=initial, device=device, dtype=dtype,
        )  # fmt: skip
        self.initial_level = initial_levels(initial_level, self.channels)
        self.initial_eta = check_positive_number("initial_eta", initial_eta)
        self.logit_levels = nn.Parameter(self.bias.new_empty(2, channels))
        self.log_eta = nn.Parameter(self.bias.new_empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start with offsets 0, weights 1, eta, and the initial level with the signs of the operator."""
        super().reset_parameters()
        nn.init.constant_(self.log_eta, math.log(self.initial_eta))
        with torch.no_grad():
            for row, sign in zip(self.logit_levels, self.signs, strict=True):
                row.copy_(sign * torch.as_tensor(self.initial_level))

    @property
    def eta(self) -> Channels:
        """Weights of the second family of edges (channels,), positive."""
        return self.log_eta.exp()

    def forward(self, x: Images) -> Images:
        """Apply the operator to (N, channels, H, W)."""
        arguments = (x, self.bias, self.logit_levels, self.eta)
        return self._keep(type(self).solve(*arguments, weight=self.weight, **self._options()))


class JointOpening2d(_Joint2d):
    """Joint opening; `logit_levels` (2, C) starts at (-initial_level, initial_level), `log_eta` (C,) at log(initial_eta).

    The other arguments and attributes are those of `RegularisedDilation2d`; the operator is `varmorph.torch.joint_opening`.

    Examples
    --------
    >>> import torch
    >>> layer = JointOpening2d(2, 3)
    >>> layer(torch.rand(1, 2, 8, 8)).shape
    torch.Size([1, 2, 8, 8])
    >>> layer.certificate.forward.converged
    tensor([True])
    """

    solve = staticmethod(joint_opening)
    signs = (-1, 1)


class JointClosing2d(_Joint2d):
    """Joint closing; `logit_levels` (2, C) starts at (initial_level, -initial_level). Arguments as `JointOpening2d`.

    Examples
    --------
    >>> import torch
    >>> layer = JointClosing2d(1, 3, initial_level=9.0, initial_eta=1e-3)
    >>> layer(torch.tensor([[[[2.0, 0.0, 2.0]]]])).round(decimals=2).detach()
    tensor([[[[2., 2., 2.]]]])
    """

    solve = staticmethod(joint_closing)
    signs = (1, -1)
