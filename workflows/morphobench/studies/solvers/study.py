"""What operators and solvers cost.

Time and memory of layers beside convolution and pooling, time to a given error of every solver of the coupled operators, other
libraries on the same instances, and a copy for the bandwidth of the machine.

Every cell is measured in one process of one framework, in turns with the other cells of its instance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from morphobench.plugins.discovery import Plugins
from morphobench.project.files import write_json
from morphobench.settings.records import CellRecord
from morphobench.studies.cells import Cell, OpenInstance, Row
from morphobench.studies.plugin_operators import methods_with_operators
from morphobench.studies.solvers.problems import ETA, LAYERS, PEERS, WINDOW

__all__ = ["COLUMNS", "COLUMN_TYPES", "OUTPUTS", "cells", "collect", "failed_rows", "open_instance", "plugin_folders"]

COUPLED_LAYERS = ("regularised-dilation", "joint-opening", "reconstruction")

# The columns of the table `solvers`; the last six are filled in by what runs the cells.
#   role: layer, coupled (a solver to an error), peer (another library), copy (bandwidth), plugin (operator of a method).
#   phase: compile (first call of a process, or XLA's compilation), forward, backward.
#   median_s, q25_s, q75_s: over `repeats`; spread: distance of medians of thirds of them over the median; cold_s: median
#     after the last-level cache was overwritten.
#   peak_bytes: growth of memory during the phase. tolerance: error asked for; error: greatest distance to the float64 reference
#     over its range; residual: that of the solver's certificate; reached: error <= tolerance.
#   pixels_per_s: output pixels of all images and channels; bytes_per_s: bytes read and written, of a copy.
COLUMN_TYPES: dict[str, type] = {
    **dict.fromkeys(["cell", "instance", "role", "family", "solver", "version", "framework", "backend", "dtype"], str),
    **dict.fromkeys(["device", "phase"], str),
    **dict.fromkeys(["tolerance", "median_s", "q25_s", "q75_s", "spread", "cold_s", "repeats", "peak_bytes"], float),
    **dict.fromkeys(["iterations", "residual", "error"], float),
    "reached": bool,
    **dict.fromkeys(["image_size", "batch", "channels", "kernel_size", "coupling"], float),
    **dict.fromkeys(["pixels_per_s", "bytes_per_s", "threads", "load"], float),
    **dict.fromkeys(["status", "message"], str),
}
COLUMNS = list(COLUMN_TYPES)
OUTPUTS = ["solvers.json"]


def cells(settings: Mapping[str, Any], framework: str, plugins: Plugins) -> list[Cell]:
    """List the cells of one framework, instance by instance; JAX has settings of its own, since each cell is compiled."""
    if framework == "jax":
        settings = {
            **settings,
            **{key.removeprefix("jax_"): settings[key] for key in settings if key.startswith("jax_")},
        }
    found = [Cell("copy", f"copy-{settings['copy_mib']}", {"role": "copy"})]
    for kernel in settings["kernel_sizes"]:
        for size in settings["image_sizes"]:
            found += _layer_cells(settings, framework, size, kernel)
    for size, coupling in _coupled_grid(settings):
        found += _coupled_cells(settings, "regularised_dilation", size, coupling)
    for size in settings["joint_sizes"] if framework == "torch" else []:
        found += _coupled_cells(settings, "joint_opening", size, ETA)
    found += _peer_cells(settings, framework)
    for method in (info.name for info in methods_with_operators(plugins.methods, framework)):
        found.append(Cell(f"method-{method}", f"method-{method}", {"role": "plugin", "method": method}))
    return found


def _layer_cells(settings: Mapping[str, Any], framework: str, size: int, kernel: int) -> list[Cell]:
    instance = f"layers-{size}-{kernel}x{kernel}"
    about = {"role": "layer", "image_size": size, "kernel_size": kernel}
    found = []
    for name in settings["layers"]:
        if name in COUPLED_LAYERS and (size > settings["largest_coupled_layer"] or kernel != WINDOW):
            continue
        # What XLA makes of the operators is compiled for seconds and far slower than kernels: for the first size alone.
        other = ["tensor"] if framework == "torch" else ["xla"] if size == settings["image_sizes"][0] else []
        own = ["kernels", *other]
        if framework == "torch" and size in settings["compiled_sizes"] and kernel == settings["kernel_sizes"][0]:
            own.append("compile")
        # Convolution and pooling are the framework's own, and the coupled layers are timed as a user meets them.
        backends = own if name in ("variational-dilation", "max-plus-dilation") else ["auto"]
        for backend in backends:
            solver = f"{instance}-{name}" + ("" if backend == "auto" else f"-{backend}")
            found.append(Cell(solver, instance, {**about, "solver": name, "backend": backend}))
    return found


def _coupled_grid(settings: Mapping[str, Any]) -> list[tuple[int, float]]:
    """Sizes at the first coupling, and the other couplings at the middle size."""
    sizes, couplings = settings["coupled_sizes"], settings["couplings"]
    if not sizes or not couplings:
        return []
    middle = sizes[len(sizes) // 2]
    return [(size, couplings[0]) for size in sizes] + [(middle, coupling) for coupling in couplings[1:]]


def _coupled_cells(settings: Mapping[str, Any], operator: str, size: int, coupling: float) -> list[Cell]:
    kind = "joint" if operator == "joint_opening" else "coupled"
    instance = f"{kind}-{size}-{coupling:g}"
    found = []
    for solver in settings["solvers"]:
        for tolerance in settings["tolerances"]:
            about = {"role": "coupled", "operator": operator, "solver": solver, "tolerance": tolerance}
            about |= {"image_size": size, "coupling": coupling}
            found.append(Cell(f"{instance}-{solver}-{tolerance:.0e}", instance, about))
    return found


def _peer_cells(settings: Mapping[str, Any], framework: str) -> list[Cell]:
    """Put the peers of a framework beside varmorph, problem by problem."""
    found = []
    for problem in ("regularised", "conic", "dilation"):
        peers = [name for name in settings["peers"] if PEERS[name] == (framework, problem)]
        size = settings["conic_size"] if problem == "conic" else settings["peer_size"]
        about: dict[str, Any] = {"role": "peer", "problem": problem, "image_size": size}
        if problem != "dilation":
            about |= {"operator": "regularised_dilation", "coupling": 1.0, "tolerance": settings["peer_tolerance"]}
        instance = f"peers-{problem}-{size}"
        for name in ["varmorph", *peers] if peers else []:
            found.append(Cell(f"{instance}-{name}", instance, {**about, "solver": name}))
    return found


def plugin_folders(settings: Mapping[str, Any], framework: str, plugins: Plugins) -> list[Path]:
    """Return the folders of the methods that bring operators."""
    return [info.folder for info in methods_with_operators(plugins.methods, framework)]


def open_instance(
    instance: str, settings: Mapping[str, Any], framework: str, device: str, threads: int
) -> OpenInstance:
    """Open an instance for the cells that `cells` lists for it."""
    if framework == "torch":
        from morphobench.studies.solvers.torch_costs import TorchCosts

        return TorchCosts(settings, device, threads)
    from morphobench.studies.solvers.jax_costs import JaxCosts

    return JaxCosts(settings, device, threads)


def failed_rows(cell: Cell) -> list[Row]:
    """Say what is known of a cell that could not be measured."""
    known = ("role", "solver", "backend", "tolerance", "image_size", "kernel_size", "coupling")
    row = {key: cell.settings[key] for key in known if key in cell.settings}
    return [{**row, "family": LAYERS.get(row.get("solver", ""), row["role"])}]


def collect(table: Any, records: Sequence[CellRecord], out: Path) -> None:
    """Write ``solvers.json``: the circumstances of the measurement, and the bandwidth of a copy by framework."""
    copies = table[(table["role"] == "copy") & (table["phase"] == "forward")]
    loads = [record.load for record in records if record.load is not None]
    first = records[0] if records else None
    circumstances = {
        "device": sorted({record.device for record in records}),
        "threads": first.threads if first else None,
        "provenance": first.provenance if first else {},
        "load_smallest": min(loads, default=None),
        "load_largest": max(loads, default=None),
        "copy_bytes_per_s": {
            row["framework"]: row["bytes_per_s"]
            for row in copies.to_dict("records")
            if row["bytes_per_s"] is not None and not math.isnan(row["bytes_per_s"])
        },
        "cells": len(records),
        "failed": sorted(record.cell for record in records if record.status != "ok"),
    }
    write_json(out / "solvers.json", circumstances)
