"""The nonsmooth layers that the study differentiates, each at a chosen distance to a kink, and the ways of doing it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from morphobench.studies.active_sets import pieces
from morphobench.studies.instances import Instance, Specification, build
from morphobench.studies.reference import solve_reference
from varmorph.convergence import ConvergenceWarning
from varmorph.reference import lasso as exhaustive
from varmorph.torch import FixedPoint, Implicit, Newton, Unrolled, regularised_dilation
from varmorph.torch.lasso import sparse_code

__all__ = [
    "Differentiated",
    "Lasso",
    "Problem",
    "Solved",
    "TotalVariation",
    "at_distance",
    "collinear",
    "finite_differences",
]

Arrays = Mapping[str, np.ndarray]
FEATURES, ATOMS = 8, 5
EXACT = 1e-13


class Solved(NamedTuple):
    """The scalar cotangent . z, on which piece each part of the problem lies, and the distance to a change of them."""

    scalar: float
    pattern: np.ndarray
    margin: float


class Differentiated(NamedTuple):
    """Gradients by argument, and whether the adjoint was certified singular."""

    gradients: Arrays
    singular: bool


class Problem(Protocol):
    """A layer at float64 arguments; the first of them is x."""

    @property
    def arguments(self) -> Arrays:
        """The arguments by name."""
        ...

    def moved(self, name: str, change: np.ndarray) -> Problem:
        """Return the problem with a change added to one argument."""
        ...

    def solve(self) -> Solved:
        """Solve to rounding."""
        ...

    def reference(self) -> Arrays:
        """Return the gradients on the active set in NumPy, by no method that is compared."""
        ...

    def differentiate(self, way: str, value: float) -> Differentiated:
        """Differentiate: implicit; smoothed by ``value``; unrolled for ``value`` steps."""
        ...


def _leaves(arguments: Arrays) -> list[Tensor]:
    return [torch.tensor(value, requires_grad=True) for value in arguments.values()]


@dataclass(frozen=True)
class Lasso:
    """Sparse code of one feature vector: x (n,), dictionary (n, m), strength (m,)."""

    arguments: Arrays
    cotangent: np.ndarray

    @classmethod
    def random(cls, seed: int) -> Lasso:
        """Draw a problem with some atoms in the support."""
        rng = np.random.default_rng([seed, 1])
        dictionary = rng.standard_normal((FEATURES, ATOMS))
        arguments = {
            "x": rng.standard_normal(FEATURES),
            "dictionary": dictionary / np.linalg.norm(dictionary, axis=0),
            "strength": rng.uniform(0.3, 0.6, ATOMS),
        }
        return cls(arguments, rng.standard_normal(ATOMS))

    def moved(self, name: str, change: np.ndarray) -> Lasso:
        """As `Problem`."""
        return replace(self, arguments={**self.arguments, name: self.arguments[name] + change})

    def solve(self) -> Solved:
        """As `Problem`."""
        x, dictionary, strength = (torch.tensor(value) for value in self.arguments.values())
        found = sparse_code(x[None], dictionary, strength, tolerance=EXACT)
        code = found.value[0].numpy()
        return Solved(float(self.cotangent @ code), np.sign(code), float(found.certificate.forward.active.margin))

    def reference(self) -> Arrays:
        """As `Problem`: exhaustive search, then the equation of the support entry by entry."""
        x, dictionary, strength = self.arguments.values()
        found = exhaustive.sparse_code_gradient(x, dictionary, strength, self.cotangent)
        return found._asdict()

    def differentiate(self, way: str, value: float) -> Differentiated:
        """As `Problem`; smoothed: sqrt(z^2 + value^2) for |z|; unrolled: proximal gradient steps from 0."""
        if way == "smoothed":
            return Differentiated(self._smoothed(value), False)
        x, dictionary, strength = leaves = _leaves(self.arguments)
        cotangent, singular = torch.tensor(self.cotangent), False
        if way == "unrolled":
            code = _unroll(x, dictionary, strength, int(value))
            gradients = torch.autograd.grad(cotangent @ code, leaves)
        else:
            solution = sparse_code(x[None], dictionary, strength, tolerance=EXACT)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # the row says `singular`
                gradients = torch.autograd.grad(cotangent @ solution.value[0], leaves)
            assert solution.certificate.backward is not None
            singular = bool(solution.certificate.backward.singular)
        return Differentiated(dict(zip(self.arguments, (g.numpy() for g in gradients), strict=True)), singular)

    def _smoothed(self, width: float) -> Arrays:
        x, dictionary, strength = self.arguments.values()
        hessian, seen = dictionary.T @ dictionary, dictionary.T @ x

        def energy(z: np.ndarray) -> float:
            return float(0.5 * z @ hessian @ z - z @ seen + strength @ np.hypot(z, width))

        z = np.zeros(len(strength))
        for _ in range(500):
            root = np.hypot(z, width)
            gradient = hessian @ z - seen + strength * z / root
            curvature = hessian + np.diag(strength * width**2 / root**3)
            step, length = np.linalg.solve(curvature, gradient), 1.0
            while energy(z - length * step) > energy(z) and length > 1e-12:
                length /= 2
            z = z - length * step
            if np.abs(gradient).max() < 1e-13 or length <= 1e-12:  # or rounding hides any descent
                break
        root = np.hypot(z, width)
        v = np.linalg.solve(hessian + np.diag(strength * width**2 / root**3), self.cotangent)
        moved, residual = dictionary @ v, x - dictionary @ z
        return {"x": moved, "dictionary": np.outer(residual, v) - np.outer(moved, z), "strength": -v * z / root}


def _unroll(x: Tensor, dictionary: Tensor, strength: Tensor, steps: int) -> Tensor:
    rate = 1 / torch.linalg.matrix_norm(dictionary.detach(), 2) ** 2
    code = torch.zeros_like(strength)
    for _ in range(steps):
        forward = code + rate * dictionary.T @ (x - dictionary @ code)
        code = forward.sign() * torch.relu(forward.abs() - rate * strength)
    return code


def collinear() -> Lasso:
    """Return the lasso with one atom twice; the scalar is the coefficient of the first (`pathologies`)."""
    atom = np.array([0.6, 0.8])
    arguments = {"x": 2 * atom, "dictionary": np.stack([atom, atom], axis=1), "strength": np.full(2, 0.5)}
    return Lasso(arguments, np.array([1.0, 0.0]))


@dataclass(frozen=True)
class TotalVariation:
    """Regularised dilation with Huber edges, the instance of the gradient study: its kinks are |r| = smoothing, and ties."""

    instance: Instance

    @classmethod
    def random(cls, seed: int, size: int = 4) -> TotalVariation:
        """Draw an image and parameters."""
        given = Specification("regularised-huber", "regularised_dilation", "random", size, 3, 2.0, 0.5, 0.2, 0.1)
        return cls(build(given, seed))

    @property
    def arguments(self) -> Arrays:
        """As `Problem`."""
        return self.instance.arguments

    def moved(self, name: str, change: np.ndarray) -> TotalVariation:
        """As `Problem`."""
        changed = {**self.arguments, name: self.arguments[name] + change}
        return TotalVariation(replace(self.instance, arguments=changed))

    def _solution(self, arguments: Mapping[str, Any], **methods: Any) -> Any:
        given = {"solver": Newton(tolerance=1e-14, max_steps=200), "adjoint": Implicit(tolerance=1e-12), **methods}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # 1e-14 is asked for, rounding decides what is reached
            return regularised_dilation(**arguments, **self.instance.options, **given)

    def solve(self) -> Solved:
        """As `Problem`."""
        found = self._solution({name: torch.tensor(value) for name, value in self.arguments.items()})
        value = found.value.numpy()
        scalar = float((self.instance.cotangent * value).sum())
        return Solved(scalar, pieces(self.instance, value), float(found.certificate.forward.active.margin))

    def reference(self) -> Arrays:
        """As `Problem`: sparse direct adjoint of `varmorph.reference`."""
        return solve_reference(self.instance).gradients

    def differentiate(self, way: str, value: float) -> Differentiated:
        """As `Problem`; smoothed: edge smoothing ``value`` times as large; unrolled: relaxation from the separable dilation."""
        leaves = dict(zip(self.arguments, _leaves(self.arguments), strict=True))
        given, methods = dict(leaves), {}
        if way == "smoothed":
            given["edge_smoothing"] = value * leaves["edge_smoothing"]
        if way == "unrolled":
            methods = {"solver": FixedPoint(tolerance=0.0, max_steps=int(value)), "adjoint": Unrolled()}
        found = self._solution(given, **methods)
        scalar = (torch.tensor(self.instance.cotangent) * found.value).sum()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            gradients = torch.autograd.grad(scalar, list(leaves.values()))
        backward = found.certificate.backward
        singular = backward is not None and bool(backward.singular.any())
        return Differentiated(dict(zip(leaves, (g.numpy() for g in gradients), strict=True)), singular)


def finite_differences(problem: Problem, step: float) -> Differentiated:
    """Central differences in every entry of x."""
    found = np.zeros(problem.arguments["x"].size)
    for entry in range(found.size):
        change = (step * np.eye(found.size)[entry]).reshape(problem.arguments["x"].shape)
        found[entry] = problem.moved("x", change).solve().scalar - problem.moved("x", -change).solve().scalar
    return Differentiated({"x": (found / (2 * step)).reshape(problem.arguments["x"].shape)}, False)


def at_distance(make: Callable[[int], Problem], seed: int, distance: float) -> tuple[Problem, np.ndarray]:
    """Move x of a random problem towards the first kink on a random line; stop ``distance`` before it.

    Returns
    -------
    Problem
        With distance 0 at the kink, to rounding.
    ndarray
        The direction of the line, of norm 1, of the shape of x.
    """
    problem = make(seed)
    direction = np.random.default_rng([seed, 2]).standard_normal(problem.arguments["x"].shape)
    direction /= np.linalg.norm(direction)
    first = problem.solve().pattern

    def same(t: float) -> bool:
        return bool((problem.moved("x", t * direction).solve().pattern == first).all())

    low, high = 0.0, 0.05
    while same(high):
        low, high = high, 2 * high
    while high - low > 1e-15 * max(1.0, high):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if same(middle) else (low, middle)
    return problem.moved("x", (low - distance) * direction), direction
