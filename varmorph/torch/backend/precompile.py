"""Compile the kernels before they are needed: `python -m varmorph.torch.backend.precompile`."""

from __future__ import annotations

import subprocess
import sys

import torch

__all__ = ["warm_cache", "warm_side_by_side"]


def warm_cache(dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float64)) -> None:
    """Run every kernel once, forward and backward, so that the compiled code lies in the cache."""
    from varmorph import torch as varmorph

    for dtype in dtypes:
        x = torch.zeros(1, 1, 4, 4, dtype=dtype, requires_grad=True)
        bias, weight = (torch.full((1, 3, 3), v, dtype=dtype, requires_grad=True) for v in (0.0, 1.0))
        with varmorph.backend("cpu"):
            varmorph.dilation(x, bias).sum().backward()
            varmorph.dilation(x, bias.new_zeros(1, 17, 17)).sum().backward()  # more slots than a byte can number
            varmorph.erosion(x, bias, padding="replicate").sum().backward()
            varmorph.variational_dilation(x, bias, 1.0, weight=weight).sum().backward()
            varmorph.variational_erosion(x, bias, 1.0, weight=weight, padding="replicate").sum().backward()
            varmorph.variational_dilation(x, bias, 1.0, weight=weight, penalty="quantile").sum().backward()
            varmorph.variational_dilation(x, bias, 1.0, weight=weight, penalty="huber", smoothing=0.1).sum().backward()
            several = x.detach().repeat(8, 1, 1, 1).requires_grad_()  # planes that are computed side by side
            varmorph.dilation(several, bias).sum().backward()
            varmorph.variational_dilation(several, bias, 1.0, weight=weight).sum().backward()
            mixing = bias[None].detach().requires_grad_()
            varmorph.maxplus_conv2d(x, mixing.repeat(2, 1, 1, 1)).sum().backward()
            functions = mixing.repeat(2, 1, 1, 1)
            varmorph.variational_conv2d(x, functions, 1.0).sum().backward()
            varmorph.variational_conv2d(x, functions, 1.0, penalty="quantile").sum().backward()
            varmorph.variational_conv2d(x, functions, 1.0, penalty="huber", smoothing=0.1).sum().backward()
            varmorph.reconstruction(x - 1, x, bias).sum().backward()
            varmorph.regularised_dilation(x, bias, 1.0, 1.0, weight=weight).value.sum().backward()
            varmorph.joint_opening(x, bias, (-1.0, 1.0), 1.0, weight=weight).value.sum().backward()
            varmorph.graph_dilation(x[0, 0], torch.tensor([[0, 1], [1, 2]])).sum().backward()


def warm_side_by_side() -> None:
    """Do so in a process for each type: what is kept of a kernel is written by one process at a time."""
    code = "import sys, torch; from {0} import warm_cache; warm_cache((getattr(torch, sys.argv[1]),))"
    command = [sys.executable, "-c", code.format("varmorph.torch.backend.precompile")]
    processes = [subprocess.Popen([*command, name]) for name in ("float32", "float64")]
    failed = [process.args for process in processes if process.wait() != 0]
    if failed:
        raise RuntimeError(f"the kernels could not be compiled: {failed}")


if __name__ == "__main__":
    warm_side_by_side()
    print("varmorph: kernels compiled")
