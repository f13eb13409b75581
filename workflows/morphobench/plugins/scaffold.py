"""Writes working plugins to start from."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

from morphobench.project.errors import UserError
from morphobench.project.paths import Project
from morphobench.settings.yaml_text import load

__all__ = ["new_dataset", "new_method", "print_written"]

NAME = re.compile(r"^[a-z0-9][a-z0-9-]*$")

METHOD_YAML = """\
name: {name}
title: {name}
summary: Local average on the suite's backbone (replace this by one sentence about your method).
family: cnn
framework: {framework}
tasks: [classification, segmentation]
params:
  learning_rate: 0.003
"""

TORCH_METHOD = '''\
"""{name}: a spatial operator on the suite's backbone."""

from torch import nn


def operator(channels, kernel_size, params):
    """Return a module that maps (N, channels, H, W) to the same shape."""
    return nn.AvgPool2d(kernel_size, stride=1, padding=kernel_size // 2, count_include_pad=False)
'''

JAX_METHOD = '''\
"""{name}: a spatial operator on the suite's backbone."""

import equinox as eqx
import jax
import jax.numpy as jnp


class LocalAverage(eqx.Module):
    """Mean over a window, of the pixels that lie in the image."""

    kernel_size: int = eqx.field(static=True)

    def __call__(self, x):
        """Map (N, C, H, W) to the same shape."""
        window = (1, 1, self.kernel_size, self.kernel_size)
        total, count = (
            jax.lax.reduce_window(values, 0.0, jax.lax.add, window, (1, 1, 1, 1), "SAME")
            for values in (x, jnp.ones_like(x))
        )
        return total / count


def operator(channels, kernel_size, params):
    """Return a module that maps (N, channels, H, W) to the same shape.

    First weights come from params["stream"], in the order in which layers are made: weight, bias = stream.layer(shape) is
    what PyTorch starts a convolution with, stream.normal(shape, deviation) normal numbers, and
    jax.random.key(stream.seed()) a key for layers that want one. morphobench.training.jax.layers has layers that take the stream.
    """
    return LocalAverage(kernel_size)
'''

METHODS = {"torch": TORCH_METHOD, "jax": JAX_METHOD}

METHOD_README = """\
# {name}

What it is, the paper it comes from, what its parameters mean, what it is weak at.
"""

DATASET_YAML = """\
name: {name}
title: {name}
summary: Bright and dark noise (replace this by one sentence about your data).
task: classification
licence: CC0-1.0
citation: generated, nothing to cite
classes: [dark, bright]
"""

DATASET = '''\
"""{name}: pictures of noise, bright or dark."""

import numpy as np

from morphobench.contract import Split

SEEDS = {{"train": 1, "valid": 2, "test": 3}}


def prepare(variant, cache):
    """Nothing has to be kept: the pictures are made when they are loaded."""


def load(variant, cache, split):
    """Return 60 pictures of 12x12 pixels."""
    rng = np.random.default_rng(SEEDS[split])
    labels = np.arange(60) % 2
    images = rng.random((60, 1, 12, 12)) * 0.5 + 0.5 * labels[:, None, None, None]
    return Split(images.astype(np.float32), labels.astype(np.int64))
'''

DATASET_README = """\
# {name}

What the pictures show, where they come from, their licence, how they are split.
"""


# A configuration for a first look at a new plugin, in one line that a shell can be given.
FIRST_RUN = r"""printf 'run: {name}\ndatasets: [{dataset}]\nmethods: {{include: [{methods}]}}\nseeds: [0, 1, 2]\nbudget: {{epochs: 3}}\n' """
FIRST_RUN += "> {name}.yaml; snakemake --cores all --configfile {name}.yaml"


def new_method(project: Project, name: str, framework: str = "torch") -> Path:
    """Write a working method plugin into ``methods/name`` and return the folder.

    Raises
    ------
    UserError
        If the name is not a valid one or is taken, or there is no such framework to start from.
    """
    if framework not in METHODS:
        raise UserError(f"--framework: found {framework!r}, expected one of {', '.join(METHODS)}")
    files = {"method.yaml": METHOD_YAML, "method.py": METHODS[framework], "README.md": METHOD_README}
    return _write(project.methods, name, files, framework=framework)


def new_dataset(project: Project, name: str) -> Path:
    """Write a working data set plugin into ``datasets/name`` and return the folder.

    Raises
    ------
    UserError
        If the name is not a valid one or is taken.
    """
    files = {"dataset.yaml": DATASET_YAML, "dataset.py": DATASET, "README.md": DATASET_README}
    return _write(project.datasets, name, files)


def print_written(folder: Path) -> None:
    """Print which files a new plugin has, and what to do next."""
    for path in sorted(folder.iterdir()):
        print(f"wrote {path}")
    name, kind = folder.name, folder.parent.name
    if kind == "methods":
        fields = {"dataset": "digits", "methods": f"{name}, backbone-none, backbone-depthwise"}
    else:
        fields = {"dataset": name, "methods": "chance, linear, backbone-depthwise"}
    print(f"next: edit it, then run  python -m morphobench check {name}")
    print(
        f"plain snakemake runs only the {kind} that workflows/config/default.yaml names: add it there, or try it alone:"
    )
    print(f"  {FIRST_RUN.format(name=name, **fields)}")


def _write(parent: Path, name: str, files: dict[str, str], **fields: str) -> Path:
    """Write the files into a hidden folder first, so that a plugin is whole or absent."""
    folder = parent / name
    if not NAME.match(name):
        raise UserError(f"name: found {name!r}, expected lower-case letters, digits and hyphens ({NAME.pattern})")
    if load(name) != name:
        raise UserError(
            f"name: found {name!r}, which YAML reads as {load(name)!r}; expected what is text without quotes"
        )
    if folder.exists():
        raise UserError(f"{folder} exists already; choose another name")
    temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    try:
        for file, template in files.items():
            (temporary / file).write_text(template.format(name=name, **fields), encoding="utf-8")
        temporary.chmod(0o755)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder
