"""The solver study in PyTorch."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

import varmorph.torch
from morphobench.contract import FrameworkUnavailable
from morphobench.studies.cells import Cell, Row
from morphobench.studies.measurement import Clock, Repeated
from morphobench.studies.plugin_operators import load_operators
from morphobench.studies.solvers.instances import LAYERS, CostInstance, coupled_instance, layer_instance, reference
from morphobench.studies.solvers.rows import Found, accurate, named, rows_of_parts, search, seconds_of_parts
from morphobench.studies.torch_measurement import CacheFlush, clock_for, growth_of_peak
from varmorph.torch.energy.solvers import Solver

__all__ = ["SOLVERS", "Part", "TorchCosts", "solve_to"]

COLD_REPEATS = 3
SOLVERS: dict[str, Callable[..., Solver]] = {
    "newton": varmorph.torch.Newton,
    "fixed-point": varmorph.torch.FixedPoint,
    "anderson": varmorph.torch.Anderson,
    "accelerated-gradient": varmorph.torch.AcceleratedGradient,
    "primal-dual": varmorph.torch.PrimalDual,
    "admm": varmorph.torch.ADMM,
}
MOST_STEPS = 3000  # of every solver but Newton, so that one that is far slower ends


@dataclass
class Part:
    """A call that is timed: `run` maps the leaves to the output; without a cotangent only forwards."""

    run: Callable[..., Tensor]
    leaves: Sequence[Tensor]
    cotangent: Tensor | None
    found: Found = field(default_factory=lambda: Found({}))

    def once(self, clock: Clock) -> dict[str, float]:
        """Run forwards and backwards once and return the seconds of both."""
        if self.cotangent is None:
            with torch.no_grad():
                _, forward = clock.measure(lambda: self.run(*self.leaves))
            return {"forward": forward}
        leaves = [leaf.detach().requires_grad_() for leaf in self.leaves]
        value, forward = clock.measure(lambda: self.run(*leaves))
        _, backward = clock.measure(lambda: torch.autograd.grad(value, leaves, self.cotangent, allow_unused=True))
        return {"forward": forward, "backward": backward}

    def peak(self, device: str) -> dict[str, float]:
        """Growth of memory in each phase; what the forward pass keeps counts there and not again in the backward pass."""
        if self.cotangent is None:
            return {"forward": growth_of_peak(lambda: self.run(*self.leaves), device)[1]}
        leaves = [leaf.detach().requires_grad_() for leaf in self.leaves]
        value, forward = growth_of_peak(lambda: self.run(*leaves), device)
        backward = growth_of_peak(
            lambda: torch.autograd.grad(value, leaves, self.cotangent, allow_unused=True), device
        )[1]
        return {"forward": forward, "backward": backward}


class TorchCosts:
    """What `solver_cost.open_instance` opens in PyTorch."""

    def __init__(self, settings: Mapping[str, Any], device: str, threads: int) -> None:
        self.settings, self.device, self.threads = settings, device, threads
        self.clock = clock_for(device)
        self.parts: dict[str, list[Part]] = {}

    def prepare(self, cell: Cell) -> None:
        """Build the parts of a cell, run each for the first time, and measure memory and cold times."""
        build = {"copy": self._copy, "layer": self._layer, "coupled": self._coupled, "plugin": self._plugin}
        if cell.settings["role"] == "peer":
            from morphobench.studies.solvers.torch_peers import peer_part

            parts = [peer_part(cell.settings, self.settings, self.device)]
        else:
            parts = build[cell.settings["role"]](cell.settings)
        for part in parts:
            if part.found.compile_s is None and cell.settings["role"] in ("layer", "plugin"):
                part.found.compile_s = sum(part.once(self.clock).values())
            part.found.peak = part.peak(self.device)
            if cell.settings["role"] == "layer":
                part.found.cold_s = self._cold(part)
        self.parts[cell.name] = parts

    def measure(self, cell: Cell) -> dict[str, float]:
        """Run every part once."""
        return seconds_of_parts([part.once(self.clock) for part in self.parts[cell.name]])

    def rows(self, cell: Cell, repeated: Repeated) -> list[Row]:
        """Return the rows of every part."""
        return rows_of_parts([part.found for part in self.parts.pop(cell.name)], repeated)

    @functools.cached_property
    def _flush(self) -> CacheFlush:
        return CacheFlush(self.device)

    def _cold(self, part: Part) -> dict[str, float]:
        seconds = []
        for _ in range(COLD_REPEATS):
            self._flush()
            seconds.append(part.once(self.clock))
        # The backward pass follows the forward pass, whose results lie in the caches.
        return {"forward": float(np.median([once["forward"] for once in seconds]))}

    def _tensor(self, array: np.ndarray, dtype: str) -> Tensor:
        return torch.as_tensor(array, dtype=getattr(torch, dtype), device=self.device)

    def _copy(self, wanted: Mapping[str, Any]) -> list[Part]:
        source = torch.zeros(self.settings["copy_mib"] * 2**18, dtype=torch.float32, device=self.device)
        target = torch.empty_like(source)
        about = {"role": "copy", "family": "copy", "solver": "copy", "backend": "torch", "dtype": "float32"}
        return [Part(target.copy_, [source], None, Found(about, copied_bytes=2 * source.numel() * 4))]

    def _layer(self, wanted: Mapping[str, Any]) -> list[Part]:
        case = layer_instance(wanted["solver"], wanted["image_size"], wanted["kernel_size"], self.settings)
        dtype = self.settings["dtype"]
        backend = {"kernels": self.device, "tensor": "tensor", "auto": "auto", "compile": "tensor"}[wanted["backend"]]
        function = _function(case, self.device, dtype)
        run = _in_backend(backend, self._compiled(function) if wanted["backend"] == "compile" else function)
        leaves = [self._tensor(array, dtype) for array in case.arguments.values()]
        part = Part(run, leaves, self._tensor(case.cotangent, dtype))
        shape = {"batch": self.settings["batch"], "channels": self.settings["channels"]}
        about = {"role": "layer", "family": LAYERS[wanted["solver"]], "dtype": dtype, **shape}
        about |= named(wanted, "solver", "backend", "image_size", "kernel_size")
        part.found = Found(about, pixels=case.cotangent.size)
        part.found.compile_s = sum(part.once(self.clock).values())
        last = getattr(run, "certificate", None)
        if last is not None:
            part.found.about |= {"iterations": int(last.iterations.max()), "residual": float(last.residual.max())}
        return [part]

    def _compiled(self, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """Compile tensor code by torch.compile; a loop that ends when nothing changes stays a loop of Python."""
        if self.device == "cpu" and self.threads > 1:
            raise FrameworkUnavailable(
                "torch.compile of PyTorch 2.13 corrupts memory with several threads of a processor"
            )
        torch.compiler.reset()
        return torch.compile(function)

    def _coupled(self, wanted: Mapping[str, Any]) -> list[Part]:
        part = solve_to(wanted, self.settings["seed"], self.device, SOLVERS[wanted["solver"]])
        part.found.about |= {"role": "coupled", "family": "coupled", "solver": wanted["solver"]}
        return [part]

    def _plugin(self, wanted: Mapping[str, Any]) -> list[Part]:
        parts = []
        for instance in load_operators(wanted["method"]):
            for dtype in ("float32", "float64"):
                leaves = [self._tensor(array, dtype) for array in instance.arguments.values()]
                value = instance.operator(*leaves)
                about = {"role": "plugin", "family": wanted["method"], "solver": f"{wanted['method']}: {instance.name}"}
                about |= {"backend": "auto", "dtype": dtype}
                parts.append(Part(instance.operator, leaves, torch.ones_like(value), Found(about, value.numel())))
        return parts


def solve_to(wanted: Mapping[str, Any], seed: int, device: str, make: Callable[..., Solver]) -> Part:
    """Return the solve of a coupled instance by a solver whose tolerance is as loose as the wanted error allows."""
    case = coupled_instance(wanted["operator"], wanted["image_size"], wanted["coupling"], seed)
    exact = reference(wanted["operator"], wanted["image_size"], wanted["coupling"], seed)
    leaves = [torch.as_tensor(array, device=device) for array in case.arguments.values()]
    function = getattr(varmorph.torch, case.operator)

    def solve(solver: Solver, *arguments: Tensor) -> varmorph.torch.Solution:
        with warnings.catch_warnings():  # that it did not converge stands in the table
            warnings.simplefilter("ignore", varmorph.torch.ConvergenceWarning)
            return function(*arguments, solver=solver)

    def attempt(tolerance: float) -> tuple[float, tuple[Solver, varmorph.torch.Solution]]:
        steps = {} if make is varmorph.torch.Newton else {"max_steps": MOST_STEPS}
        solver = make(tolerance=tolerance, **steps)
        with torch.no_grad():
            solution = solve(solver, *leaves)
        return accurate(solution.value.cpu().numpy(), exact), (solver, solution)

    error, (solver, solution), reached = search(wanted["tolerance"], attempt)
    forward = solution.certificate.forward
    about = {"backend": "auto", "dtype": "float64", "error": error, "reached": reached, "batch": 1, "channels": 1}
    about |= {"iterations": int(forward.iterations.max()), "residual": float(forward.residual.max())}
    about |= named(wanted, "tolerance", "image_size", "coupling") | {"kernel_size": case.arguments["bias"].shape[-1]}
    cotangent = torch.as_tensor(case.cotangent, device=device)
    found = Found(about, pixels=case.cotangent.size)
    return Part(lambda *arguments: solve(solver, *arguments).value, leaves, cotangent, found)


def _function(case: CostInstance, device: str, dtype: str) -> Callable[..., Any]:
    """Return the operator of a layer as a function of its leaves."""
    if case.operator == "depthwise":
        return lambda x, weight: functional.conv2d(x, weight[:, None], padding=weight.shape[-1] // 2, groups=x.shape[1])
    if case.operator == "convolution":
        return lambda x, weight: functional.conv2d(x, weight, padding=weight.shape[-1] // 2)
    if case.operator == "pooling":
        kernel = case.options["kernel"]
        return lambda x: functional.max_pool2d(x, kernel, stride=1, padding=kernel // 2)
    options = {
        name: torch.as_tensor(value, dtype=getattr(torch, dtype), device=device) for name, value in case.options.items()
    }
    function = getattr(varmorph.torch, case.operator)
    return lambda *leaves: function(*leaves, **options)


def _in_backend(backend: str, function: Callable[..., Any]) -> Callable[..., Tensor]:
    """Call a function within a backend; a `Solution` gives its value, and leaves its certificate on what is returned."""

    def run(*leaves: Tensor) -> Tensor:
        with varmorph.torch.backend(backend) if backend != "auto" else contextlib.nullcontext():
            found = function(*leaves)
        if isinstance(found, Tensor):
            return found
        run.certificate = found.certificate.forward  # type: ignore[attr-defined]
        return found.value

    return run
