"""Which instances the gradient study takes: one number is varied at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from morphobench.studies.instances import OPERATORS, Specification

__all__ = ["specifications"]


def specifications(settings: Mapping[str, Any], framework: str) -> Iterator[Specification]:
    """List the instances: one number is varied at a time, around the last entry of each list.

    Numbers are varied on the first kind of data at the first image size; other data and further sizes are taken at the
    middle alone. Of two coupled operators the second is taken there too, on the first kind of data. Windows are varied for
    the separable operators. JAX, which compiles each shape anew, has one window and one image size.
    """
    for family in settings["families"] if framework == "torch" else settings["jax_families"]:
        kernels = settings["kernel_sizes"] if (family, framework) == ("separable", "torch") else []
        for operator in OPERATORS[family]:
            first = operator == OPERATORS[family][0]
            for data in settings["data"]:
                if data != settings["data"][0] and not first and family != "separable":
                    continue
                varied = kernels if data == settings["data"][0] and (first or family == "separable") else None
                yield from _around(family, operator, data, settings["image_sizes"][0], varied, settings)
            for size in settings["image_sizes"][1:] if first and framework == "torch" else ():
                yield from _around(family, operator, settings["data"][0], size, None, settings)


def _around(
    family: str, operator: str, data: str, size: int, kernels: list[int] | None, settings: Mapping[str, Any]
) -> Iterator[Specification]:
    """Vary window and numbers, one at a time; nothing where ``kernels`` is None. The coupling of a joint operator is eta."""
    regularised = family.startswith("regularised")
    levels = {"separable": settings["logit_levels"], "geodesic": [None]}.get(family, settings["coupled_levels"])
    lists = [
        settings["kernel_sizes"],
        levels,
        settings["couplings"] if regularised else settings["etas"] if family == "joint" else [None],
        settings["ridges"] if regularised else [None],
        settings["edge_smoothings"] if family == "regularised-huber" else [None],
    ]
    middle = tuple(values[-1] for values in lists)
    chosen = [middle]
    if kernels is not None:
        lists[0] = kernels
        for place, values in enumerate(lists):
            chosen += [(*middle[:place], value, *middle[place + 1 :]) for value in values]
    for numbers in dict.fromkeys(chosen):
        yield Specification(family, operator, data, size, *numbers)
