"""Compile the kernels before they are needed: `python -m varmorph.torch.kernels.warm`."""

from __future__ import annotations

import torch

__all__ = ["warm_cache"]


def warm_cache(dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float64)) -> None:
    """Run every kernel once, forward and backward, so that the compiled code lies in the cache."""
    from varmorph.torch import backend, dilation, variational_dilation

    for dtype in dtypes:
        x = torch.zeros(1, 1, 4, 4, dtype=dtype, requires_grad=True)
        bias, weight = (torch.full((1, 3, 3), v, dtype=dtype, requires_grad=True) for v in (0.0, 1.0))
        with backend("cpu"):
            dilation(x, bias).sum().backward()
            variational_dilation(x, bias, weight, 1.0).sum().backward()


if __name__ == "__main__":
    warm_cache()
    print("varmorph: kernels compiled")
