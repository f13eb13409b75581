"""The solver study in PyTorch."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

import varmorph.torch
from morphobench.contract import FrameworkUnavailable
from morphobench.studies.cells import Cell, Row
from morphobench.studies.measurement import Repeated
from morphobench.studies.plugin_operators import load_operators
from morphobench.studies.solvers.problems import LAYERS, CostInstance, layer_instance
from morphobench.studies.solvers.rows import Found, named, rows_of_parts, seconds_of_parts
from morphobench.studies.solvers.torch_calls import TimedCall, solve_to
from morphobench.studies.solvers.torch_peers import peer_call
from morphobench.studies.torch_measurement import CacheFlush, clock_for
from varmorph.torch.energy.solvers import Solver

__all__ = ["SOLVERS", "TorchCosts"]

COLD_REPEATS = 3
SOLVERS: dict[str, Callable[..., Solver]] = {
    "newton": varmorph.torch.Newton,
    "fixed-point": varmorph.torch.FixedPoint,
    "anderson": varmorph.torch.Anderson,
    "accelerated-gradient": varmorph.torch.AcceleratedGradient,
    "primal-dual": varmorph.torch.PrimalDual,
    "admm": varmorph.torch.ADMM,
}


class TorchCosts:
    """The calls of an instance, timed in PyTorch (`morphobench.studies.cells.OpenInstance`)."""

    def __init__(self, settings: Mapping[str, Any], device: str, threads: int) -> None:
        self.settings, self.device, self.threads = settings, device, threads
        self.clock = clock_for(device)
        self.calls: dict[str, list[TimedCall]] = {}

    def prepare(self, cell: Cell) -> None:
        """Build the calls of a cell, make each for the first time, and measure memory and cold times."""
        build = {"copy": self._copy, "layer": self._layer, "coupled": self._coupled}
        build |= {"peer": self._peer, "plugin": self._plugin}
        calls = build[cell.settings["role"]](cell.settings)
        for call in calls:
            if call.found.compile_s is None and cell.settings["role"] in ("layer", "plugin"):
                call.found.compile_s = sum(call.once(self.clock).values())
            call.found.peak = call.peak(self.device)
            if cell.settings["role"] == "layer":
                call.found.cold_s = self._cold(call)
        self.calls[cell.name] = calls

    def measure(self, cell: Cell) -> dict[str, float]:
        """Make every call once."""
        return seconds_of_parts([call.once(self.clock) for call in self.calls[cell.name]])

    def rows(self, cell: Cell, repeated: Repeated) -> list[Row]:
        """Return the rows of every call."""
        return rows_of_parts([call.found for call in self.calls.pop(cell.name)], repeated)

    @functools.cached_property
    def _flush(self) -> CacheFlush:
        return CacheFlush(self.device)

    def _cold(self, call: TimedCall) -> dict[str, float]:
        seconds = []
        for _ in range(COLD_REPEATS):
            self._flush()
            seconds.append(call.once(self.clock))
        # The backward pass follows the forward pass, whose results lie in the caches.
        return {"forward": float(np.median([once["forward"] for once in seconds]))}

    def _tensor(self, array: np.ndarray, dtype: str) -> Tensor:
        return torch.as_tensor(array, dtype=getattr(torch, dtype), device=self.device)

    def _copy(self, wanted: Mapping[str, Any]) -> list[TimedCall]:
        source = torch.zeros(self.settings["copy_mib"] * 2**18, dtype=torch.float32, device=self.device)
        target = torch.empty_like(source)
        about = {"role": "copy", "family": "copy", "solver": "copy", "backend": "torch", "dtype": "float32"}
        return [TimedCall(target.copy_, [source], None, Found(about, copied_bytes=2 * source.numel() * 4))]

    def _layer(self, wanted: Mapping[str, Any]) -> list[TimedCall]:
        case = layer_instance(wanted["solver"], wanted["image_size"], wanted["kernel_size"], self.settings)
        dtype = self.settings["dtype"]
        backend = {"kernels": self.device, "tensor": "tensor", "auto": "auto", "compile": "tensor"}[wanted["backend"]]
        function = _function(case, self.device, dtype)
        run = _in_backend(backend, self._compiled(function) if wanted["backend"] == "compile" else function)
        leaves = [self._tensor(array, dtype) for array in case.arguments.values()]
        call = TimedCall(run, leaves, self._tensor(case.cotangent, dtype))
        shape = {"batch": self.settings["batch"], "channels": self.settings["channels"]}
        about = {"role": "layer", "family": LAYERS[wanted["solver"]], "dtype": dtype, **shape}
        about |= named(wanted, "solver", "backend", "image_size", "kernel_size")
        call.found = Found(about, pixels=case.cotangent.size)
        call.found.compile_s = sum(call.once(self.clock).values())
        last = getattr(run, "certificate", None)
        if last is not None:
            call.found.about |= {"iterations": int(last.iterations.max()), "residual": float(last.residual.max())}
        return [call]

    def _compiled(self, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """Compile tensor code by torch.compile; a loop that ends when nothing changes stays a loop of Python."""
        if self.device == "cpu" and self.threads > 1:
            raise FrameworkUnavailable(
                "torch.compile of PyTorch 2.13 corrupts memory with several threads of a processor"
            )
        torch.compiler.reset()
        return torch.compile(function)

    def _coupled(self, wanted: Mapping[str, Any]) -> list[TimedCall]:
        call = solve_to(wanted, self.settings["seed"], self.device, SOLVERS[wanted["solver"]])
        call.found.about |= {"role": "coupled", "family": "coupled", "solver": wanted["solver"]}
        return [call]

    def _peer(self, wanted: Mapping[str, Any]) -> list[TimedCall]:
        return [peer_call(wanted, self.settings, self.device)]

    def _plugin(self, wanted: Mapping[str, Any]) -> list[TimedCall]:
        calls = []
        for instance in load_operators(wanted["method"]):
            for dtype in ("float32", "float64"):
                leaves = [self._tensor(array, dtype) for array in instance.arguments.values()]
                value = instance.operator(*leaves)
                about = {"role": "plugin", "family": wanted["method"], "solver": f"{wanted['method']}: {instance.name}"}
                about |= {"backend": "auto", "dtype": dtype}
                calls.append(TimedCall(instance.operator, leaves, torch.ones_like(value), Found(about, value.numel())))
        return calls


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
    return lambda *leaves: function(**dict(zip(case.arguments, leaves, strict=True)), **options)


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
