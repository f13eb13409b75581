"""Made-up tables of the gradient and the solver study with what real ones can hold: every mode, kinks, failures, peers that are missing."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from morphobench.report.results import RunResults, by_kind
from morphobench.report.style import Drawing, drawing_style
from morphobench.report.table import ReportTable
from morphobench.studies.gradients.study import COLUMN_TYPES as GRADIENTS
from morphobench.studies.solvers.study import COLUMN_TYPES as SOLVERS
from morphobench.studies.tables import study_table

Row = dict[str, Any]
CPU = "cpu (Example CPU)"
SEPARABLE = ("x", "bias", "weight", "logit_level")
GROUPS = {
    "separable": SEPARABLE,
    "regularised": (*SEPARABLE, "coupling", "ridge"),
    "regularised-huber": (*SEPARABLE, "coupling", "ridge"),
    "joint": (*SEPARABLE, "coupling"),
    "geodesic": ("marker", "mask"),
    "plugin": ("x", "shift"),
}
OPERATORS = {
    "separable": "variational_dilation",
    "regularised": "regularised_dilation",
    "regularised-huber": "regularised_dilation",
    "joint": "joint_opening",
    "geodesic": "reconstruction",
    "plugin": "my-dilation",
}
STEPS = [10.0**-power for power in range(1, 12)]


def gradient_table(seed: int = 3) -> pd.DataFrame:
    """Table of the gradient study, both frameworks."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for framework in ("torch", "jax"):
        for family, groups in GROUPS.items():
            for number in range(6 if (framework, family) == ("torch", "regularised") else 1):
                instance = f"{family}-{('random', 'image')[number % 2]}-{16 * 2 ** (number % 3)}-{number}"
                base = _gradient_base(instance, family, framework, number)
                rows += _modes(base, groups, rng)
                rows += _differences(base, groups, rng)
            rows += _ties(_gradient_base(f"{family}-ties", family, framework, 0) | {"data": "ties"}, groups, rng)
    rows += [_failed(_gradient_base("regularised-random-64-8", "regularised", "jax", 2))]
    return study_table(rows, GRADIENTS)


def _gradient_base(instance: str, family: str, framework: str, number: int) -> Row:
    base: Row = dict.fromkeys(GRADIENTS) | {"cell": f"{instance}-{framework}", "instance": instance, "family": family}
    base |= {"operator": OPERATORS[family], "data": ("random", "image")[number % 2], "framework": framework}
    base |= {"backend": "tensor", "dtype": "float64", "device": CPU, "kink": False, "repeats": 9, "threads": 2}
    base |= {"load": 1.4, "status": "ok", "message": "", "image_size": 16 * 2 ** (number % 3), "kernel_size": 3}
    return base | {"logit_level": (-4.0, 0.0, 4.0)[number % 3], "coupling": 10.0 ** (number % 3 - 1), "ridge": 1e-3}


def _settings(family: str) -> list[tuple[str, str, float | None, float, float, float, int]]:
    """Mode, setting, value, error, relative time, bytes kept and iterations."""
    if family == "plugin":
        return [("implicit", "1e-10", 1e-10, 3e-11, 1.2, 3e4, 8), ("own", "autograd", None, 1e-9, 2.0, 5e4, 9)]
    found: list[Any] = [("one-step", "newton", None, 2e-15 if family == "separable" else 2e-2, 1.1, 3e4, 8)]
    found += [("one-step", "gradient-descent", None, 0.8, 1.0, 3e4, 8)]
    for k in (1, 2, 4, 8, 16):
        found += [("unrolled", f"newton {k}", k, max(10.0 ** (-1.6 * k), 4e-16), 0.5 + 0.35 * k, 4e4 * k, k)]
        found += [("truncated", f"newton {k}", k, max(10.0 ** (-1.2 * k), 1e-10), 1.2 + 0.3 * k, 4e4 * k, k)]
    for k in (2, 8, 32, 128):
        found += [("unrolled", f"gradient-descent {k}", k, max(0.88**k, 1e-7), 0.4 + 0.08 * k, 2e4 * k, k)]
        found += [("neumann", f"{k}", k, max(0.8**k, 1e-13), 1.2 + 0.02 * k, 3e4, 8)]
    if family == "separable":
        found += [("implicit", "tensor", None, 3e-16, 1.2, 3e4, 8)]
    else:
        found += [
            ("implicit", f"{10.0**-p:.0e}", 10.0**-p, 0.3 * 10.0**-p, 1 + 0.1 * p, 3e4, 8) for p in (2, 4, 6, 8, 10, 12)
        ]
    return found


def _modes(base: Row, groups: tuple[str, ...], rng: np.random.Generator) -> list[Row]:
    family, slow = base["family"], 3.0 if base["framework"] == "jax" else 1.0
    unit = 2e-7 * base["image_size"] ** 2 * slow * rng.uniform(0.8, 1.25)
    rows = []
    variants = [("tensor", "float64", entry) for entry in _settings(family)]
    variants += [("tensor", "float32", ("implicit", "1e-06", 1e-6, 3e-6, 0.8, 1.5e4, 8))]
    if family == "separable" and base["framework"] == "torch":
        variants += [("cpu", "float64", ("implicit", "cpu", None, 4e-16, 0.2, 1e4, 8))]
    for power in (1, 2, 3, 4, 6, 8, 10, 12) if family not in ("separable", "plugin") else ():
        setting = f"forward {10.0**-power:.0e}"
        variants += [("tensor", "float64", ("implicit", setting, 1e-12, 10.0**-power, 1 + 0.1 * power, 3e4, 2 + power))]
    for backend, dtype, (mode, setting, value, error, price, kept, iterations) in variants:
        seconds = unit * price * rng.lognormal(0, 0.03)
        shared = base | {"mode": mode, "setting": setting, "value": value, "backend": backend, "dtype": dtype}
        shared |= {"median_s": seconds, "q25_s": 0.95 * seconds, "q75_s": 1.1 * seconds, "iterations": iterations}
        shared |= {"spread": rng.uniform(0.002, 0.12), "active": 1.0, "forward_residual": 1e-14}
        shared |= {"peak_bytes": kept * base["image_size"] ** 2 / 256 if base["framework"] == "torch" else None}
        shared |= {"adjoint_iterations": 20, "certificate": value} if mode == "implicit" and value else {}
        if setting.startswith("forward"):
            tolerance = float(setting.split()[1])
            late = tolerance > 1e-4
            shared |= {"forward_tolerance": tolerance, "forward_error": tolerance / 3, "active": 0.97 if late else 1.0}
            error = 0.5 * tolerance * (30 if late else 1)
        for group in groups:
            found = error * rng.lognormal(0, 0.5)
            rows.append(shared | {"parameter": group, "relative_error": found, "cosine": 1 - min(found**2, 1.5)})
    return rows


def _differences(base: Row, groups: tuple[str, ...], rng: np.random.Generator) -> list[Row]:
    rows = []
    for group in groups:
        linear = group in ("x", "bias", "marker", "mask")
        for mode, order in (("finite-differences", 2), ("richardson", 4)):
            for h in STEPS:
                error = (1e-16 / h + (0.0 if linear else h**order)) * rng.lognormal(0, 0.5)
                kink = h > 0.03 and linear
                row = base | {"mode": mode, "setting": f"h={h:.0e}", "value": h, "parameter": group, "kink": kink}
                row |= {
                    "relative_error": error + 0.2 * kink,
                    "relative_error_smooth": error,
                    "cosine": 1 - min(error, 1.0),
                }
                row |= {"median_s": 4e-3, "coordinates": 12, "iterations": 24, "active": 1 - 0.1 * kink}
                rows.append(row | {"peak_bytes": 0.0, "spread": 0.03})
        slope = base | {"mode": "taylor", "setting": "slope", "value": 2 + rng.normal(0, 0.02), "parameter": group}
        rows.append(slope)
    return rows


def _ties(base: Row, groups: tuple[str, ...], rng: np.random.Generator) -> list[Row]:
    rows = []
    for mode, setting, share in (
        ("implicit", "1e-12", 1.0),
        ("unrolled", "newton 16", 1.0),
        ("one-step", "newton", 0.9),
    ):
        for group in groups[:2]:
            row = base | {"mode": mode, "setting": setting, "parameter": group, "kink": True, "relative_error": 0.4}
            rows.append(row | {"cosine": 0.9, "active": 0.8})
            row = base | {"mode": "hull", "setting": f"{mode} {setting}", "parameter": group, "kink": True}
            rows.append(row | {"hull": share, "hull_violation": 0.0 if share == 1 else rng.uniform(0.01, 0.1)})
    return rows


def _failed(base: Row) -> Row:
    row = base | {"mode": "unrolled", "setting": "newton 16", "value": 16.0, "status": "timeout", "active": None}
    return row | {"parameter": None, "message": "the time limit of 60 s has passed", "repeats": None, "kink": None}


def solver_table(seed: int = 5) -> pd.DataFrame:
    """Table of the solver study, both frameworks."""
    rng = np.random.default_rng(seed)
    rows = [*_layers(rng), *_coupled(rng), *_peers(rng)]
    for framework, speed in (("torch", 9e9), ("jax", 7e9)):
        row = _solver_base("copy", "", framework) | {"instance": "copy", "solver": "copy", "phase": "forward"}
        rows.append(row | {"median_s": 3e-3, "bytes_per_s": speed, "spread": 0.01})
    return study_table(rows, SOLVERS)


def _solver_base(role: str, family: str, framework: str) -> Row:
    base: Row = dict.fromkeys(SOLVERS) | {"role": role, "family": family, "framework": framework, "backend": "tensor"}
    base |= {"dtype": "float32", "device": CPU, "repeats": 9, "threads": 2, "load": 1.2, "status": "ok", "message": ""}
    return base | {"cell": f"{role}-{family}", "version": "1.0"}


LAYERS = {  # price a pixel and bytes a pixel
    "variational-dilation": (6.0, 40),
    "max-plus-dilation": (2.0, 16),
    "regularised-dilation": (90.0, 60),
    "joint-opening": (160.0, 80),
    "reconstruction": (60.0, 24),
    "flat-dilation": (1.5, 16),
    "max-pooling": (2.5, 16),
    "depthwise-convolution": (1.6, 12),
    "convolution": (5.0, 12),
}


def _layers(rng: np.random.Generator) -> list[Row]:
    rows = []
    for framework in ("torch", "jax"):
        for kernel in (3, 5):
            for size in (16, 64, 128):
                for solver, (price, kept) in LAYERS.items():
                    for backend in ("tensor", "cpu") if "dilation" in solver and framework == "torch" else ("tensor",):
                        rows += _layer(rng, framework, kernel, size, solver, backend, price, kept)
    return rows


def _layer(
    rng: np.random.Generator, framework: str, kernel: int, size: int, solver: str, backend: str, price: float, kept: int
) -> list[Row]:
    rows, pixels = [], 2 * 8 * size**2
    for phase, factor in (("compile", 0.0), ("forward", 1.0), ("backward", 2.2)):
        speed = {"tensor": 3.0, "cpu": 0.4}[backend] if "dilation" in solver else 1.0
        seconds = factor * (2e-5 + price * speed * pixels * kernel**2 / 9 * 1e-9) * rng.uniform(0.9, 1.1)
        seconds += 0.4 * rng.uniform(0.8, 1.2) * (phase == "compile") * (3 if framework == "jax" else 0.3)
        row = _solver_base("layer", "layer", framework) | {"instance": f"layer-{size}-{kernel}", "solver": solver}
        row |= {"cell": f"layer-{size}-{kernel}-{solver}", "backend": backend, "phase": phase, "median_s": seconds}
        row |= {
            "q25_s": 0.93 * seconds,
            "q75_s": 1.1 * seconds,
            "spread": rng.uniform(0, 0.08),
            "batch": 2,
            "channels": 8,
        }
        row |= {"image_size": size, "kernel_size": kernel, "peak_bytes": None if phase == "compile" else kept * pixels}
        row |= {"pixels_per_s": None if phase == "compile" else pixels / seconds, "coupling": 1.0}
        rows.append(row | {"cold_s": 1.4 * seconds if size == 16 else None})
    return rows


GRID = [(32, 0.1), (32, 1.0), (32, 10.0), (16, 1.0), (64, 1.0)]  # size and coupling
COUPLED = {"newton": 5, "fixed-point": 60, "anderson": 25, "accelerated-gradient": 90, "primal-dual": 150, "admm": 110}


def _coupled(rng: np.random.Generator) -> list[Row]:
    rows = []
    for framework in ("torch", "jax"):
        for family, cases in (("regularised", GRID), ("regularised-huber", GRID[:3]), ("joint", GRID[:1])):
            for size, coupling in cases:
                for solver, pace in COUPLED.items():
                    for tolerance in (1e-3, 1e-6):
                        rows += _solve(rng, framework, family, size, coupling, solver, pace, tolerance)
    failed = rows[0] | dict.fromkeys(
        ("median_s", "q25_s", "q75_s", "residual", "error", "reached", "iterations", "repeats")
    )
    return [
        *rows,
        failed | {"cell": "coupled-lost", "status": "error", "message": "RuntimeError: <b>singular</b> matrix"},
    ]


def _solve(
    rng: np.random.Generator,
    framework: str,
    family: str,
    size: int,
    coupling: float,
    solver: str,
    pace: int,
    tolerance: float,
) -> list[Row]:
    rows = []
    steps = math.ceil(pace * (1 if solver == "newton" else -math.log10(tolerance) / 3 * (1 + coupling) ** 0.5))
    reached = steps < 400
    error = tolerance * rng.uniform(0.1, 0.8) if reached else 30 * tolerance
    for phase, factor in (("forward", 1.0), ("backward", 0.3)):
        seconds = factor * steps * size**2 * (8e-8 if solver == "newton" else 2e-8) * rng.uniform(0.9, 1.1)
        row = _solver_base("coupled", family, framework) | {
            "instance": f"{family}-{size}-{coupling:g}",
            "solver": solver,
        }
        row |= {"cell": f"coupled-{family}-{size}-{coupling:g}-{solver}-{tolerance:.0e}", "dtype": "float64"}
        row |= {
            "phase": phase,
            "tolerance": tolerance,
            "median_s": seconds,
            "q25_s": 0.9 * seconds,
            "q75_s": 1.1 * seconds,
        }
        row |= {"iterations": steps, "residual": tolerance / 2, "error": error, "reached": reached, "image_size": size}
        row |= {"batch": 1, "channels": 1, "kernel_size": 3, "coupling": coupling, "peak_bytes": 300 * size**2}
        rows.append(row | {"spread": rng.uniform(0, 0.1), "pixels_per_s": size**2 / seconds})
    return rows


def _peers(rng: np.random.Generator) -> list[Row]:
    rows = []
    libraries = [("varmorph", "torch"), ("torchdeq", "torch"), ("cvxpylayers", "torch")]
    for solver, framework in [*libraries, ("varmorph", "jax"), ("jaxopt", "jax"), ("optimistix", "jax")]:
        installed = solver in ("varmorph", "torchdeq", "optimistix")
        for tolerance in (1e-4, 1e-6):
            row = _solver_base("peer", "regularised", framework) | {"instance": "regularised-32-1", "solver": solver}
            row |= {
                "cell": f"peer-{solver}-{tolerance:.0e}",
                "phase": "forward",
                "tolerance": tolerance,
                "image_size": 32,
            }
            row |= {"dtype": "float64", "coupling": 1.0, "kernel_size": 3, "batch": 1, "channels": 1}
            if installed:
                row |= {
                    "version": "0.3.1",
                    "median_s": 0.01 * len(solver),
                    "iterations": 60,
                    "error": tolerance / 2,
                    "reached": True,
                }
                row |= {"q25_s": 0.04, "q75_s": 0.06, "spread": rng.uniform(0, 0.1)}
            else:
                row |= {"version": "", "status": "unavailable", "message": "not installed", "repeats": None}
            rows.append(row)
    return rows


def with_table(results: RunResults, study: str, table: pd.DataFrame) -> RunResults:
    """Return the results with another table of a study."""
    return dataclasses.replace(results, studies={**results.studies, study: by_kind(table)})


def only(results: RunResults, **conditions: Callable[[pd.DataFrame], pd.Series] | None) -> RunResults:
    """Return the results with the rows of some studies for which a condition holds."""
    kept = {name: results.studies[name][holds(results.studies[name])] for name, holds in conditions.items() if holds}
    return dataclasses.replace(results, studies={**results.studies, **kept})


def drawn(draw: Callable[[RunResults], Any], results: RunResults, *, arranged: bool = False) -> Any:
    """Return the figure, if wanted arranged as it is when it is saved; no warning is raised by either."""
    with drawing_style(), warnings.catch_warnings():
        warnings.simplefilter("error")
        found = draw(results)
        if arranged and isinstance(found, Drawing):
            found.figure.draw_without_rendering()
    return found


def cells_by_column(table: ReportTable, **wanted: str) -> list[dict[str, str]]:
    """Cells of the rows whose columns have the wanted texts, as mappings by column."""
    rows = [dict(zip(table.columns, (cell.text for cell in row), strict=True)) for row in table.rows]
    keys = {key.replace("_", " "): value for key, value in wanted.items()}
    return [row for row in rows if all(row[key] == value for key, value in keys.items())]
