"""The coupled operators as Equinox layers; `solve` gives the certificate too."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy.typing as npt

from varmorph.adjoints import Adjoint
from varmorph.arguments import Size, check_edge_penalty, check_joint_penalty, check_positive_number
from varmorph.jax.energy.minimisation import Solution, checked_methods
from varmorph.jax.energy.solvers import Solver
from varmorph.jax.layers.single_images import on_batches
from varmorph.jax.layers.window import VariationalLayer2d
from varmorph.jax.operators.coupled import IMPLICIT, NEWTON, joint_closing, joint_opening, regularised_dilation
from varmorph.jax.shapes import ChannelLevels, Channels, GridWeights, GridWeightsOfImage, Image, Images, Key
from varmorph.windows import Padding

__all__ = ["JointClosing2d", "JointOpening2d", "RegularisedDilation2d"]


class _Coupled2d(VariationalLayer2d):
    """What the coupled layers share: a solver and an adjoint."""

    solver: Solver = eqx.field(static=True)
    adjoint: Adjoint = eqx.field(static=True)

    def __init__(
        self,
        channels: int,
        kernel_size: Size | None = None,
        *,
        initial_level: float | Sequence[float],
        penalty: str = "expectile",
        smoothing: float | None = None,
        rate: Size = 1,
        padding: Padding = "geodesic",
        solver: Solver = NEWTON,
        adjoint: Adjoint = IMPLICIT,
        initial: npt.ArrayLike | None = None,
    ) -> None:
        if padding == "valid":
            raise ValueError("padding must keep the size of the image, found 'valid'")
        options: dict[str, Any] = {"initial_level": initial_level, "penalty": penalty, "smoothing": smoothing}
        super().__init__(channels, kernel_size, rate=rate, padding=padding, initial=initial, **options)
        self.solver, self.adjoint = checked_methods(solver, adjoint)

    def _options(self) -> dict[str, Any]:
        options = super()._options() | {"solver": self.solver, "adjoint": self.adjoint}
        del options["stride"]
        return options


class RegularisedDilation2d(_Coupled2d):
    """Variational dilation whose neighbouring outputs are held together, with a learnable strength for each channel.

    Parameters
    ----------
    channels, kernel_size, initial_level, penalty, smoothing, rate, padding, initial
        As in `VariationalDilation2d`.
    initial_coupling : float, default 1
        First value of the coupling, > 0.
    edge_penalty, edge_smoothing, ridge, solver, adjoint
        As in `varmorph.jax.regularised_dilation`.

    Attributes
    ----------
    bias, log_weight : (C, kh, kw)
        Offsets, `initial` or zeros at first, and logarithms of the weights, zeros at first.
    logit_level, log_coupling : (C,)
        Logits of the levels, and logarithms of the couplings.

    Examples
    --------
    >>> import jax
    >>> from varmorph.jax import solve_with_pullback
    >>> layer = RegularisedDilation2d(4, 3, edge_penalty="huber", edge_smoothing=0.1)
    >>> x = jax.random.uniform(jax.random.key(0), (2, 4, 8, 8))
    >>> value, pullback, certificate = solve_with_pullback(lambda layer, x: layer.solve(x), layer, x)
    >>> gradients, backward = pullback(jax.numpy.ones_like(value))
    >>> certificate.forward.converged, backward.converged
    (Array([ True,  True], dtype=bool), Array([ True,  True], dtype=bool))
    """

    logit_level: Channels
    log_coupling: Channels
    edge_penalty: str = eqx.field(static=True)
    edge_smoothing: float | None = eqx.field(static=True)
    ridge: float = eqx.field(static=True)
    initial_coupling: float = eqx.field(static=True)

    def __init__(
        self,
        channels: int,
        kernel_size: Size | None = None,
        *,
        initial_level: float | Sequence[float] = 2.0,
        initial_coupling: float = 1.0,
        edge_penalty: str = "quadratic",
        edge_smoothing: float | None = None,
        ridge: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(channels, kernel_size, initial_level=initial_level, **options)
        check_edge_penalty(edge_penalty, edge_smoothing)
        if not (math.isfinite(ridge) and ridge >= 0):
            raise ValueError(f"ridge must be a number >= 0, found {ridge!r}")
        self.edge_penalty, self.edge_smoothing, self.ridge = edge_penalty, edge_smoothing, ridge
        self.logit_level = self._first_levels()
        self.initial_coupling = check_positive_number("initial_coupling", initial_coupling)
        self.log_coupling = jnp.full(channels, math.log(self.initial_coupling))

    @property
    def coupling(self) -> Channels:
        """The couplings (channels,), positive."""
        return jnp.exp(self.log_coupling)

    def solve(self, x: Images, edge_weights: GridWeights | None = None) -> Solution:
        """Apply the operator to (N, channels, H, W), with its certificate; edge weights are (N, 1 or channels, 2, H, W)."""
        return regularised_dilation(
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

    def __call__(
        self, x: Images | Image, edge_weights: GridWeights | GridWeightsOfImage | None = None, *, key: Key | None = None
    ) -> Images | Image:
        """Apply the operator as `solve` does, without its certificate, or to a single image (channels, H, W); no key is needed."""
        if x.ndim == 3:
            return self.solve(x[None], None if edge_weights is None else edge_weights[None]).value[0]
        return self.solve(x, edge_weights).value


class _Joint2d(_Coupled2d):
    joint: ClassVar[Callable[..., Solution]]
    signs: ClassVar[tuple[int, int]]

    logit_levels: ChannelLevels
    log_eta: Channels
    initial_eta: float = eqx.field(static=True)

    def __init__(
        self,
        channels: int,
        kernel_size: Size | None = None,
        *,
        initial_level: float | Sequence[float] = 4.0,
        initial_eta: float = 0.1,
        penalty: str = "expectile",
        **options: Any,
    ) -> None:
        check_joint_penalty(penalty)
        super().__init__(channels, kernel_size, initial_level=initial_level, penalty=penalty, **options)
        self.logit_levels = jnp.array(self.signs, float)[:, None] * self._first_levels()
        self.initial_eta = check_positive_number("initial_eta", initial_eta)
        self.log_eta = jnp.full(channels, math.log(self.initial_eta))

    @property
    def eta(self) -> Channels:
        """Weights of the second family of edges (channels,), positive."""
        return jnp.exp(self.log_eta)

    def solve(self, x: Images) -> Solution:
        """Apply the operator to (N, channels, H, W), with its certificate."""
        return type(self).joint(x, self.bias, self.logit_levels, self.eta, weight=self.weight, **self._options())

    def __call__(self, x: Images | Image, *, key: Key | None = None) -> Images | Image:
        """Apply the operator as `solve` does, without its certificate, or to a single image (channels, H, W); no key is needed."""
        return on_batches(lambda x: self.solve(x).value, x)


class JointOpening2d(_Joint2d):
    """Joint opening; `logit_levels` (2, C) starts at (-initial_level, initial_level), `log_eta` (C,) at log(initial_eta).

    The other arguments and attributes are those of `RegularisedDilation2d`; the operator is `varmorph.jax.joint_opening`.

    Examples
    --------
    >>> import jax
    >>> layer = JointOpening2d(2, 3)
    >>> solution = layer.solve(jax.random.uniform(jax.random.key(0), (1, 2, 8, 8)))
    >>> solution.value.shape, solution.certificate.forward.converged
    ((1, 2, 8, 8), Array([ True], dtype=bool))
    """

    joint = staticmethod(joint_opening)
    signs = (-1, 1)


class JointClosing2d(_Joint2d):
    """Joint closing; `logit_levels` (2, C) starts at (initial_level, -initial_level). Arguments as `JointOpening2d`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> layer = JointClosing2d(1, 3, initial_level=9.0, initial_eta=1e-3)
    >>> layer(jnp.array([[[[2.0, 0.0, 2.0]]]])).round(2)
    Array([[[[2., 2., 2.]]]], dtype=float32)
    """

    joint = staticmethod(joint_closing)
    signs = (1, -1)
