"""The solver study in JAX: programs are compiled apart, results waited for."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

import varmorph.jax
from morphobench.studies.cells import Cell, Row
from morphobench.studies.measurement import Repeated, WallClock, growth_of_resident_peak
from morphobench.studies.plugin_operators import load_operators
from morphobench.studies.solvers.instances import LAYERS, CostInstance, coupled_instance, layer_instance, reference
from morphobench.studies.solvers.rows import Found, accurate, named, rows_of_parts, search, seconds_of_parts

__all__ = ["SOLVERS", "JaxCosts", "Program", "solve_to"]

SOLVERS: dict[str, Callable[..., Any]] = {
    "newton": varmorph.jax.Newton,
    "fixed-point": varmorph.jax.FixedPoint,
    "anderson": varmorph.jax.Anderson,
    "accelerated-gradient": varmorph.jax.AcceleratedGradient,
    "primal-dual": varmorph.jax.PrimalDual,
    "admm": varmorph.jax.ADMM,
}
MOST_STEPS = 3000  # of every solver but Newton, so that one that is far slower ends
CLOCK = WallClock()


@dataclass
class Program:
    """A function compiled forwards, and backwards from what the forward program keeps.

    It returns its value and what is to be known besides; without a cotangent the value alone, and it goes only forwards.
    """

    function: Callable[..., Any]
    leaves: Sequence[Array]
    cotangent: Array | None
    found: Found = field(default_factory=lambda: Found({}))

    def compile(self) -> Any:
        """Trace, lower and compile both programs, note the seconds, and return what the forward program says besides."""
        began = time.perf_counter()
        if self.cotangent is None:
            self._forward = jax.jit(self.function).lower(*self.leaves).compile()
            besides = None
        else:
            forward = jax.jit(lambda *leaves: jax.vjp(self.function, *leaves, has_aux=True)).lower(*self.leaves)
            self._forward = forward.compile()
            _, pullback, besides = self._forward(*self.leaves)
            self._backward = jax.jit(lambda pull, cotangent: pull(cotangent)).lower(pullback, self.cotangent).compile()
        self.found.compile_s = time.perf_counter() - began
        return besides

    def once(self) -> dict[str, float]:
        """Run forwards and backwards once and return the seconds of both."""
        result, forward = CLOCK.measure(lambda: jax.block_until_ready(self._forward(*self.leaves)))
        if self.cotangent is None:
            return {"forward": forward}
        _, backward = CLOCK.measure(lambda: jax.block_until_ready(self._backward(result[1], self.cotangent)))
        return {"forward": forward, "backward": backward}

    def peak(self, device: str) -> dict[str, float]:
        """Growth of memory forwards; on a GPU XLA's mark is one of the whole process, so that nothing is said."""
        if device != "cpu":
            return {}
        _, grown = growth_of_resident_peak(lambda: jax.block_until_ready(self._forward(*self.leaves)))
        return {"forward": grown}


class JaxCosts:
    """What `solver_cost.open_instance` opens in JAX."""

    def __init__(self, settings: Mapping[str, Any], device: str, threads: int) -> None:
        self.settings, self.device, self.threads = settings, device, threads
        self.programs: dict[str, list[Program]] = {}

    def prepare(self, cell: Cell) -> None:
        """Build and compile the programs of a cell, run each once and measure memory."""
        build = {"copy": self._copy, "layer": self._layer, "coupled": self._coupled, "plugin": self._plugin}
        if cell.settings["role"] == "peer":
            from morphobench.studies.solvers.jax_peers import peer_program

            programs = [peer_program(cell.settings, self.settings)]
        else:
            programs = build[cell.settings["role"]](cell.settings)
        for program in programs:
            if program.found.compile_s is None:
                program.compile()
            program.once()
            program.found.peak = program.peak(self.device)
        self.programs[cell.name] = programs

    def measure(self, cell: Cell) -> dict[str, float]:
        """Run every program once."""
        return seconds_of_parts([program.once() for program in self.programs[cell.name]])

    def rows(self, cell: Cell, repeated: Repeated) -> list[Row]:
        """Return the rows of every program."""
        return rows_of_parts([program.found for program in self.programs.pop(cell.name)], repeated)

    def _copy(self, wanted: Mapping[str, Any]) -> list[Program]:
        source = jnp.zeros(self.settings["copy_mib"] * 2**18, jnp.float32)
        about = {"role": "copy", "family": "copy", "solver": "copy", "backend": "xla", "dtype": "float32"}
        # A negation reads and writes as a copy does, and is not optimised away.
        return [Program(jnp.negative, [source], None, Found(about, copied_bytes=2 * source.size * 4))]

    def _layer(self, wanted: Mapping[str, Any]) -> list[Program]:
        case = layer_instance(wanted["solver"], wanted["image_size"], wanted["kernel_size"], self.settings)
        dtype = self.settings["dtype"]
        backend = {"kernels": self.device, "xla": "xla", "auto": "auto"}[wanted["backend"]]
        leaves = [jnp.asarray(array, dtype) for array in case.arguments.values()]
        shape = {"batch": self.settings["batch"], "channels": self.settings["channels"]}
        about = {"role": "layer", "family": LAYERS[wanted["solver"]], "dtype": dtype, **shape}
        about |= named(wanted, "solver", "backend", "image_size", "kernel_size")
        function = _in_backend(backend, _function(case, dtype))
        return [Program(function, leaves, jnp.asarray(case.cotangent, dtype), Found(about, pixels=case.cotangent.size))]

    def _coupled(self, wanted: Mapping[str, Any]) -> list[Program]:
        program = solve_to(wanted, self.settings["seed"], SOLVERS[wanted["solver"]])
        program.found.about |= {"role": "coupled", "family": "coupled", "solver": wanted["solver"]}
        return [program]

    def _plugin(self, wanted: Mapping[str, Any]) -> list[Program]:
        programs = []
        for instance in load_operators(wanted["method"]):
            for dtype in ("float32", "float64"):
                leaves = [jnp.asarray(array, dtype) for array in instance.arguments.values()]
                value = jnp.ones_like(instance.operator(*leaves))
                about = {"role": "plugin", "family": wanted["method"], "solver": f"{wanted['method']}: {instance.name}"}
                about |= {"backend": "auto", "dtype": dtype}
                programs.append(
                    Program(_in_backend("auto", instance.operator), leaves, value, Found(about, value.size))
                )
        return programs


def solve_to(wanted: Mapping[str, Any], seed: int, make: Callable[..., Any]) -> Program:
    """Return the solve of a coupled instance by a solver whose tolerance is as loose as the wanted error allows."""
    case = coupled_instance(wanted["operator"], wanted["image_size"], wanted["coupling"], seed)
    exact = reference(wanted["operator"], wanted["image_size"], wanted["coupling"], seed)
    leaves = [jnp.asarray(array) for array in case.arguments.values()]
    function = getattr(varmorph.jax, case.operator)
    steps = {} if make is varmorph.jax.Newton else {"max_steps": MOST_STEPS}
    cotangent = jnp.asarray(case.cotangent)

    def attempt(tolerance: float) -> tuple[float, tuple[Program, Any]]:
        # "nan" and "raise" would change the program, and warnings call back into Python: the table says what converged.
        solver = make(tolerance=tolerance, **steps)

        def solve(*arguments: Array) -> tuple[Array, Any]:
            solution = function(*arguments, solver=solver)
            return solution.value, (solution.value, solution.certificate.forward)

        program = Program(solve, leaves, cotangent)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value, certificate = program.compile()
        return accurate(np.asarray(value), exact), (program, certificate)

    error, (program, certificate), reached = search(wanted["tolerance"], attempt)
    about = {"backend": "auto", "dtype": "float64", "error": error, "reached": reached, "batch": 1, "channels": 1}
    about |= {"iterations": int(certificate.iterations.max()), "residual": float(certificate.residual.max())}
    about |= named(wanted, "tolerance", "image_size", "coupling") | {"kernel_size": case.arguments["bias"].shape[-1]}
    program.found = Found(about, pixels=case.cotangent.size, compile_s=program.found.compile_s)
    return program


def _function(case: CostInstance, dtype: str) -> Callable[..., Any]:
    """Return the operator of a layer as a function of its leaves."""
    if case.operator in ("depthwise", "convolution"):
        depthwise = case.operator == "depthwise"

        def convolve(x: Array, weight: Array) -> Array:
            kernel = weight[:, None] if depthwise else weight
            groups = x.shape[1] if depthwise else 1
            return lax.conv_general_dilated(
                x, kernel, (1, 1), "SAME", dimension_numbers=("NCHW", "OIHW", "NCHW"), feature_group_count=groups
            )

        return convolve
    if case.operator == "pooling":
        window = (1, 1, case.options["kernel"], case.options["kernel"])
        return lambda x: lax.reduce_window(x, -jnp.inf, lax.max, window, (1, 1, 1, 1), "SAME")
    options = {name: jnp.asarray(value, dtype) for name, value in case.options.items()}
    function = getattr(varmorph.jax, case.operator)
    return lambda *leaves: function(*leaves, **options)


def _in_backend(backend: str, function: Callable[..., Any]) -> Callable[..., tuple[Array, None]]:
    """Trace a function within a backend; a `Solution` gives its value, and nothing is to be known besides."""

    def run(*leaves: Array) -> tuple[Array, None]:
        with varmorph.jax.backend(backend) if backend != "auto" else contextlib.nullcontext():
            found = function(*leaves)
        return getattr(found, "value", found), None

    return run
