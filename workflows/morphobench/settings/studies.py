"""What each study measures: its keys in the config, with their defaults and what they may be."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, ValidationInfo, field_validator

from morphobench.settings.model import (
    Above0,
    AsInteger,
    AsWritten,
    Count,
    Number,
    Partial,
    Settings,
    Whole,
    empty_for_null,
)

__all__ = [
    "BenchmarkSettings",
    "GradientStudy",
    "NonsmoothStudy",
    "RecoveryStudy",
    "SolverStudy",
    "Studies",
    "StudySettings",
]

# Names that the studies give a meaning to; their order is the order of the cells.
OperatorFamily = Literal["separable", "regularised", "regularised-huber", "joint", "geodesic"]
GradientData = Literal["random", "image", "ties"]
GradientMode = Literal["implicit", "neumann", "one-step", "truncated", "unrolled"]
Layer = Literal[
    "variational-dilation",
    "max-plus-dilation",
    "flat-dilation",
    "regularised-dilation",
    "joint-opening",
    "reconstruction",
    "depthwise-convolution",
    "convolution",
    "max-pooling",
]
Solver = Literal["newton", "fixed-point", "anderson", "accelerated-gradient", "primal-dual", "admm"]
Peer = Literal["torchdeq", "jaxopt", "optimistix", "cvxpylayers", "kornia", "scikit-image", "scipy", "opencv"]
NonsmoothLayer = Literal["lasso", "total-variation", "pathological"]
Initialisation = Literal["random", "zero", "near-identity"]

LARGEST_IMAGE = 256  # instances of the gradient study are cut from a photograph
Framework = Literal["torch", "jax"]
ImageSizes = Annotated[list[Annotated[int, Field(ge=4, le=LARGEST_IMAGE), AsInteger]], Field(min_length=1)]
SomeNumbers = Annotated[list[Number], Field(min_length=1)]
SomeAbove0 = Annotated[list[Above0], Field(min_length=1)]


def _odd(size: int) -> int:
    if size % 2 == 0:
        raise ValueError(f"found {size}, expected an odd size: the peers pad evenly")
    return size


OddSize = Annotated[Whole, AfterValidator(_odd)]


class StudySettings(Settings):
    """What the harness asks of every study."""

    frameworks: list[Framework] = ["torch", "jax"]
    """Frameworks that are measured, one process each."""
    timeout_s: Number = 120.0
    """Seconds after which a cell is ended."""
    memory_mb: Whole = 8000
    """Resident memory in MiB above which a cell is ended."""
    repeats: Whole = 1
    """How often each cell is measured, in turns with the others of its instance."""
    cell_s: Number = 0.0
    """Seconds of measuring after which a cell is not repeated again."""


class GradientStudy(StudySettings):
    """Gradient accuracy against the float64 reference: one number of the instances is varied at a time."""

    families: list[OperatorFamily] = list(get_args(OperatorFamily))
    """Families of operators, in PyTorch."""
    data: list[GradientData] = list(get_args(GradientData))
    """What the images are: random numbers, a photograph, or plateaus where many neighbours are equal."""
    image_sizes: ImageSizes = [16]
    """Sides of the images; at the first everything else is varied."""
    kernel_sizes: Annotated[list[Whole], Field(min_length=1)] = [5, 3]
    """Sides of the windows, the last being that of all other instances."""
    logit_levels: SomeNumbers = [0.0, 2.0, 4.0, 8.0]
    """Levels of the separable operators, as logits."""
    coupled_levels: SomeNumbers = [2.0]
    """Levels of the other operators, as logits."""
    couplings: SomeAbove0 = [0.1, 10.0]
    """Couplings of the regularised operators."""
    etas: SomeAbove0 = [0.5]
    """Couplings of the joint operators."""
    ridges: SomeAbove0 = [0.1]
    """Ridges of the regularised operators."""
    edge_smoothings: SomeAbove0 = [0.1]
    """Smoothings of the Huber penalty."""
    adjoint_tolerances: list[Above0] = [1e-2, 1e-4, 1e-6, 1e-8, 1e-10, 1e-12]
    """Tolerances of the adjoint solve."""
    forward_tolerances: list[Above0] = [1e-1, 1e-3, 1e-5, 1e-7]
    """Tolerances of the forward solve, in PyTorch."""
    neumann: list[Count] = [1, 4, 64]
    """Numbers of terms of the Neumann series."""
    truncated: list[Count] = [4]
    """Numbers of iterations that are differentiated after the solution has been found."""
    unrolled: list[Count] = [4, 16, 64]
    """Numbers of iterations that are differentiated from the start."""
    steps: list[Above0] = [1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-8]
    """Steps of the finite differences, less than every coupling, eta, ridge and edge smoothing."""
    coordinates: Whole = 8
    """Most entries of a parameter group that are differenced."""
    # JAX compiles a program for each cell, so that it is asked for fewer.
    jax_families: list[OperatorFamily] = ["separable", "regularised", "geodesic"]
    """Families of operators, in JAX."""
    jax_modes: list[GradientMode] = ["implicit", "neumann", "one-step", "unrolled"]
    """Ways of differentiating, in JAX."""
    jax_adjoint_tolerances: list[Above0] = [1e-2, 1e-6, 1e-10]
    """Tolerances of the adjoint solve, in JAX."""
    jax_neumann: list[Count] = [4]
    """Numbers of terms of the Neumann series, in JAX."""
    jax_unrolled: list[Count] = [16]
    """Numbers of unrolled iterations, in JAX."""
    repeats: Whole = 6  # the fewest of which the spread of medians is known
    """How often each gradient is timed."""
    cell_s: Number = 0.1
    """Seconds of timing after which a cell is not repeated again."""
    seed: Whole = 0
    """Seed of the instances."""

    @field_validator("steps")
    @classmethod
    def _steps_keep_numbers_positive(cls, steps: list[float], info: ValidationInfo) -> list[float]:
        """Refuse a step that takes a number which has to be positive to 0 or below."""
        keys = ("couplings", "etas", "ridges", "edge_smoothings")
        smallest = min((number for key in keys for number in info.data.get(key, ())), default=float("inf"))
        if max(steps, default=0) >= smallest:
            raise ValueError(f"found {max(steps)}, expected less than {smallest}")
        return steps


class SolverStudy(StudySettings):
    """Time and memory of operators beside convolution and pooling, of every solver to a given error, and of other libraries."""

    image_sizes: list[Whole] = [32, 64, 128]
    """Sides of the images of layers."""
    kernel_sizes: list[OddSize] = [3, 5]
    """Sides of the windows of layers."""
    layers: list[Layer] = list(get_args(Layer))
    """Layers that are timed."""
    largest_coupled_layer: Whole = 64
    """Side above which images are left to layers that solve no system."""
    compiled_sizes: list[Whole] = [32]
    """Sides of images on which torch.compile is tried, where it can be."""
    batch: Count = 2
    """Images of a layer."""
    channels: Count = 8
    """Channels of a layer."""
    dtype: Literal["float32", "float64"] = "float32"
    """Precision of layers; solvers are compared in float64."""
    coupled_sizes: list[Whole] = [16, 32, 64]
    """Sides of the images of solvers, at the first of the couplings."""
    couplings: list[Number] = [1.0, 0.1, 10.0]
    """Couplings of solvers, all at the middle size."""
    joint_sizes: list[Whole] = [16]
    """Sides of the images of joint operators, in PyTorch."""
    solvers: list[Solver] = list(get_args(Solver))
    """Solvers that are compared."""
    tolerances: list[Number] = [1e-3, 1e-6]
    """Errors that the solvers are asked for."""
    # JAX compiles a program for each cell, which takes seconds where solvers iterate.
    jax_image_sizes: list[Whole] = [32, 128]
    """Sides of the images of layers, in JAX."""
    jax_kernel_sizes: list[OddSize] = [3]
    """Sides of the windows of layers, in JAX."""
    jax_coupled_sizes: list[Whole] = [32]
    """Sides of the images of solvers, in JAX."""
    jax_couplings: list[Number] = [1.0]
    """Couplings of solvers, in JAX."""
    jax_solvers: list[Solver] = ["newton", "accelerated-gradient"]
    """Solvers that are compared, in JAX."""
    jax_tolerances: list[Number] = [1e-6]
    """Errors that the solvers are asked for, in JAX."""
    peers: list[Peer] = list(get_args(Peer))
    """Other libraries on the same instances; one that is not installed is a row that says so."""
    peer_size: Whole = 32
    """Side of the images of peers."""
    conic_size: Whole = 8
    """Side of the images of peers that solve a conic program."""
    peer_tolerance: Number = 1e-6
    """Error that peers are asked for."""
    copy_mib: Count = 64
    """Size in MiB of the copy that shows the bandwidth of the machine."""
    repeats: Count = 9
    """How often each cell is timed, in turns with the others of its instance."""
    cell_s: Number = 0.3
    """Seconds of timing after which a cell is not repeated again."""
    seed: Whole = 0
    """Seed of the instances."""


class RecoveryStudy(StudySettings):
    """Structuring functions learned from pairs of images, from several starts."""

    frameworks: list[Literal["torch"]] = Field(default=["torch"], max_length=1)  # type: ignore[assignment]
    """Frameworks that learn."""
    datasets: list[str] = ["operator-recovery"]
    """Data sets of pairs: name, for every variant, or name.variant."""
    initialisations: list[Initialisation] = list(get_args(Initialisation))
    """Where the structuring functions start."""
    seeds: Count = 10
    """Number of starts that are learned from together."""
    first_seed: Whole = 0
    """The first of the seeds."""
    learning_rates: list[Number] = [0.0]
    """Learning rates tried; 0 takes that of the operator."""
    steps: Count = 300
    """Optimiser steps."""
    batch: Count = 8
    """Pairs a seed and step."""
    check_every: Count = 10
    """Steps from one comparison with the true structuring function to the next."""
    repeats: Count = 1
    """How often each cell is run; it trains once in each."""
    timeout_s: Number = 600.0
    """Seconds after which a cell is ended."""


class NonsmoothStudy(StudySettings):
    """Gradients of nonsmooth layers near kinks, at them, and where the theory's assumption fails."""

    frameworks: list[Literal["torch"]] = Field(default=["torch"], max_length=1)  # type: ignore[assignment]
    """Frameworks whose layers are differentiated."""
    layers: list[NonsmoothLayer] = list(get_args(NonsmoothLayer))
    """Layers; pathological stands for those whose equation is not invertible for some selection."""
    seeds: Whole = 2
    """Number of instances of each layer."""
    distances: list[AsWritten[Annotated[float, Field(ge=0)]]] = [1e-1, 1e-2, 1e-3, 0.0]
    """Distances of x from the kink; 0 is the kink."""
    smoothings: list[Above0] = [1e-1, 1e-2, 1e-3, 1e-4]
    """Smoothings s of the sparse layer: sqrt(z^2 + s^2) for |z|."""
    factors: list[AsWritten[Annotated[float, Field(ge=1)]]] = [4.0, 2.0, 1.1, 1.01]
    """Factors of the edge smoothing of total variation."""
    unrolled: list[Count] = [1, 10, 100]
    """Numbers of unrolled iterations."""
    steps: list[Above0] = [1e-2, 1e-4, 1e-6]
    """Steps of the finite differences."""


class BenchmarkSettings(Settings):
    """The operator benchmarks of tests/benchmarks, through pytest-benchmark."""

    seconds: Above0 = 0.5
    """Time that one benchmark may take."""
    only: Annotated[str, StringConstraints(min_length=1)] = "test_"
    """Which benchmarks are run, as an expression of pytest's -k; test_ means all."""


class Studies(Partial):
    """What the studies measure; a study that is absent is not run, one without keys takes every default."""

    gradients: Annotated[GradientStudy | None, BeforeValidator(empty_for_null)] = None
    solvers: Annotated[SolverStudy | None, BeforeValidator(empty_for_null)] = None
    recovery: Annotated[RecoveryStudy | None, BeforeValidator(empty_for_null)] = None
    nonsmooth: Annotated[NonsmoothStudy | None, BeforeValidator(empty_for_null)] = None
    benchmarks: Annotated[BenchmarkSettings | None, BeforeValidator(empty_for_null)] = None
