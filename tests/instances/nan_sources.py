"""Where a JAX program makes NaN out of numbers: its operations are carried out one by one, those inside of loops as well."""

from __future__ import annotations

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal
from jax.extend.source_info_util import summarize


def nan_sources(function, *arguments):
    """List, by file and line, the operations whose result holds NaN though no operand does."""
    closed = jax.make_jaxpr(function)(*arguments)
    found: set[str] = set()
    _run(closed.jaxpr, closed.consts, jax.tree.leaves(arguments), found)
    return sorted(found)


def _is_nan(value):
    return jax.numpy.issubdtype(value.dtype, jax.numpy.floating) and bool(np.isnan(np.asarray(value)).any())


def _run(program, constants, arguments, found):
    known = dict(zip((*program.constvars, *program.invars), (*constants, *arguments), strict=True))

    def read(atom):
        return jax.numpy.asarray(atom.val, atom.aval.dtype) if isinstance(atom, Literal) else known[atom]

    for equation in program.eqns:
        operands = [read(atom) for atom in equation.invars]
        inner = _INNER.get(equation.primitive.name, _apply)
        results = inner(equation, operands, found)
        known.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in program.outvars]


def _called(program, operands, found):
    jaxpr, constants = (program.jaxpr, program.consts) if isinstance(program, ClosedJaxpr) else (program, ())
    return _run(jaxpr, constants, operands, found)


def _apply(equation, operands, found):
    results = equation.primitive.bind(*operands, **equation.params)
    results = results if equation.primitive.multiple_results else [results]
    if any(map(_is_nan, results)) and not any(map(_is_nan, operands)):
        found.add(f"{equation.primitive.name} at {summarize(equation.source_info)}")
    return results


def _call(name):
    return lambda equation, operands, found: _called(equation.params[name], operands, found)


def _branch(equation, operands, found):
    index, *rest = operands
    branches = equation.params["branches"]
    return _called(branches[int(np.clip(index, 0, len(branches) - 1))], rest, found)


def _loop(equation, operands, found):
    first, second = equation.params["cond_nconsts"], equation.params["body_nconsts"]
    of_test, of_body, state = operands[:first], operands[first : first + second], operands[first + second :]
    while bool(_called(equation.params["cond_jaxpr"], [*of_test, *state], found)[0]):
        state = _called(equation.params["body_jaxpr"], [*of_body, *state], found)
    return state


def _scan(equation, operands, found):
    constants, carried = equation.params["num_consts"], equation.params["num_carry"]
    fixed, state, rows = (
        operands[:constants],
        operands[constants : constants + carried],
        operands[constants + carried :],
    )
    steps = range(equation.params["length"])
    written = []
    for step in reversed(steps) if equation.params["reverse"] else steps:
        results = _called(equation.params["jaxpr"], [*fixed, *state, *(row[step] for row in rows)], found)
        state = results[:carried]
        written.append(results[carried:])
    if equation.params["reverse"]:
        written.reverse()
    return [*state, *(jax.numpy.stack(column) for column in zip(*written, strict=True))]


def _solve(equation, operands, found):
    lengths, programs = equation.params["const_lengths"], equation.params["jaxprs"]
    start = lengths.matvec + lengths.vecmat
    count = sum(lengths)
    return _called(programs.solve, [*operands[start : start + lengths.solve], *operands[count:]], found)


_INNER = {
    "jit": _call("jaxpr"),
    "pjit": _call("jaxpr"),
    "closed_call": _call("call_jaxpr"),
    "custom_jvp_call": _call("call_jaxpr"),
    "custom_vjp_call": _call("call_jaxpr"),
    "remat": _call("jaxpr"),
    "checkpoint": _call("jaxpr"),
    "cond": _branch,
    "while": _loop,
    "scan": _scan,
    "custom_linear_solve": _solve,
}
