"""Validation of YAML files against the JSON Schemas, with messages that name file, key, found and expected."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import yaml

__all__ = ["UserError", "fill_defaults", "load_schema", "read_yaml", "validate"]


class UserError(ValueError):
    """Something the user can mend: a bad config, plugin, data file or argument. The command line exits with 2."""


def read_yaml(path: Path) -> Any:
    """Read one YAML document with the safe loader.

    Raises
    ------
    UserError
        If the file is missing or does not parse; the message gives file, line and column.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error})") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        what = getattr(error, "problem", None) or str(error)
        raise UserError(f"{path}{where}: not valid YAML: {what}") from None


@functools.lru_cache
def load_schema(path: Path) -> dict[str, Any]:
    """Read a JSON Schema kept as YAML."""
    schema = read_yaml(path)
    if not isinstance(schema, dict):
        raise UserError(f"{path}: found {type(schema).__name__}, expected a mapping")
    return schema


def validate(value: Any, schema_path: Path, source: str) -> None:
    """Check ``value`` against a schema.

    Parameters
    ----------
    value : object
        The parsed document.
    schema_path : Path
        The schema.
    source : str
        What the message calls the document: usually its file name.

    Raises
    ------
    UserError
        For the first thing that is wrong, with key, what was found and what was expected.
    """
    import jsonschema

    validator = jsonschema.Draft202012Validator(load_schema(schema_path))
    errors = sorted(validator.iter_errors(value), key=lambda error: (len(error.absolute_path), error.json_path))
    if errors:
        raise UserError(f"{source}: {_explain(errors[0])}")


def _explain(error: Any) -> str:
    error = _deepest(error)
    key = ".".join(str(part) for part in error.absolute_path) or "the document"
    found = _short(error.instance)
    if error.validator == "additionalProperties":
        known = sorted(error.schema.get("properties", {}))
        unknown = sorted(set(error.instance) - set(known))
        place = "" if key == "the document" else f" in '{key}'"
        return f"unknown key {', '.join(repr(name) for name in unknown)}{place}; expected one of: {', '.join(known)}"
    if error.validator == "required":
        return f"key {error.message.split(' is a ')[0]} is missing in {key}"
    if error.validator == "type":
        expected = error.validator_value
        names = " or ".join(expected) if isinstance(expected, list) else expected
        return f"key '{key}': found {found}, expected {names}{_described(error)}"
    if error.validator == "enum":
        return f"key '{key}': found {found}, expected one of {', '.join(map(str, error.validator_value))}"
    return f"key '{key}': found {found}: {error.message}{_described(error)}"


def _deepest(error: Any) -> Any:
    """Of the branches of an anyOf/oneOf, follow the one whose type matches: its complaint is the useful one."""
    while error.context:
        fitting = [inner for inner in error.context if inner.validator != "type" or len(inner.relative_path) > 0]
        if not fitting:
            return error
        error = max(fitting, key=lambda inner: len(inner.absolute_path))
    return error


def _described(error: Any) -> str:
    description = error.schema.get("description") if isinstance(error.schema, dict) else None
    return f" ({description})" if description else ""


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def fill_defaults(value: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Return ``value`` with every default the schema states, recursively through mappings."""
    import copy

    filled = dict(value)
    for name, part in schema.get("properties", {}).items():
        if name not in filled and "default" in part:
            filled[name] = copy.deepcopy(part["default"])
        if isinstance(filled.get(name), dict) and "properties" in part:
            filled[name] = fill_defaults(filled[name], part)
    return filled
