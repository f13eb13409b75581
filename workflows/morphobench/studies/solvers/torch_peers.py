"""Libraries beside varmorph in the solver study, on PyTorch's side: each on an instance that varmorph solves too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

import varmorph.reference
import varmorph.torch
from morphobench.studies.solvers.problems import MOST_STEPS_OF_PEERS, WINDOW, about_peer, coupled_problem
from morphobench.studies.solvers.rows import Found, accurate, search
from morphobench.studies.solvers.torch_calls import TimedCall, solve_to
from morphobench.studies.torch_unrolling import curvature, neighbours

__all__ = ["peer_call", "relaxation"]


def peer_call(wanted: Mapping[str, Any], settings: Mapping[str, Any], device: str) -> TimedCall:
    """Return the call of a peer.

    Raises
    ------
    FrameworkUnavailable
        If it is not installed.
    """
    name = wanted["solver"]
    about = about_peer(wanted)
    if wanted["problem"] == "dilation":
        call = _dilation(name, wanted["image_size"], settings["seed"])
    elif name == "varmorph":
        call = solve_to(wanted, settings["seed"], device, varmorph.torch.Newton)
    elif name == "torchdeq":
        call = _torchdeq(wanted, settings["seed"], device)
    else:
        call = _cvxpylayers(wanted, settings["seed"])
    call.found.about |= about
    return call


def relaxation(leaves: Mapping[str, Tensor], z: Tensor) -> Tensor:
    """One sweep of reweighted relaxation for the regularised dilation, as one would write it without varmorph.

    Every pixel is set to the minimiser of its own energy, its four neighbours and the signs of its residuals being held.
    """
    window = neighbours(leaves["x"], leaves["bias"], leaves["weight"], leaves["logit_level"])
    stiffness = curvature(window, z)
    coupling = leaves["coupling"][:, None, None]
    cross = z.new_tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])[None, None]
    beside, degree = (functional.conv2d(field, cross, padding=1) for field in (z, torch.ones_like(z)))
    pull = (stiffness * window.value).sum(2) + coupling * beside
    return pull / (stiffness.sum(2) + coupling * degree)


def _torchdeq(wanted: Mapping[str, Any], seed: int, device: str) -> TimedCall:
    """Anderson's acceleration forwards and backwards, stopped by the change of a step."""
    import torchdeq

    case, exact = coupled_problem(wanted, seed)
    names = list(case.arguments)
    leaves = [torch.as_tensor(array, device=device) for array in case.arguments.values()]

    def run(tolerance: float, *arguments: Tensor) -> tuple[Tensor, Any]:
        steps = dict.fromkeys(("f_max_iter", "b_max_iter"), MOST_STEPS_OF_PEERS)
        tolerances = {"f_tol": tolerance, "b_tol": tolerance}
        # Without `ift` the gradient is that of one step.
        solver = torchdeq.get_deq(f_solver="anderson", b_solver="anderson", ift=True, **steps, **tolerances)
        given = dict(zip(names, arguments, strict=True))
        found, info = solver(lambda z: relaxation(given, z), given["x"].detach())
        return found[-1], info

    def attempt(tolerance: float) -> tuple[float, tuple[float, Any]]:
        with torch.no_grad():
            value, info = run(tolerance, *leaves)
        return accurate(value.cpu().numpy(), exact), (tolerance, info)

    error, (tolerance, info), reached = search(wanted["tolerance"], attempt)
    about = {"dtype": "float64", "error": error, "reached": reached, "iterations": int(info["nstep"].max())}
    cotangent = torch.as_tensor(case.cotangent, device=device)
    return TimedCall(lambda *given: run(tolerance, *given)[0], leaves, cotangent, Found(about, case.cotangent.size))


def _cvxpylayers(wanted: Mapping[str, Any], seed: int) -> TimedCall:
    """The regularised dilation as a quadratic program in the image, which alone is differentiated."""
    import cvxpy
    from cvxpylayers.torch import CvxpyLayer

    case, exact = coupled_problem(wanted, seed)
    arguments, size = case.arguments, wanted["image_size"] ** 2
    window = neighbours(*(torch.as_tensor(arguments[key]) for key in ("x", "bias", "weight", "logit_level")))
    places = neighbours(
        torch.arange(size, dtype=torch.float64).reshape(case.cotangent.shape),
        *(torch.zeros_like(torch.as_tensor(arguments["bias"])), torch.ones_like(torch.as_tensor(arguments["bias"]))),
        torch.zeros(1, dtype=torch.float64),
    )
    inside = window.weight.expand_as(window.value).reshape(-1) > 0
    source = places.value.reshape(-1)[inside].numpy().astype(int)
    target = np.tile(np.arange(size), window.value.shape[2])[inside.numpy()]
    offset = window.value.reshape(-1)[inside].numpy() - arguments["x"].reshape(-1)[source]
    weight = window.weight.expand_as(window.value).reshape(-1)[inside].numpy()
    tau, cotau = float(window.level.reshape(-1)[0]), float(window.complement.reshape(-1)[0])
    image, z = cvxpy.Parameter(size), cvxpy.Variable(size)
    residual = image[source] + offset - z[target]
    pixel = np.arange(size).reshape(case.cotangent.shape[2:])
    first = np.concatenate([pixel[:-1].ravel(), pixel[:, :-1].ravel()])
    second = np.concatenate([pixel[1:].ravel(), pixel[:, 1:].ravel()])
    energy = (
        cvxpy.sum_squares(cvxpy.multiply(np.sqrt(weight * tau), cvxpy.pos(residual)))
        + cvxpy.sum_squares(cvxpy.multiply(np.sqrt(weight * cotau), cvxpy.neg(residual)))
        + wanted["coupling"] * cvxpy.sum_squares(z[first] - z[second])
    )
    layer = CvxpyLayer(cvxpy.Problem(cvxpy.Minimize(energy)), parameters=[image], variables=[z])
    shape = case.cotangent.shape

    def run(tolerance: float, x: Tensor) -> Tensor:
        return layer(x.reshape(-1), solver_args={"eps": tolerance})[0].reshape(shape)

    def attempt(tolerance: float) -> tuple[float, float]:
        return accurate(run(tolerance, x).numpy(), exact), tolerance

    x = torch.as_tensor(arguments["x"])
    error, tolerance, reached = search(wanted["tolerance"], attempt)
    found = Found({"dtype": "float64", "error": error, "reached": reached}, size)
    return TimedCall(lambda x: run(tolerance, x), [x], torch.as_tensor(case.cotangent), found)


def _dilation(name: str, size: int, seed: int) -> TimedCall:
    """A flat 3x3 dilation of one float32 image, forwards: what all of these libraries do."""
    image = np.random.default_rng([seed, size, 101]).standard_normal((size, size)).astype(np.float32)
    run, argument = _dilations()[name](image)
    value = np.asarray(run(argument)).reshape(size, size)
    exact = varmorph.reference.dilation(image[None, None].astype(np.float64), np.zeros((WINDOW, WINDOW)))[0, 0]
    error = accurate(value, exact)
    about = {"dtype": "float32", "error": error, "reached": error == 0.0}
    return TimedCall(run, [argument], None, Found(about, size * size))


def _dilations() -> dict[str, Callable[[np.ndarray], tuple[Callable[..., Any], Any]]]:
    """Return, for every library, what makes its call and its argument from an image."""

    def own(image: np.ndarray) -> tuple[Callable[..., Any], Any]:
        flat = torch.zeros(WINDOW, WINDOW)
        return lambda x: varmorph.torch.dilation(x, flat), torch.as_tensor(image)[None, None]

    def kornia(image: np.ndarray) -> tuple[Callable[..., Any], Any]:
        from kornia.morphology import dilation

        window = torch.ones(WINDOW, WINDOW)
        return lambda x: dilation(x, window), torch.as_tensor(image)[None, None]

    def skimage(image: np.ndarray) -> tuple[Callable[..., Any], Any]:
        from skimage.morphology import dilation

        return lambda x: dilation(x, np.ones((WINDOW, WINDOW), bool)), image

    def scipy(image: np.ndarray) -> tuple[Callable[..., Any], Any]:
        from scipy.ndimage import grey_dilation

        return lambda x: grey_dilation(x, size=(WINDOW, WINDOW), mode="nearest"), image

    def opencv(image: np.ndarray) -> tuple[Callable[..., Any], Any]:
        import cv2

        return lambda x: cv2.dilate(x, np.ones((WINDOW, WINDOW), np.uint8)), image

    return {"varmorph": own, "kornia": kornia, "scikit-image": skimage, "scipy": scipy, "opencv": opencv}
