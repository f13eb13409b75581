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

from morphobench.project.files import write_json
from morphobench.studies.cells import Cell, CellRecord, OpenInstance, Row
from morphobench.studies.solvers.instances import LAYERS, PEERS, SOLVERS, list_cells

__all__ = ["COLUMNS", "DEFAULTS", "cells", "check", "collect", "failed_rows", "open_instance"]

DEFAULTS: dict[str, Any] = {
    "image_sizes": [32, 64, 128],  # of layers
    "kernel_sizes": [3, 5],
    "layers": list(LAYERS),
    "largest_coupled_layer": 64,  # larger images are left to layers that solve no system
    "compiled_sizes": [32],  # images on which torch.compile is tried, where it can be
    "batch": 2,
    "channels": 8,
    "dtype": "float32",  # of layers; solvers are compared in float64
    "coupled_sizes": [16, 32, 64],  # at the first of the couplings
    "couplings": [1.0, 0.1, 10.0],  # all at the middle size
    "joint_sizes": [16],  # PyTorch alone
    "solvers": list(SOLVERS),
    "tolerances": [1e-3, 1e-6],
    # JAX compiles a program for each cell, which takes seconds where solvers iterate.
    "jax_image_sizes": [32, 128],
    "jax_kernel_sizes": [3],
    "jax_coupled_sizes": [32],
    "jax_couplings": [1.0],
    "jax_solvers": ["newton", "accelerated-gradient"],
    "jax_tolerances": [1e-6],
    "peers": list(PEERS),
    "peer_size": 32,
    "conic_size": 8,
    "peer_tolerance": 1e-6,
    "copy_mib": 64,
    "repeats": 9,
    "cell_s": 0.3,
    "seed": 0,
}
DTYPES = ("float32", "float64")

# The columns of the table `solvers`; the last six are filled in by what runs the cells.
#   role: layer, coupled (a solver to an error), peer (another library), copy (bandwidth), plugin (operator of a method).
#   phase: compile (first call of a process, or XLA's compilation), forward, backward.
#   median_s, q25_s, q75_s: over `repeats`; spread: distance of medians of thirds of them over the median; cold_s: median
#     after the last-level cache was overwritten.
#   peak_bytes: growth of memory during the phase. tolerance: error asked for; error: greatest distance to the float64 reference
#     over its range; residual: that of the solver's certificate; reached: error <= tolerance.
#   pixels_per_s: output pixels of all images and channels; bytes_per_s: bytes read and written, of a copy.
COLUMNS = [
    *["cell", "instance", "role", "family", "solver", "version", "framework", "backend", "dtype", "device", "phase"],
    *["tolerance", "median_s", "q25_s", "q75_s", "spread", "cold_s", "repeats", "peak_bytes"],
    *["iterations", "residual", "error", "reached", "image_size", "batch", "channels", "kernel_size", "coupling"],
    *["pixels_per_s", "bytes_per_s", "threads", "load", "status", "message"],
]


def check(settings: Mapping[str, Any]) -> None:
    """Raise ValueError, which names key, found and expected, for settings that do not fit."""
    if settings["dtype"] not in DTYPES:
        raise ValueError(f"studies.solvers.dtype: found {settings['dtype']!r}, expected {' or '.join(DTYPES)}")
    for key, known in (("layers", LAYERS), ("solvers", SOLVERS), ("jax_solvers", SOLVERS), ("peers", PEERS)):
        for name in settings[key]:
            if name not in known:
                raise ValueError(f"studies.solvers.{key}: found {name!r}, expected entries of {', '.join(known)}")
    for key in ("kernel_sizes", "jax_kernel_sizes"):
        for kernel in settings[key]:
            if kernel % 2 == 0:
                raise ValueError(f"studies.solvers.{key}: found {kernel}, expected odd sizes: the peers pad evenly")
    for key in ("repeats", "batch", "channels", "copy_mib"):
        if settings[key] < 1:
            raise ValueError(f"studies.solvers.{key}: found {settings[key]}, expected at least 1")


def cells(settings: Mapping[str, Any], framework: str) -> list[Cell]:
    """List the cells of one framework."""
    return list_cells(settings, framework)


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
