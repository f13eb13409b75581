"""A residual block whose equilibrium is a layer, and the networks around it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from morphobench.contract import InvalidPlugin, Task
from morphobench.training.torch.backbones import double
from varmorph.torch import (
    Anderson,
    Certificate,
    ConvergenceWarning,
    FixedPoint,
    Implicit,
    Neumann,
    OneStep,
    equilibrium,
)

__all__ = ["EquilibriumClassifier", "EquilibriumLayer", "EquilibriumSegmenter", "ResidualBlock"]

POOLINGS = 3  # of the classifier, as in small-cnn
FIRST_DEVIATION = 0.01  # of the block's weights: small, so that it contracts at the start
REGULARISATION = 1e-4  # of Anderson's combinations: keeps rounding in single precision from being amplified


class ResidualBlock(nn.Module):
    """The map z -> f(z, x) of the multiscale DEQ at one scale: two convolutions, group norms, x added between them."""

    def __init__(self, width: int, inner_width: int, groups: int):
        super().__init__()
        self.first = nn.Conv2d(width, inner_width, 3, padding=1, bias=False)
        self.second = nn.Conv2d(inner_width, width, 3, padding=1, bias=False)
        self.first_norm = nn.GroupNorm(groups, inner_width)
        self.second_norm, self.third_norm = nn.GroupNorm(groups, width), nn.GroupNorm(groups, width)
        for convolution in (self.first, self.second):
            nn.init.normal_(convolution.weight, std=FIRST_DEVIATION)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """Map z (N, width, H, W) to the same shape, given x of that shape."""
        inside = self.first_norm(F.relu(self.first(z)))
        return self.third_norm(F.relu(z + self.second_norm(x + self.second(inside))))


class EquilibriumLayer(nn.Module):
    """Map x to z with z = f(z, x), starting at 0.

    `certificate` is that of the last call; `penalty`, in training where it is asked for, is an estimate of the squared Frobenius
    norm of the Jacobian over its number of rows (Hutchinson's, with one direction; Bai, Koltun, Kolter, ICML 2021).
    """

    def __init__(self, params: Mapping[str, Any]):
        super().__init__()
        self.block = ResidualBlock(params["width"], params["inner_width"], params["groups"])
        self.solver, self.adjoint = _solver(params), _adjoint(params)
        self.penalised = params["jacobian_penalty"] > 0
        self.certificate: Certificate | None = None
        self.penalty: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, width, H, W) to the same shape."""
        with warnings.catch_warnings():
            # The budget of steps may be too small at times; the training log says how often.
            warnings.simplefilter("ignore", ConvergenceWarning)
            solution = equilibrium(
                lambda z: self.block(z, x), torch.zeros_like(x), solver=self.solver, adjoint=self.adjoint
            )
        self.certificate = solution.certificate
        self.penalty = self._jacobian(solution.unknowns, x) if self.penalised and self.training else None
        return solution.value

    def _jacobian(self, z: Tensor, x: Tensor) -> Tensor:
        z = z.requires_grad_()
        direction = torch.randn_like(z)
        (pulled,) = torch.autograd.grad(self.block(z, x), z, direction, create_graph=True)
        return pulled.square().mean()


def _solver(params: Mapping[str, Any]) -> Anderson | FixedPoint:
    limits = {"tolerance": params["tolerance"], "max_steps": params["max_steps"]}
    if params["solver"] == "fixed-point":
        return FixedPoint(**limits)
    if params["solver"] == "anderson":
        return Anderson(regularisation=REGULARISATION, **limits)
    raise InvalidPlugin(f"deq: key 'solver': found {params['solver']!r}, expected anderson or fixed-point")


def _adjoint(params: Mapping[str, Any]) -> Implicit | Neumann | OneStep:
    tolerance, steps = params["adjoint_tolerance"], params["adjoint_steps"]
    known = {
        "implicit": Implicit(tolerance=tolerance, max_steps=steps),
        "neumann": Neumann(tolerance=tolerance, terms=steps),
        "one-step": OneStep(step="relaxation", tolerance=tolerance),
    }
    if params["adjoint"] not in known:
        raise InvalidPlugin(f"deq: key 'adjoint': found {params['adjoint']!r}, expected {', '.join(known)}")
    return known[params["adjoint"]]


class EquilibriumClassifier(nn.Module):
    """Two convolutions with pooling, the equilibrium at a quarter of the resolution, linear scores of its pooled maps."""

    def __init__(self, task: Task, params: Mapping[str, Any]):
        super().__init__()
        (channels, height, width), count = task.input_shape, params["width"]
        rows, columns = (-(-size // 2**POOLINGS) for size in (height, width))
        self.encoding = nn.Sequential(
            *_convolution(channels, count // 2), _pooling(), *_convolution(count // 2, count), _pooling()
        )
        self.equilibrium = EquilibriumLayer(params)
        self.scores = nn.Sequential(
            *_convolution(count, 2 * count, 1),
            _pooling(),
            nn.Flatten(),
            nn.Linear(2 * count * rows * columns, task.outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to scores (N, outputs)."""
        return self.scores(self.equilibrium(self.encoding(x)))


class EquilibriumSegmenter(nn.Module):
    """The equilibrium at half the resolution, where it sees all of the image, joined with a convolution at full resolution."""

    def __init__(self, task: Task, params: Mapping[str, Any]):
        super().__init__()
        count = params["width"]
        self.fine = nn.Sequential(*_convolution(task.input_shape[0], count // 4))
        self.encoding = nn.Sequential(_pooling(), *_convolution(count // 4, count))
        self.equilibrium = EquilibriumLayer(params)
        self.narrowed = nn.Sequential(*_convolution(count, count // 2, 1))
        self.scores = nn.Sequential(*_convolution(3 * count // 4, count // 2), nn.Conv2d(count // 2, task.outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to scores (N, outputs, H, W)."""
        fine = self.fine(x)
        coarse = self.narrowed(self.equilibrium(self.encoding(fine)))
        return self.scores(torch.cat((fine, double(coarse, fine.shape[2:])), dim=1))


def _convolution(inputs: int, outputs: int, size: int = 3) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


def _pooling() -> nn.Module:
    return nn.MaxPool2d(2, ceil_mode=True)
