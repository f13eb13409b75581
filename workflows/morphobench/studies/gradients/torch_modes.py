"""The modes of the gradient study in PyTorch."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import varmorph.torch
from morphobench.studies.cells import Cell, Row
from morphobench.studies.gradients.coupled_methods import methods
from morphobench.studies.gradients.difference_rows import DifferenceRows
from morphobench.studies.gradients.finite_differences import Hull
from morphobench.studies.gradients.perturbations import by_channel
from morphobench.studies.gradients.rows import HULL_TOLERANCE, Differentiated, mode_rows
from morphobench.studies.instances import Instance
from morphobench.studies.measurement import Repeated
from morphobench.studies.reference import solve_reference
from morphobench.studies.torch_measurement import clock_for, saved_bytes
from morphobench.studies.torch_unrolling import gradient_step, neighbours, newton_step, newton_updates, unrolled
from varmorph.convergence import ConvergenceWarning

__all__ = ["TorchInstance", "apply", "differentiate"]

SEPARABLE_STEPS = {"newton": newton_step, "gradient-descent": gradient_step}
IMPLICIT = {
    "mode": "implicit",
    "value": 1e-12,
    "backend": "kernels",
    "dtype": "float64",
    "forward_tolerance": None,
    "step": None,
    "steps": None,
}


class Applied(NamedTuple):
    """The differentiable output, all unknowns, the certificate of a coupled operator and the count of iterations."""

    value: Tensor
    unknowns: Tensor
    certificate: varmorph.torch.Certificate | None
    iterations: int | None


class TorchInstance:
    """An instance of the gradient study in PyTorch (`morphobench.studies.cells.OpenInstance`)."""

    def __init__(self, instance: Instance, device: str, limit: int) -> None:
        self.instance, self.device, self.limit = instance, device, limit
        self.reference, self.clock = solve_reference(instance), clock_for(device)
        self.found: dict[str, Differentiated] = {}
        self.hulls: dict[str, dict[str, tuple[float, float]]] = {}
        self.differences: dict[str, DifferenceRows] = {}

    @cached_property
    def hull(self) -> Hull:
        """The test at ties, whose one-sided derivatives serve all modes."""
        return Hull(self.instance, self.solve, self.limit)

    def prepare(self, cell: Cell) -> None:
        """Differentiate once; at ties, test the hull."""
        mode = cell.settings
        with _quiet():
            if mode["mode"] == "finite-differences":
                rows = DifferenceRows(mode, self.instance, self.reference, self.limit, self.solve)
                self.differences[cell.name] = rows
                return
            self.found[cell.name] = differentiate(self.instance, mode, self.device)
            self.hulls[cell.name] = {}
            if self.reference.ties:
                gradients = differentiate(self.hull.rows, mode, self.device).gradients
                by_output = {name: by_channel(gradient) for name, gradient in gradients.items()}
                self.hulls[cell.name] = self.hull.test(by_output, HULL_TOLERANCE[mode["dtype"]])

    def measure(self, cell: Cell) -> Mapping[str, float]:
        """Time one forward and backward pass together; of finite differences, each step."""
        with _quiet():
            if cell.name in self.differences:
                return self.differences[cell.name].measure(self.clock)
            leaves = _leaves(self.instance, cell.settings["dtype"], self.device)
            cotangent = _tensor(self.instance.cotangent, cell.settings["dtype"], self.device)
            return {"all": self.clock.measure(lambda: self._pass(cell.settings, leaves, cotangent))[1]}

    def rows(self, cell: Cell, repeated: Repeated) -> list[Row]:
        """Return one row a parameter group; of finite differences, a row a step."""
        settings = {**cell.settings, "backend": backend_name(self.instance, cell.settings["backend"], self.device)}
        if cell.name in self.differences:
            return self.differences[cell.name].rows({**settings, "backend": "auto"}, repeated)
        found, hulls = self.found[cell.name], self.hulls[cell.name]
        return mode_rows(settings, self.instance, self.reference, found, repeated.seconds.get("all", []), hulls)

    def solve(self, batch: Instance, start: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Solve a batch of problems to the precision of float64."""
        arguments = {name: _tensor(value, "float64", self.device) for name, value in batch.arguments.items()}
        begin = None if start is None else _tensor(start, "float64", self.device)
        with torch.no_grad():
            found = apply(batch, IMPLICIT, arguments, begin)
        return found.value.cpu().numpy(), found.unknowns.cpu().numpy()

    def _pass(self, mode: Mapping[str, Any], leaves: Mapping[str, Tensor], cotangent: Tensor) -> dict[str, Tensor]:
        return gradients_of(apply(self.instance, mode, leaves).value, leaves, cotangent)


def apply(
    instance: Instance, mode: Mapping[str, Any], arguments: Mapping[str, Tensor], start: Tensor | None = None
) -> Applied:
    """Apply the operator of an instance so that automatic differentiation goes the way of the mode."""
    kernels = mode["backend"] == "kernels"
    with varmorph.torch.backend("auto" if kernels else mode["backend"]):
        if instance.family == "separable":
            return _separable(instance, mode, arguments)
        function = getattr(varmorph.torch, instance.operator)
        if instance.family == "geodesic":
            value = function(**arguments) if mode["mode"] == "implicit" else _reconstructed(mode["steps"], **arguments)
            return Applied(value, value.detach(), None, mode["steps"])
        solver, adjoint = methods(varmorph.torch, mode)
        found = function(**arguments, **instance.options, solver=solver, adjoint=adjoint, start=start)
        iterations = int(found.certificate.forward.iterations.max())
        return Applied(found.value, found.unknowns, found.certificate, iterations)


def _separable(instance: Instance, mode: Mapping[str, Any], arguments: Mapping[str, Tensor]) -> Applied:
    function, steps = getattr(varmorph.torch, instance.operator), mode["steps"]
    if mode["mode"] == "implicit":
        value = function(**arguments)
        return Applied(value, value.detach(), None, None)
    window = neighbours(**arguments, erosion=instance.operator == "variational_erosion")
    step = SEPARABLE_STEPS[mode["step"]]
    if mode["mode"] == "unrolled":
        value = unrolled(window, steps, step)
        return Applied(value, value.detach(), None, steps)
    with torch.no_grad():
        value = function(**arguments)
    for _ in range(steps):
        value = step(window, value)
    return Applied(value, value.detach(), None, None)


def _reconstructed(steps: int, marker: Tensor, mask: Tensor, bias: Tensor) -> Tensor:
    """Iterate u <- min(mask, dilation(u)); the offset at the origin is 0 and no parameter."""
    off_centre = torch.ones_like(bias)
    off_centre[:, bias.shape[1] // 2, bias.shape[2] // 2] = 0.0
    u = torch.minimum(marker, mask)
    for _ in range(steps):
        u = torch.minimum(mask, varmorph.torch.dilation(u, bias * off_centre))
    return u


def differentiate(instance: Instance, mode: Mapping[str, Any], device: str = "cpu") -> Differentiated:
    """Differentiate an instance once and read the certificates."""
    leaves = _leaves(instance, mode["dtype"], device)
    found, kept = saved_bytes(lambda: apply(instance, mode, leaves))
    gradients = gradients_of(found.value, leaves, _tensor(instance.cotangent, mode["dtype"], device))
    iterations, certificate = found.iterations, found.certificate
    if instance.family == "separable" and iterations is None:
        iterations = newton_updates(neighbours(**leaves, erosion=instance.operator == "variational_erosion"))[1]
    backward = None if certificate is None else certificate.backward
    return Differentiated(
        _array(found.value),
        _array(found.unknowns),
        {name: _array(gradient) for name, gradient in gradients.items()},
        iterations=iterations,
        forward_residual=None if certificate is None else float(certificate.forward.residual.max()),
        adjoint_iterations=None if backward is None else int(backward.iterations.max()),
        certificate=None if backward is None else float(backward.residual.max()),
        peak_bytes=kept,
    )


def gradients_of(value: Tensor, leaves: Mapping[str, Tensor], cotangent: Tensor) -> dict[str, Tensor]:
    """Differentiate; a solver that took no step depends on nothing, and its gradient is 0."""
    if not value.requires_grad:
        return {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    found = torch.autograd.grad(value, list(leaves.values()), cotangent, allow_unused=True, materialize_grads=True)
    return dict(zip(leaves, found, strict=True))


def backend_name(instance: Instance, backend: str, device: str) -> str:
    """Name what computes: "tensor", or the kernels of the device where the operator has them."""
    has_kernels = backend == "kernels" and (device == "cpu" or instance.family == "separable")
    return device if has_kernels else "tensor"


def _leaves(instance: Instance, dtype: str, device: str) -> dict[str, Tensor]:
    return {name: _tensor(value, dtype, device).requires_grad_() for name, value in instance.arguments.items()}


def _tensor(array: np.ndarray, dtype: str, device: str) -> Tensor:
    return torch.tensor(array, dtype=getattr(torch, dtype), device=device)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().cpu().numpy()


def _quiet() -> warnings.catch_warnings:
    """Leave unsaid what the table says: which solves stop before their tolerance."""
    return warnings.catch_warnings(action="ignore", category=ConvergenceWarning)
