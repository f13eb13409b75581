"""The compiled CPU kernels inside JAX programs, by XLA's foreign function interface.

XLA hands a call the addresses of its arrays. The handler looks at them as NumPy arrays, without a copy, runs the kernel,
which releases the GIL and runs in XLA's own threads, and writes the results where XLA wants them. It never calls JAX: that could wait for itself, as
callbacks into Python that return through JAX's own arrays can. Which kernel runs, and its options, stand in the call as
text, so that a compiled program means the same in another process.

The structures are those of the header `xla/ffi/api/c_api.h` that jaxlib ships (`jax.ffi.include_dir()`), whose layout XLA
keeps stable within a major version.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable, Sequence
from ctypes import POINTER, Structure, c_char, c_char_p, c_int, c_int64, c_size_t, c_uint32, c_void_p
from importlib import import_module
from itertools import count
from math import prod
from threading import Condition
from typing import Any

import jax
import numpy as np

from varmorph.kernels.threads import Team, working_in
from varmorph.windows import Geometry

__all__ = ["call_kernel"]

TARGET = "varmorph_kernel"
METADATA, INTERNAL_ERROR = 1, 13
# The types of XLA that kernels take or give.
TYPES = {1: "bool", 4: "int32", 5: "int64", 6: "uint8", 11: "float32", 12: "float64"}


class _Extension(Structure):
    pass


_Extension._fields_ = [("struct_size", c_size_t), ("type", c_int), ("next", POINTER(_Extension))]


class _Version(Structure):
    _fields_ = [("struct_size", c_size_t), ("extension", c_void_p), ("major", c_int), ("minor", c_int)]


class _Metadata(Structure):
    _fields_ = [("struct_size", c_size_t), ("version", _Version), ("traits", c_uint32), ("state_type", c_int64)]


class _MetadataExtension(Structure):
    _fields_ = [("base", _Extension), ("metadata", POINTER(_Metadata))]


class _Buffer(Structure):
    _fields_ = [
        ("struct_size", c_size_t), ("extension", c_void_p), ("type", c_int), ("data", c_void_p), ("rank", c_int64),
        ("shape", POINTER(c_int64)),
    ]  # fmt: skip


class _Buffers(Structure):
    _fields_ = [
        ("struct_size", c_size_t), ("extension", c_void_p), ("count", c_int64), ("types", c_void_p),
        ("buffers", POINTER(POINTER(_Buffer))),
    ]  # fmt: skip


class _Text(Structure):
    _fields_ = [("characters", c_void_p), ("length", c_size_t)]


class _Attributes(Structure):
    _fields_ = [
        ("struct_size", c_size_t), ("extension", c_void_p), ("count", c_int64), ("types", c_void_p), ("names", c_void_p),
        ("values", POINTER(POINTER(_Text))),
    ]  # fmt: skip


class _Error(Structure):
    _fields_ = [("struct_size", c_size_t), ("extension", c_void_p), ("message", c_char_p), ("code", c_int)]


_Task = ctypes.CFUNCTYPE(None, c_void_p)


class _Scheduled(Structure):
    _fields_ = [
        ("struct_size", c_size_t), ("extension", c_void_p), ("context", c_void_p), ("task", _Task), ("data", c_void_p),
    ]  # fmt: skip


class _Counted(Structure):
    _fields_ = [
        ("struct_size", c_size_t), ("extension", c_void_p), ("context", c_void_p), ("count", POINTER(c_int64)),
    ]  # fmt: skip


class _Api(Structure):
    _fields_ = [
        ("struct_size", c_size_t), ("extension", c_void_p), ("version", _Version), ("internal", c_void_p),
        ("create_error", ctypes.CFUNCTYPE(c_void_p, POINTER(_Error))), ("others", c_void_p * 10),
        ("schedule", ctypes.CFUNCTYPE(c_void_p, POINTER(_Scheduled))),
        ("count_threads", ctypes.CFUNCTYPE(c_void_p, POINTER(_Counted))),
    ]  # fmt: skip


class _Frame(Structure):
    _fields_ = [
        ("struct_size", c_size_t), ("extension", POINTER(_Extension)), ("api", POINTER(_Api)), ("context", c_void_p),
        ("stage", c_int), ("arguments", _Buffers), ("results", _Buffers), ("attributes", _Attributes),
    ]  # fmt: skip


def _arrays(buffers: _Buffers) -> list[np.ndarray]:
    """Look at the arrays of a call."""
    found = []
    for buffer in (buffers.buffers[i].contents for i in range(buffers.count)):
        shape, dtype = tuple(buffer.shape[: buffer.rank]), np.dtype(TYPES[buffer.type])
        memory = (c_char * (prod(shape) * dtype.itemsize)).from_address(buffer.data or 0)
        found.append(np.frombuffer(memory, dtype).reshape(shape) if prod(shape) else np.empty(shape, dtype))
    return found


_tasks: dict[int, Callable[[], None]] = {}
_numbers = count(1)


@_Task
def _help(number: int) -> None:
    _tasks.pop(number)()


def _team(frame: _Frame) -> Team:
    """Lend XLA's threads to a kernel."""
    api, context = frame.api.contents, frame.context

    def size() -> int:
        found = c_int64(1)
        api.count_threads(_Counted(ctypes.sizeof(_Counted), None, context, ctypes.pointer(found)))
        return found.value

    def run(threads: int, task: Callable[[], None]) -> None:
        helpers, change = 0, Condition()

        def help_out() -> None:
            nonlocal helpers
            with change:
                helpers += 1
            try:
                task()
            finally:
                with change:
                    helpers -= 1
                    change.notify()

        for number in (next(_numbers) for _ in range(threads - 1)):
            _tasks[number] = help_out
            api.schedule(_Scheduled(ctypes.sizeof(_Scheduled), None, context, _help, number))
        task()
        # Who comes later than this finds nothing left to do, and is not waited for: all threads may be busy elsewhere.
        with change:
            change.wait_for(lambda: helpers == 0)

    return Team(size, run)


def _written(option: Any) -> Any:
    """Put an option in the form that stands in the text of a call: a geometry by the names of its fields."""
    return option._asdict() if isinstance(option, Geometry) else option


def _read(value: Any) -> Any:
    """Undo `_written`, and make tuples of what JSON has made lists of."""
    if isinstance(value, dict):
        return Geometry(**{name: _read(field) for name, field in value.items()})
    return tuple(map(_read, value)) if isinstance(value, list) else value


def _fitted(shape: Any, arrays: Sequence[np.ndarray]) -> Any:
    """Put arrays where their numbers stand in nested lists; None stays None."""
    if isinstance(shape, list):
        return tuple(_fitted(part, arrays) for part in shape)
    return None if shape is None else arrays[shape]


def _flat(results: Any) -> list[np.ndarray]:
    return [array for part in results for array in _flat(part)] if isinstance(results, (tuple, list)) else [results]


def _run(frame: _Frame) -> None:
    text = frame.attributes.values[0].contents
    name, shape, options = json.loads(ctypes.string_at(text.characters, text.length))
    module, _, function = name.rpartition(".")
    kernel = getattr(import_module(f"varmorph.kernels.{module}"), function)
    results = _arrays(frame.results)
    places = {"out": results} if getattr(kernel, "writes_into", False) else {}
    with working_in(_team(frame)), np.errstate(over="ignore", invalid="ignore"):  # NumPy would warn of NaN and infinity
        found = kernel(*_fitted(shape, _arrays(frame.arguments)), *map(_read, options), **places)
    for result, array in zip(results, _flat(found), strict=True):
        if array is not result:
            np.copyto(result, array)


@ctypes.CFUNCTYPE(c_void_p, POINTER(_Frame))
def _handler(pointer: Any) -> int | None:
    frame = pointer.contents
    if frame.extension and frame.extension.contents.type == METADATA:
        metadata = ctypes.cast(frame.extension, POINTER(_MetadataExtension)).contents.metadata.contents
        metadata.version.major, metadata.version.minor, metadata.traits = 0, 1, 0
        return None
    try:
        _run(frame)
    except BaseException as error:  # there is nobody to raise it to
        message = f"{type(error).__name__}: {error}".encode()
        return frame.api.contents.create_error(_Error(ctypes.sizeof(_Error), None, message, INTERNAL_ERROR))
    return None


jax.ffi.register_ffi_target(TARGET, jax.ffi.pycapsule(_handler), platform="cpu")


def call_kernel(name: str, results: Sequence[jax.ShapeDtypeStruct], *arrays: Any, options: Sequence[Any]) -> Any:
    """Call a function of `varmorph.kernels`, "module.function", with arrays and then plain options.

    Parameters
    ----------
    name : str
        The module below `varmorph.kernels`, and the function.
    results : sequence of ShapeDtypeStruct
        Shapes and types of what it returns, tuples and lists in it laid flat.
    arrays : arrays, None, or tuples of them
        What it takes first.
    options : sequence
        What it takes then: numbers, strings, None, tuples of them, and `Geometry`.

    Returns
    -------
    tuple of arrays like `results`. Under `vmap` the batch is done one after the other.
    """
    flat, structure = jax.tree.flatten(arrays)
    shape = jax.tree.unflatten(structure, range(len(flat)))
    call = jax.ffi.ffi_call(TARGET, list(results), vmap_method="sequential")
    return tuple(call(*flat, call=json.dumps([name, shape, list(map(_written, options))])))
