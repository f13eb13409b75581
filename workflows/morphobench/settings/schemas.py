"""Writes the JSON schemas of ``workflows/schemas`` from the models, for people and their editors."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode

from morphobench.project.files import write_text
from morphobench.settings.dataset import DatasetDescription
from morphobench.settings.method import MethodDescription
from morphobench.settings.model import schema_of
from morphobench.settings.records import CellRecord, Record
from morphobench.settings.run import Configuration

__all__ = ["schemas", "write_schemas"]

READ: dict[str, type[BaseModel]] = {
    "config": Configuration,
    "dataset": DatasetDescription,
    "method": MethodDescription,
}
WRITTEN: dict[str, type[BaseModel]] = {"cell": CellRecord, "record": Record}


def schemas() -> dict[str, str]:
    """Return the text of each schema by the name of its file."""
    kinds: list[tuple[JsonSchemaMode, dict[str, type[BaseModel]]]] = [("validation", READ), ("serialization", WRITTEN)]
    return {
        f"{name}.schema.yaml": _text(
            {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema_of(model, mode)
        )
        for mode, models in kinds
        for name, model in models.items()
    }


def write_schemas(folder: Path) -> list[Path]:
    """Write every schema below ``folder``; return their paths."""
    found = schemas()
    for name, text in found.items():
        write_text(folder / name, text)
    return [folder / name for name in found]


def _text(schema: dict[str, object]) -> str:
    body = yaml.dump(schema, Dumper=_ShortLists, sort_keys=False, width=128, allow_unicode=True)
    return "# Written by: python -m morphobench schemas\n" + body


class _ShortLists(yaml.SafeDumper):
    """YAML with a list of numbers or names in one line."""


def _list(dumper: yaml.SafeDumper, entries: list[object]) -> yaml.SequenceNode:
    short = not any(isinstance(entry, dict | list) for entry in entries)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", entries, flow_style=short)


_ShortLists.add_representer(list, _list)
