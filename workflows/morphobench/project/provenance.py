"""Where a number comes from: versions, commit, hardware."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

__all__ = ["commit", "gpus", "hardware", "provenance", "versions"]

# Packages whose version can change a prediction or a timing.
RECORDED = (
    "varmorph",
    "numpy",
    "scipy",
    "torch",
    "jax",
    "jaxlib",
    "equinox",
    "optax",
    "numba",
    "scikit-learn",
    "scikit-image",
    "pandas",
    "medmnist",
    "mlxtend",
    "snakemake",
)


@functools.cache
def versions() -> dict[str, str]:
    """Version of Python and of the packages that can change a result; "" where one is not installed."""
    found = {"python": platform.python_version()}
    for name in RECORDED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = ""
    return found


# Where an untracked file is code that runs: elsewhere lie configurations and notes.
CODE = ("methods", "datasets", "varmorph", "workflows")


def commit(root: Path) -> dict[str, Any]:
    """Commit of the checkout, and whether its code is another: a tracked file differs, or one of `CODE` is not tracked; empty outside git."""

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, encoding="utf-8", errors="replace", check=False
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        head = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no")
        added = git("ls-files", "--others", "--exclude-standard", "--", *CODE)
        return {"commit": head, "dirty": bool(head and (changed or added))}
    except FileNotFoundError:
        return {"commit": "", "dirty": False}


@functools.cache
def hardware() -> dict[str, Any]:
    """Processor, cores this process may use, memory, operating system."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1),
        "gpus": list(gpus()),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@functools.cache
def gpus() -> tuple[str, ...]:
    """Names of the NVIDIA GPUs of this machine, without starting a framework."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, encoding="utf-8", errors="replace", check=False, timeout=30
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return ()
    lines = [line for line in done.stdout.splitlines() if line.startswith("GPU ")]
    return tuple(line.partition(": ")[2].partition(" (UUID")[0] for line in lines) if done.returncode == 0 else ()


def provenance(root: Path) -> dict[str, Any]:
    """Versions, commit and hardware in one mapping."""
    return {"versions": versions(), **commit(root), "hardware": hardware()}
