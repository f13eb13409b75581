"""The environment of a worker: what libraries read there when they start decides, down to the bit, what they compute."""

from __future__ import annotations

import os

__all__ = ["THREADS", "worker_environment"]

# What libraries read their number of threads from, when they start. XLA on a processor reads the last two (older releases of JAX
# the last one); its flags, --xla_cpu_multi_thread_eigen=false among them, leave JAX 0.10 as many threads as there are cores.
THREADS = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"),
    *("PJRT_NPROC", "NPROC"),
)


def worker_environment(threads: int, device: str) -> dict[str, str]:
    """Return this process's environment as a worker is to have it.

    Parameters
    ----------
    threads : int
        Threads of every library.
    device : str
        "cpu" or "cuda:<k>": the worker sees that GPU alone, or none.
    """
    kind, _, index = device.partition(":")
    environment = os.environ | dict.fromkeys(THREADS, str(threads))
    environment |= {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "PYTHONHASHSEED": "0"}
    environment["PYTHONUTF8"] = "1"  # what a plugin reads and prints is the same in every locale
    environment |= {"CUDA_VISIBLE_DEVICES": index, "JAX_PLATFORMS": kind, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    if kind == "cuda":
        environment["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true".strip()
    return environment
