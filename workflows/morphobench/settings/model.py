"""What the models of `settings` share: nothing unknown, numbers that stay as they were written, and nothing coerced.

Save for two ways to write a number: 2.0 is a whole number where one is asked for, and ``1e-3`` is no text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    WrapSerializer,
    WrapValidator,
    model_serializer,
)
from pydantic import SerializerFunctionWrapHandler as Serialise
from pydantic import ValidatorFunctionWrapHandler as Validate
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode

from morphobench.settings.yaml_text import number_in

__all__ = [
    "Above0",
    "AsInteger",
    "AsWritten",
    "Count",
    "Distinct",
    "Number",
    "Partial",
    "Settings",
    "Whole",
    "distinct",
    "empty_for_null",
    "schema_of",
]

# Keys of a JSON schema in the order in which a person reads them.
ORDER = ("title", "description", "type", "additionalProperties", "required", "properties")

Anything = TypeVar("Anything")
Values = TypeVar("Values", bound=Sequence[Any])


def _checked(value: Any, validate: Validate) -> Any:
    value = number_in(value)
    validate(value)
    return value


def _integer(value: Any) -> Any:
    """Return the integer that a number without fraction is; anything else as it is, to be refused."""
    number = number_in(value)
    return int(number) if isinstance(number, float) and number.is_integer() else value


def distinct(values: Values) -> Values:
    """Return ``values``, of which none may stand there twice."""
    twice = [value for place, value in enumerate(values) if value in values[:place]]
    if twice:
        raise ValueError(f"found {', '.join(map(str, dict.fromkeys(twice)))} more than once")
    return values


def empty_for_null(value: Any) -> Any:
    """Return ``{}`` for None, which is what YAML reads where nothing stands behind a key."""
    return {} if value is None else value


# Stands last, behind what limits the integer.
AsInteger = BeforeValidator(_integer)
Whole = Annotated[int, Field(ge=0), AsInteger]
Count = Annotated[int, Field(ge=1), AsInteger]
# A number that is checked and kept: 300 stays a whole number where 300.0 would do as well.
AsWritten = Annotated[Anything, WrapValidator(_checked), WrapSerializer(lambda value, serialise: value)]
Number = AsWritten[float]
Above0 = AsWritten[Annotated[float, Field(gt=0)]]
Distinct = Annotated[Values, Field(json_schema_extra={"uniqueItems": True}), AfterValidator(distinct)]


class Settings(BaseModel):
    """A part of a file that people write; the docstring of a key is its description in the JSON schema."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Partial(Settings):
    """Settings of which only what was given counts and is written again."""

    @model_serializer(mode="wrap")
    def _given(self, serialise: Serialise) -> dict[str, Any]:
        return {key: value for key, value in serialise(self).items() if key in self.model_fields_set}

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Leave out the defaults, since what is not given is left to somebody else."""
        found = handler.resolve_ref_schema(handler(core_schema))
        for key in found["properties"].values():
            key.pop("default", None)
        return found


class _Untitled(GenerateJsonSchema):
    """JSON schemas without titles that repeat the key."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Say no."""
        return False


def schema_of(model: type[BaseModel], mode: JsonSchemaMode = "validation") -> dict[str, Any]:
    """Return the JSON schema of a model as a person reads it: every definition where it is used, null among the types."""
    schema = model.model_json_schema(schema_generator=_Untitled, mode=mode)
    return _readable(schema, schema.pop("$defs", {}))


def _readable(part: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(part, list):
        return [_readable(entry, definitions) for entry in part]
    if not isinstance(part, dict):
        return part
    found = {
        key: {name: _readable(entry, definitions) for name, entry in value.items()}
        if key in ("properties", "patternProperties")  # whose keys are names
        else _readable(value, definitions)
        for key, value in part.items()
        if key != "$ref"
    }
    if "patternProperties" in part:
        found["additionalProperties"] = False
    if "$ref" in part:
        definition = _readable(definitions[part["$ref"].rpartition("/")[2]], definitions)
        found = {key: value for key, value in definition.items() if key != "title"} | found
        found.pop("default", None)  # each key of it has its own
    match found.get("anyOf"):
        case [{"type": str(), **rest} as only, {"type": "null"}] if "enum" not in rest:
            found = found | only | {"type": [only["type"], "null"]}
            del found["anyOf"]
    if isinstance(text := found.get("description"), str):
        found["description"] = " ".join(text.split())
    return {key: found[key] for key in (*(k for k in ORDER if k in found), *(k for k in found if k not in ORDER))}
