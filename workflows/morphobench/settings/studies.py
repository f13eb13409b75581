"""Settings of a study: the defaults, overridden by the run's config, with one clear message where they do not fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from morphobench.project.validation import UserError
from morphobench.studies.cells import study_module

__all__ = ["COMMON", "read_settings", "study_settings"]

# What the harness asks of every study: the frameworks, one process each; the limits of a cell, which end it when it passes them.
COMMON: dict[str, Any] = {"frameworks": ["torch", "jax"], "timeout_s": 120.0, "memory_mb": 8000}


def study_settings(study: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a study, defaults filled in and checked by the study itself.

    Raises
    ------
    UserError
        For settings that do not fit; the message names the key, what was found and expected.
    """
    module = study_module(study)
    try:
        settings = read_settings(study, given, module.DEFAULTS)
        module.check(settings)
    except ValueError as error:
        raise UserError(str(error)) from None
    return settings


def read_settings(study: str, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``defaults`` and `COMMON` overridden by ``given``.

    A value has the type of its default: whole number, number, text, or a list whose entries have the type of the
    default's first entry. A whole number is accepted where a number is expected, and a list may be empty.

    Parameters
    ----------
    study : str
        Key of the study in the config, for the message.
    given, defaults : mapping
        Settings by name.

    Raises
    ------
    ValueError
        For an unknown key, or a value of another type; the message names the key, what was found and expected.
    """
    defaults = {**COMMON, **defaults}
    for key, value in given.items():
        if key not in defaults:
            raise ValueError(f"studies.{study}.{key}: unknown key; expected one of {', '.join(sorted(defaults))}")
        expected = _kind(defaults[key])
        if not _fits(value, defaults[key]):
            raise ValueError(f"studies.{study}.{key}: found {value!r}, expected {expected}")
    for framework in given.get("frameworks", ()):
        if framework not in COMMON["frameworks"]:
            raise ValueError(f"studies.{study}.frameworks: found {framework!r}, expected torch or jax")
    return {**defaults, **given}


def _kind(default: Any) -> str:
    if isinstance(default, list):
        return f"a list with entries like {default[0]!r}"
    return {int: "a whole number above or equal to 0", float: "a number", str: "text"}[type(default)]


def _fits(value: Any, default: Any) -> bool:
    if isinstance(default, list):
        return isinstance(value, list) and all(_fits(entry, default[0]) for entry in value)
    if isinstance(value, bool):
        return False
    if isinstance(default, float):
        return isinstance(value, int | float)
    if isinstance(default, int):
        return isinstance(value, int) and value >= 0
    return isinstance(value, type(default))
