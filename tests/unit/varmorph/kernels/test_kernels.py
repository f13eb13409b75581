"""Kernels against tensor code, and what a user may ask of them: threads, types, layouts, NaN, forks, caches."""

import itertools
import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
import torch
from by_position import by_position

from varmorph.torch import backend, dilation, erosion, reconstruction, variational_dilation, variational_erosion

MAX_PLUS = [dilation, erosion]
VARIATIONAL = [variational_dilation, variational_erosion]
OPERATORS = MAX_PLUS + VARIATIONAL
every_operator = pytest.mark.parametrize("operator", OPERATORS)


def arguments(operator, shape, size, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    channels = shape[1]
    x, bias, weight, level = (
        torch.randn(s, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for s in (shape, (channels, *size), (channels, *size), (channels,))
    )
    return (x, bias) if operator in MAX_PLUS else (x, bias, weight.detach().exp().requires_grad_(), level)


def value_and_gradients(operator, leaves, **options):
    y = by_position(operator)(*leaves, **options)
    cotangent = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(y.dtype)
    return [y.detach(), *torch.autograd.grad(y, leaves, cotangent)]


def relative_error(found, expected):
    return ((found - expected).abs().max() / expected.abs().max()).item()


@every_operator
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("shape", "size"), [((3, 2, 28, 28), (3, 3)), ((2, 3, 14, 14), (5, 5)), ((2, 2, 9, 70), (4, 7))]
)
@pytest.mark.parametrize(("stride", "padding"), list(itertools.product((1, 2), ("geodesic", "circular", 0.5))))
def test_kernels_agree_with_tensor_code(operator, dtype, shape, size, stride, padding):
    leaves = arguments(operator, shape, size, dtype)
    results = {}
    for name in ("tensor", "cpu"):
        with backend(name):
            results[name] = value_and_gradients(operator, leaves, stride=stride, padding=padding)
    single = dtype == torch.float32
    value, *gradients = map(relative_error, results["cpu"], results["tensor"])
    assert value <= (1e-6 if single else 1e-12)
    # Gradients in float32 are compared with those in float64 below: the sums of both computations round.
    assert max(gradients) <= (1e-4 if single else 1e-12)


@every_operator
@pytest.mark.parametrize("size", [(3, 3), (5, 5)])
def test_kernels_in_float32_are_as_exact_as_float32_allows(operator, size):
    leaves = arguments(operator, (4, 3, 28, 28), size)
    with backend("cpu"):
        found = value_and_gradients(operator, leaves)
    with backend("tensor"):
        exact = value_and_gradients(operator, [leaf.detach().double().requires_grad_() for leaf in leaves])
    assert max(map(relative_error, found, exact)) <= 1e-5


@every_operator
def test_results_do_not_depend_on_the_number_of_threads(operator):
    leaves = arguments(operator, (7, 5, 40, 40), (3, 3))
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(value_and_gradients(operator, leaves))
    finally:
        torch.set_num_threads(before)
    for others in results[1:]:
        assert all(map(torch.equal, results[0], others))


@pytest.mark.parametrize("name", ["tensor", "cpu"])
@every_operator
def test_nan_spreads_to_the_windows_that_hold_it_and_no_further(operator, name):
    leaves = arguments(operator, (1, 1, 7, 8), (3, 3))
    clean = by_position(operator)(*leaves).detach()
    with torch.no_grad():
        leaves[0][0, 0, 2, 3] = torch.nan
    with backend(name):
        y = by_position(operator)(*leaves).detach()
    expected = torch.zeros(7, 8, dtype=torch.bool)
    expected[1:4, 2:5] = True
    assert torch.equal(y.isnan()[0, 0], expected)
    assert torch.allclose(y[0, 0][~expected], clean[0, 0][~expected], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["tensor", "cpu"])
def test_infinite_pixels_are_taken_as_they_are(name):
    x = torch.tensor([[[[0.0, torch.inf, 0.0, 0.0, -torch.inf]]]])
    flat = torch.zeros(1, 3)
    with backend(name):
        assert dilation(x, flat).tolist() == [[[[torch.inf] * 3 + [0.0, 0.0]]]]
        assert erosion(x, flat).tolist() == [[[[0.0, 0.0, 0.0, -torch.inf, -torch.inf]]]]
        for level in (-2.0, 2.0):
            y = variational_dilation(x, flat, level)
            assert y.tolist() == [[[[torch.inf] * 3 + [-torch.inf] * 2]]]


@pytest.mark.parametrize("name", ["tensor", "cpu"])
def test_a_window_without_neighbours_has_no_value(name):
    bias = torch.full((1, 3), -torch.inf)
    bias[0, 2] = 0.0  # only the right neighbour
    x = torch.tensor([[[[1.0, 2.0, 3.0]]]], requires_grad=True)
    with backend(name):
        y = dilation(x, bias)
        assert y.tolist() == [[[[2.0, 3.0, -torch.inf]]]]
        assert torch.autograd.grad(y[..., :2].sum(), x)[0].tolist() == [[[[0.0, 1.0, 1.0]]]]
        assert torch.autograd.grad(dilation(x, bias)[..., 2].sum(), x)[0].tolist() == [[[[0.0, 0.0, 0.0]]]]
        z = variational_dilation(x, bias, 1.0)
        assert z[..., :2].tolist() == [[[[2.0, 3.0]]]]
        assert z[..., 2].isnan().all()


@every_operator
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(operator, dtype):
    leaves = [leaf.detach() for leaf in arguments(operator, (2, 2, 6, 6), (3, 3))]
    x = leaves[0].to(dtype).requires_grad_()
    y = by_position(operator)(x, *leaves[1:])
    y.sum().backward()
    assert y.dtype == x.grad.dtype == dtype
    assert torch.equal(y, by_position(operator)(x.float(), *leaves[1:]).to(dtype))


@every_operator
def test_memory_layout_does_not_matter(operator):
    leaves = arguments(operator, (2, 3, 6, 8), (3, 3))
    expected = value_and_gradients(operator, leaves)
    for arranged in (
        leaves[0].detach().to(memory_format=torch.channels_last),
        leaves[0].detach().transpose(2, 3).contiguous().transpose(2, 3),
        leaves[0].detach().repeat(1, 1, 1, 2)[..., :8],
    ):
        found = value_and_gradients(operator, [arranged.requires_grad_(), *leaves[1:]])
        assert all(map(torch.equal, found, expected))


@every_operator
@pytest.mark.parametrize("name", ["tensor", "cpu"])
def test_a_batch_may_be_empty_and_an_image_one_pixel(operator, name):
    with backend(name):
        empty = value_and_gradients(operator, arguments(operator, (0, 2, 4, 4), (3, 3)))
        assert empty[0].shape == (0, 2, 4, 4)
        assert all(not gradient.any() for gradient in empty[2:])
        leaves = arguments(operator, (1, 1, 1, 1), (5, 5))
        assert value_and_gradients(operator, leaves)[1].item() != 0


@every_operator
def test_the_input_is_left_alone(operator):
    leaves = arguments(operator, (2, 2, 6, 6), (3, 3))
    before = [leaf.detach().clone() for leaf in leaves]
    value_and_gradients(operator, leaves)
    assert all(torch.equal(leaf, copy) for leaf, copy in zip(leaves, before, strict=True))


def test_a_large_window_keeps_its_slots_apart():
    x, bias = arguments(dilation, (1, 1, 20, 20), (17, 17))  # more slots than a byte can number
    results = {}
    for name in ("tensor", "cpu"):
        with backend(name):
            results[name] = value_and_gradients(dilation, (x, bias))
    assert max(map(relative_error, results["cpu"], results["tensor"])) < 1e-5


@pytest.mark.parametrize("size", [(4, 4), (6, 6), (1, 40), (40, 1), (5, 9), (15, 15)])
@pytest.mark.parametrize("options", [{}, {"rate": (2, 3)}, {"stride": 2}, {"padding": "circular"}, {"padding": 0.5}])
@pytest.mark.parametrize("operator", MAX_PLUS)
@pytest.mark.parametrize("image", ["plateaus", "noise", "nan", "infinite"])
def test_flat_windows_give_the_same_values_and_choose_the_same_pixels(operator, size, options, image):
    x = torch.randn(2, 2, 19, 23, generator=torch.Generator().manual_seed(0))
    if image == "plateaus":
        x = x.round()
    elif image != "noise":
        x[:, :, ::7, ::5] = torch.nan if image == "nan" else torch.inf
    leaves = x.requires_grad_(), torch.tensor([0.0, -0.3])[:, None, None].expand(2, *size).clone().requires_grad_()
    results = []
    for name in ("tensor", "cpu"):
        with backend(name):
            value, *gradients = value_and_gradients(operator, leaves, **options)
            with torch.no_grad():
                assert torch.equal(operator(*leaves, **options).nan_to_num(), value.nan_to_num())
        results.append([value.nan_to_num(7.0), *gradients])
    (value, by_x, by_bias), (expected, *others) = results[1], results[0]
    assert torch.equal(value, expected)
    torch.testing.assert_close((by_x, by_bias), tuple(others), rtol=1e-4, atol=1e-4)


def test_a_backend_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="'auto', 'tensor', 'cpu', 'cuda', found 'gpu'"), backend("gpu"):
        pass


def test_kernels_are_refused_where_there_are_none():
    x = torch.zeros(1, 1, 3, 3)
    with backend("cuda"), pytest.raises(ValueError, match=r"no kernel for this dilation .*: its tensors are on cpu"):
        dilation(x, torch.zeros(3, 3))
    with backend("cuda"), pytest.raises(ValueError, match=r"no kernel for reconstruction: it has none for this device"):
        reconstruction(x, x)


def test_the_choice_of_backend_ends_with_its_block():
    with pytest.raises(KeyError), backend("cuda"):
        raise KeyError
    dilation(torch.zeros(1, 1, 3, 3), torch.zeros(3, 3))


def run(code, **environment):
    return subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning:numba", "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_importing_the_library_loads_no_compiler():
    code = "import sys, varmorph.torch; assert 'numba' not in sys.modules and 'scipy' not in sys.modules"
    assert run(code).returncode == 0


def test_a_cache_that_cannot_be_written_to_gives_one_warning_and_the_result(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    code = """
import warnings
import torch
from varmorph.kernels import compilation
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    assert compilation.cache_folder() is None
    assert compilation.cache_folder() is None
    double = compilation.kernel(lambda x: 2 * x)
assert [w.category for w in caught] == [RuntimeWarning], caught
assert "NUMBA_CACHE_DIR" in str(caught[0].message)
assert double(21) == 42
"""
    result = run(code, NUMBA_CACHE_DIR=str(blocked))
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("operator", ["dilation", "variational_dilation"])
def test_without_a_compiler_operators_warn_once_and_run_in_tensor_code(operator):
    code = f"""
import sys, warnings
sys.modules["numba"] = None
import torch
from varmorph.torch import backend, dilation, variational_dilation
x, flat = torch.randn(1, 1, 5, 5), torch.zeros(1, 3, 3)
run = {{"dilation": lambda: dilation(x, flat), "variational_dilation": lambda: variational_dilation(x, flat, 1.0)}}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    found = [run["{operator}"]() for _ in range(3)]
assert [w.category for w in caught] == [RuntimeWarning], caught
assert "numba cannot be imported" in str(caught[0].message)
with backend("tensor"):
    assert torch.equal(found[0], run["{operator}"]())
"""
    result = run(code)
    assert result.returncode == 0, result.stderr


FORK = """
import os, signal, warnings
import torch
from varmorph.torch import variational_dilation
torch.set_num_threads(2)
x, flat = torch.randn(4, 4, 80, 80), torch.zeros(4, 3, 3)
expected = variational_dilation(x, flat, 2.0).numpy()  # starts this process's threads
warnings.simplefilter("ignore")  # newer versions of Python say that forking with threads may deadlock: that is the test
child = os.fork()
if child == 0:
    signal.alarm(30)
    same = (variational_dilation(x, flat, 2.0).numpy() == expected).all()
    os._exit(0 if same else 1)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kernels_survive_a_fork():
    result = run(FORK)
    assert result.returncode == 0, result.stderr


# What has been compiled, or read from the cache, since the process began.
WARM = """
import gc
import torch
from numba.core.dispatcher import Dispatcher
from varmorph.torch import *
from varmorph.torch.backend.precompile import warm_cache

def compiled():
    found = [one for one in gc.get_objects() if isinstance(one, Dispatcher) and one.py_func.__module__.startswith("varmorph")]
    return {(one.py_func.__qualname__, signature) for one in found for signature in one.signatures}

warm_cache((torch.float32,))
warm = compiled()
assert len(warm) > 10
x = torch.randn(2, 3, 9, 8, requires_grad=True)
flat = torch.zeros(3, 5, 5, requires_grad=True)
for padding in ("geodesic", "replicate", "valid", 0.5):
    for operator in (dilation, erosion):
        operator(x, flat, padding=padding, stride=2).sum().backward()
        operator(x.detach(), flat.detach(), padding=padding)
    for penalty, smoothing in (("expectile", None), ("quantile", None), ("huber", 0.1)):
        options = {"penalty": penalty, "smoothing": smoothing, "padding": padding}
        variational_erosion(x, flat, 1.0, **options).sum().backward()
        variational_dilation(x, flat, -1.0, **options).sum().backward()
h_maxima(x, 0.1, connectivity=4).sum().backward()
fill_holes(x).sum().backward()
closing(x, flat).sum().backward()
small = flat[:, :3, :3]
for options in ({}, {"edge_penalty": "huber", "edge_smoothing": 0.1, "penalty": "huber", "smoothing": 0.1, "ridge": 0.5}):
    regularised_dilation(x, small, 1.0, 0.5, **options).value.sum().backward()
joint_closing(x, small, (1.0, -1.0), 0.5, penalty="huber", smoothing=0.1).value.sum().backward()
regularised_dilation(x, small, 1.0, 0.5, solver=ADMM(tolerance=1e-3, on_failure="nan"))
nodes, edges = x[0, :, :, 0].detach().requires_grad_(), torch.tensor([[0, 1, 2], [1, 2, 0]])
graph_dilation(nodes, edges).sum().backward()
regularised_graph_dilation(nodes, edges, 0.0, 1.0, 0.5).value.sum().backward()
assert compiled() == warm, compiled() - warm
"""


def test_after_warming_nothing_is_left_to_compile():
    result = run(WARM)
    assert result.returncode == 0, result.stderr


def test_compiled_code_is_kept_by_one_process_at_a_time(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    from varmorph.kernels import compilation

    saved = []
    cache = SimpleNamespace(save_overload=lambda signature, code: saved.append((signature, code)))
    compilation._save_one_by_one(cache, tmp_path / "lock")
    with (tmp_path / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # as another process that saves at this moment
        waiting = threading.Thread(target=cache.save_overload, args=("signature", "code"))
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        assert saved == []
    waiting.join(10)
    assert saved == [("signature", "code")]
