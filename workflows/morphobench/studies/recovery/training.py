"""Learns a structuring function from pairs of images, for all seeds at once: each is a channel (PyTorch)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from morphobench.contract import InvalidPlugin, MorphologicalTarget, RecoveryOperator, Split
from morphobench.studies.recovery.metrics import LARGEST_ERROR, compare
from morphobench.training.torch.learner import deterministic, keep_freed_memory

__all__ = ["Lesson", "Recovered", "first_functions", "learn"]

FIRST, BATCHES = 21, 22  # name the random streams beside the seed: of the first structuring functions, of the batches
NOTICEABLE = 1e-3  # an element whose gradient is smaller than this share of the window's largest gets none


@dataclass(frozen=True)
class Lesson:
    """How long is learned from how many pairs, and how often it is looked whether the element has been found."""

    steps: int
    batch: int
    check_every: int


@dataclass(frozen=True)
class Recovered:
    """What the seeds have learned: one entry, or one structuring function (kh, kw), a seed.

    ``steps_to_success`` is the first step after which the element error was small enough, NaN if it never was;
    ``gradient_share`` the mean over steps of the share of the window whose gradient was noticeable; ``output_error`` the root
    mean square error on the test pairs, ``valid_error`` that on the validation pairs.
    """

    structuring_functions: np.ndarray
    valid_error: np.ndarray
    output_error: np.ndarray
    steps_to_success: np.ndarray
    gradient_share: np.ndarray
    seconds: float


def first_functions(initialisation: str, shape: tuple[int, ...], seeds: Sequence[int]) -> np.ndarray:
    """Return the first structuring functions (seeds, kh, kw), the same for every operator.

    ``random``: uniform from -1 to 0. ``zero``: the full window. ``near-identity``: 0 at the centre, elsewhere normal with mean
    -1/2 and standard deviation 1/10.
    """
    functions = np.zeros((len(seeds), *shape))
    for seed, function in zip(seeds, functions, strict=True):
        generator = np.random.default_rng([seed, FIRST])
        if initialisation == "random":
            function[...] = generator.uniform(-1.0, 0.0, shape)
        elif initialisation == "near-identity":
            function[...] = generator.normal(-0.5, 0.1, shape)
            function[shape[0] // 2, shape[1] // 2] = 0.0
    return functions.astype(np.float32)


def learn(
    operator: RecoveryOperator,
    target: MorphologicalTarget,
    first: np.ndarray,
    seeds: Sequence[int],
    splits: Mapping[str, Split],
    lesson: Lesson,
    device: str,
) -> Recovered:
    """Learn by Adam and the mean squared error; the learning rate falls linearly to a tenth.

    Parameters
    ----------
    operator : RecoveryOperator
        What learns.
    target : MorphologicalTarget
        Only for looking whether the element has been found: nothing of it reaches the training.
    first : ndarray
        First structuring functions (seeds, kh, kw).
    seeds : sequence of int
        Each draws batches of its own.
    splits : mapping
        Pairs of ``train``, ``valid`` and ``test``, (N, 1, H, W).

    Raises
    ------
    InvalidPlugin
        If the module does not keep what `RecoveryOperator` promises.
    """
    keep_freed_memory()
    train = splits["train"]
    images, results = _on(device, train.images), _on(device, train.labels)
    chosen = _batches(len(train), seeds, lesson)
    started = time.perf_counter()
    with deterministic(torch.device(device)):
        module = _made(operator, target, first, device)
        optimiser = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=operator.learning_rate)
        falling = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.1, lesson.steps)
        reached = np.full(len(first), np.nan)
        shares = np.zeros(len(first))
        for step in range(lesson.steps):
            _follow_schedule(operator, module, step / lesson.steps)
            picked = chosen[step].to(device)
            loss = (module(images[picked]) - results[picked]).square().mean(dim=(0, 2, 3)).sum()
            optimiser.zero_grad()
            loss.backward()
            shares += _noticed(module.bias.grad)
            optimiser.step()
            falling.step()
            if (step + 1) % lesson.check_every == 0 or step + 1 == lesson.steps:
                reached = np.where(np.isnan(reached) & _found(module, target), step + 1, reached)
        _follow_schedule(operator, module, 1.0)
        valid, test = (_error(module, splits[name], len(first), device) for name in ("valid", "test"))
    functions = module.bias.detach().cpu().numpy()
    return Recovered(functions, valid, test, reached, shares / lesson.steps, time.perf_counter() - started)


def _on(device: str, array: np.ndarray) -> Tensor:
    """Return (N, 1, H, W) as (N, H, W) on the device."""
    return torch.from_numpy(array[:, 0]).to(device)


def _batches(pairs: int, seeds: Sequence[int], lesson: Lesson) -> Tensor:
    """Return the indices (steps, batch, seeds) of the pairs that each seed sees."""
    generators = [np.random.default_rng([seed, BATCHES]) for seed in seeds]
    drawn = [generator.integers(pairs, size=(lesson.steps, lesson.batch)) for generator in generators]
    return torch.from_numpy(np.stack(drawn, axis=-1))


def _made(operator: RecoveryOperator, target: MorphologicalTarget, first: np.ndarray, device: str) -> Any:
    module = operator.make(target.operation, first)
    bias = getattr(module, "bias", None)
    if not isinstance(bias, torch.nn.Parameter) or tuple(bias.shape) != first.shape:
        found = tuple(bias.shape) if isinstance(bias, Tensor) else type(bias).__name__
        raise InvalidPlugin(f"{operator.name}: parameter 'bias': found {found}, expected shape {first.shape}")
    return module.to(device)


def _follow_schedule(operator: RecoveryOperator, module: Any, progress: float) -> None:
    if operator.prepare_step is not None:
        operator.prepare_step(module, progress)


def _noticed(gradient: Tensor) -> np.ndarray:
    """Share of each window with a noticeable gradient; 0 where there is none at all."""
    size = gradient.abs().flatten(1)
    return ((size > 0) & (size >= NOTICEABLE * size.amax(1, keepdim=True))).double().mean(1).cpu().numpy()


def _found(module: Any, target: MorphologicalTarget) -> np.ndarray:
    """Tell for which seeds the element is the true one, but for few elements."""
    learned = module.bias.detach().cpu().numpy().astype(np.float64)
    errors = [compare(function, target.structuring_function, target.operation).element_error for function in learned]
    return np.array(errors) <= LARGEST_ERROR


@torch.no_grad()
def _error(module: Any, test: Split, seeds: int, device: str) -> np.ndarray:
    total = torch.zeros(seeds, dtype=torch.float64, device=device)
    for part in range(0, len(test), 32):
        images = torch.from_numpy(test.images[part : part + 32]).to(device).expand(-1, seeds, -1, -1)
        results = torch.from_numpy(test.labels[part : part + 32]).to(device)
        total += (module(images.contiguous()) - results).double().square().mean(dim=(2, 3)).sum(0)
    return (total / len(test)).sqrt().cpu().numpy()
