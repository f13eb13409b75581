"""The programs for CUDA: in Triton's interpreter, compiled for a GPU that need not be there, and on one that is.

Each runs in a process of its own. Triton decides when it is imported whether programs are interpreted, and other tests,
or PyTorch itself, may have imported it before.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton", reason="needs Triton, which is made for Linux")

KERNELS = Path(__file__).with_name("triton_kernels.py")


def run(*command, **environment):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TRITON_", "PYTEST_"))}
    done = subprocess.run(
        [sys.executable, *command],
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def check(selection, **environment):
    run("-m", "pytest", "-q", "-p", "no:cacheprovider", str(KERNELS), "-k", selection, **environment)


@pytest.mark.parametrize("selection", ["expectile", "not expectile"])
def test_programs_agree_with_tensor_code_in_the_interpreter(selection):
    check(selection, TRITON_INTERPRET="1", OMP_NUM_THREADS="1")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_programs_agree_with_tensor_code_on_a_gpu():
    check("")


COMPILE = """
import functools, sys, types
import torch
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction

H100 = GPUTarget("cuda", 90, 32)
driver.set_active(
    types.SimpleNamespace(
        get_current_device=lambda: 0, get_current_stream=lambda device: 0, get_current_target=lambda: H100
    )
)
compiled = set()
run = JITFunction.run


def only_compile(self, *arguments, grid, warmup, **options):
    assert "cubin" in run(self, *arguments, grid=grid, warmup=True, **options).asm
    compiled.add(self.fn.__qualname__)


JITFunction.run = only_compile
from varmorph.torch.backend.cuda import window as cuda
from varmorph.windows import Geometry

dtype = getattr(torch, sys.argv[1])
for size in ((3, 3), (1, 31))[: int(sys.argv[2])]:
    geometry = Geometry((40, 70), size)
    x, bias, tau = (torch.zeros(shape, dtype=dtype) for shape in ((2, 3, 40, 70), (3, size[0] * size[1]), 3))
    problem = bias, bias, tau, tau
    y = cuda.expectile(x, *problem, geometry, None)
cuda.expectile_backward(y, x, y, *problem, geometry, None)
y, chosen = cuda.supremum(x, bias, geometry, 0.0, 2)
cuda.supremum_backward(y, chosen, bias, geometry, 2)
y, ends = cuda.quantile(x, *problem, geometry, None)
y, ends = cuda.huber(x, *problem, tau, geometry, None)
cuda.huber_backward(y, x, y, ends, *problem, tau, geometry, None)
print(sorted(compiled))
"""


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
def test_programs_compile_for_a_gpu(dtype, tmp_path):
    run("-c", COMPILE, dtype, "2", TRITON_CACHE_DIR=str(tmp_path))
