"""The solver study in JAX: programs are compiled apart, results waited for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

import varmorph.jax
from morphobench.studies.cells import Cell, Row
from morphobench.studies.measurement import Repeated
from morphobench.studies.plugin_operators import load_operators
from morphobench.studies.solvers.jax_peers import peer_program
from morphobench.studies.solvers.jax_programs import Program, solve_to
from morphobench.studies.solvers.problems import LAYERS, CostInstance, layer_instance
from morphobench.studies.solvers.rows import Found, named, rows_of_parts, seconds_of_parts

__all__ = ["SOLVERS", "JaxCosts"]

SOLVERS: dict[str, Callable[..., Any]] = {
    "newton": varmorph.jax.Newton,
    "fixed-point": varmorph.jax.FixedPoint,
    "anderson": varmorph.jax.Anderson,
    "accelerated-gradient": varmorph.jax.AcceleratedGradient,
    "primal-dual": varmorph.jax.PrimalDual,
    "admm": varmorph.jax.ADMM,
}


class JaxCosts:
    """The programs of an instance, timed in JAX (`morphobench.studies.cells.OpenInstance`)."""

    def __init__(self, settings: Mapping[str, Any], device: str, threads: int) -> None:
        self.settings, self.device, self.threads = settings, device, threads
        self.programs: dict[str, list[Program]] = {}

    def prepare(self, cell: Cell) -> None:
        """Build and compile the programs of a cell, run each once and measure memory."""
        build = {"copy": self._copy, "layer": self._layer, "coupled": self._coupled}
        build |= {"peer": self._peer, "plugin": self._plugin}
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

    def _peer(self, wanted: Mapping[str, Any]) -> list[Program]:
        return [peer_program(wanted, self.settings)]

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
    return lambda *leaves: function(**dict(zip(case.arguments, leaves, strict=True)), **options)


def _in_backend(backend: str, function: Callable[..., Any]) -> Callable[..., tuple[Array, None]]:
    """Trace a function within a backend; a `Solution` gives its value, and nothing is to be known besides."""

    def run(*leaves: Array) -> tuple[Array, None]:
        with varmorph.jax.backend(backend) if backend != "auto" else contextlib.nullcontext():
            found = function(*leaves)
        return getattr(found, "value", found), None

    return run
