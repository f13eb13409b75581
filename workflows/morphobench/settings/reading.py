"""Reads what people write, and says what is wrong with it: file, key, what was found and what was expected."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from morphobench.project.errors import UserError
from morphobench.settings.model import schema_of
from morphobench.settings.yaml_text import load

__all__ = ["check", "read_yaml"]

Model = TypeVar("Model", bound=BaseModel)

# What is expected, by pydantic's type of the error; the rest says so itself.
LIMITS = {
    "greater_than_equal": "at least {ge:g}",
    "greater_than": "more than {gt:g}",
    "less_than_equal": "at most {le:g}",
    "less_than": "less than {lt:g}",
    "too_short": "at least {min_length} of them",
    "too_long": "at most {max_length} of them",
    "string_too_short": "text of at least {min_length} characters",
    "string_pattern_mismatch": "text that matches {pattern}",
    "finite_number": "a finite number",
    "invalid_key": "text as a key",
}


def read_yaml(path: Path) -> Any:
    """Read one YAML document, see `yaml_text`.

    Raises
    ------
    UserError
        If the file is missing, does not parse or has a key twice; the message gives file, line and column.
    """
    try:
        return load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error})") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        what = getattr(error, "problem", None) or str(error)
        raise UserError(f"{path}{where}: not valid YAML: {what}") from None


def check(model: type[Model], values: Any, source: str) -> Model:
    """Return checked ``values`` as a model, defaults filled in.

    Parameters
    ----------
    model : type
        One of the models of `settings`.
    values : object
        The parsed document.
    source : str
        What the message calls the document: usually its file name.

    Raises
    ------
    UserError
        For the first thing that is wrong, with key, what was found and what was expected.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{source}: {_explain(error, model)}") from None


def _explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Say what is wrong nearest to the top of the document, unknown keys first: they are what missing keys are called."""
    problems = sorted((one for one in error.errors(include_url=False) if not _follows(one)), key=_rank)
    kind, place, found = problems[0]["type"], problems[0]["loc"], problems[0]["input"]
    node = _node(schema_of(model), place)
    if kind == "extra_forbidden":
        *parent, _ = place
        known = sorted(_node(schema_of(model), parent).get("properties", {}))
        unknown = [other["loc"][-1] for other in problems if other["type"] == kind and [*other["loc"][:-1]] == parent]
        where = f" in '{_dotted(parent)}'" if parent else ""
        names = ", ".join(repr(name) for name in sorted(unknown))
        return f"unknown key {names}{where}; expected one of: {', '.join(known)}"
    if kind == "missing":
        return f"key '{place[-1]}' is missing in {_dotted(place[:-1])}"
    key = f"key '{_dotted(place)}'"
    if kind == "value_error":
        return f"{key}: {problems[0]['ctx']['error']}"
    described = f" ({node['description']})" if "description" in node else ""
    if kind == "literal_error":
        choices = problems[0]["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
        return f"{key}: found {_short(found)}, expected {'one of ' * (',' in choices)}{choices}"
    limit = LIMITS["invalid_key"] if kind == "string_type" and place[-1] == "[key]" else LIMITS.get(kind)
    expected = limit.format(**problems[0].get("ctx", {})) if limit else _types(node)
    return f"{key}: found {_short(found)}, expected {expected}{described}"


def _follows(problem: Any) -> bool:
    """Whether too few entries are left only because others were wrong."""
    return problem["type"] == "too_short" and len(problem["input"]) >= problem["ctx"]["min_length"]


def _rank(problem: Any) -> tuple[int, bool]:
    """Depth of the mapping that is wrong, and whether another problem of the same depth is told first."""
    of_mapping = problem["type"] in ("extra_forbidden", "missing")
    return len(problem["loc"]) - of_mapping, problem["type"] != "extra_forbidden"


def _dotted(place: Sequence[str | int]) -> str:
    return ".".join(str(part) for part in place if part != "[key]") or "the document"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _node(schema: dict[str, Any], place: Sequence[str | int]) -> dict[str, Any]:
    """Return the part of a schema that describes a place; an entry without a description takes that of its list."""
    node = schema
    for part in place:
        above = node
        for branch in [node, *node.get("anyOf", [])]:
            if part in branch.get("properties", {}):
                node = branch["properties"][part]
            elif isinstance(part, int) and "items" in branch:
                node = branch["items"]
            elif branch.get("patternProperties") and part != "[key]":
                (node,) = branch["patternProperties"].values()
            elif isinstance(branch.get("additionalProperties"), dict):
                node = branch["additionalProperties"]
            else:
                continue
            break
        else:
            return {}
        if "description" in above and not isinstance(above.get("properties", {}).get(part), dict):
            node = {"description": above["description"]} | node
    return node


def _types(node: dict[str, Any]) -> str:
    """Name the types that a node takes."""
    kinds = [branch.get("type", "another value") for branch in node.get("anyOf", [node])]
    names = [name for kind in kinds for name in (kind if isinstance(kind, list) else [kind])]
    return " or ".join(dict.fromkeys(names))
