"""What `torch.compile` is told of a function, without importing the compiler, which takes longer than all else here.

`torch.compiler.assume_constant_result` and `torch.compiler.disable` import it where they are written: a second and a half for every
process, whether it compiles or not.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from torch._compile import _disable_dynamo

__all__ = ["constant_when_compiled", "never_compiled"]

Function = TypeVar("Function", bound=Callable[..., Any])
Result = TypeVar("Result")


def constant_when_compiled(function: Function) -> Function:
    """Mark a function whose result is a constant of compiled code, as `torch.compiler.assume_constant_result` does."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def never_compiled(function: Callable[..., Result]) -> Callable[..., Result]:
    """Keep a function and what it calls out of compiled code, as `torch.compiler.disable` does."""
    outside = _disable_dynamo(function)

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Result:
        if "torch._dynamo" in sys.modules:
            return outside(*arguments, **options)
        return function(*arguments, **options)

    return call
