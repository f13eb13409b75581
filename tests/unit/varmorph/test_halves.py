"""The two halves of the library, for PyTorch and for JAX, are laid out alike."""

import ast

import pytest

# What PyTorch alone has: words to its compiler, ops and programs for CUDA around the kernels, rules for its transforms, the sparse layer, and the
# distance of two methods' neurons. JAX calls kernels by XLA's interface, has the rules for its transforms beside what they
# transform, and layers for single images.
TORCH_ALONE = (
    "backend/compilation.py",
    "backend/cuda/",
    "backend/ops/",
    "backend/precompile.py",
    "energy/hidden_parameters.py",
    "energy/transforms.py",
    "lasso/",
    "operators/distances.py",
    "separable/second_derivatives.py",
)
JAX_ALONE = ("backend/ffi.py", "layers/single_images.py")


def modules(project, half):
    root = project.library / half
    return {path.relative_to(root).as_posix() for path in root.rglob("*.py")}


def public(path):
    """Names that `__all__` lists, of a module that has it."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def test_both_have_the_same_modules(project):
    torch, jax = modules(project, "torch"), modules(project, "jax")
    assert {name for name in torch - jax if not name.startswith(TORCH_ALONE)} == set()
    assert {name for name in jax - torch if not name.startswith(JAX_ALONE)} == set()
    for name in (*TORCH_ALONE, *JAX_ALONE):
        assert any(module.startswith(name) for module in torch ^ jax), f"{name} is no exception any more"


def test_both_have_the_same_public_names(project):
    torch, jax = (public(project.library / half / "__init__.py") for half in ("torch", "jax"))
    assert torch - jax == {"sparse_code"}
    assert jax - torch == {
        "solve_with_pullback"
    }  # certificates of a backward pass, which PyTorch writes to the solution


@pytest.mark.parametrize("package", ["layers", "operators"])
def test_each_module_of_operators_and_layers_has_the_same_public_names(project, package):
    # Names beside the operators and layers themselves are what one module lends to another.
    for name in modules(project, "torch"):
        if name.startswith(f"{package}/") and name not in TORCH_ALONE:
            listed = {half: public(project.library / half / name) for half in ("torch", "jax")}
            offered = {half: names & public(project.library / half / "__init__.py") for half, names in listed.items()}
            assert offered["torch"] == offered["jax"], name
