"""YAML as people write it: no key twice, and ``1e-3`` is a number as it is in YAML 1.2, though not in YAML 1.1."""

from __future__ import annotations

import re
from typing import Any

import yaml

__all__ = ["dump", "load", "number_in"]

# What YAML 1.2 takes for a number and YAML 1.1 for text, as PyYAML does: exponents without a point or without a sign.
EXPONENT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)[eE][-+]?[0-9]+\Z")
FLOAT = "tag:yaml.org,2002:float"


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, with YAML 1.2's numbers; a key that stands twice in a mapping is an error."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Refuse a key that stands there twice, before merge keys bring in those of other mappings."""
        node = super().compose_mapping_node(anchor)
        places: dict[tuple[str, str], yaml.Mark] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            first = places.setdefault((key.tag, key.value), key.start_mark)
            if first is not key.start_mark:
                what = f"found key {key.value!r} twice, first in line {first.line + 1}"
                raise yaml.composer.ComposerError(problem=what, problem_mark=key.start_mark)
        return node


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper, which quotes text that `_Loader` would take for a number."""


_Loader.add_implicit_resolver(FLOAT, EXPONENT, list("-+.0123456789"))
_Dumper.add_implicit_resolver(FLOAT, EXPONENT, list("-+.0123456789"))


def load(text: str) -> Any:
    """Return the one document of a text.

    Raises
    ------
    yaml.YAMLError
        If it does not parse, or a mapping has a key twice; with line and column.

    Examples
    --------
    >>> load("rates: [1e-3, 2.5E4, '1e-3']")
    {'rates': [0.001, 25000.0, '1e-3']}
    """
    return yaml.load(text, _Loader)


def dump(value: Any) -> str:
    """Return the text of a document, its keys in the order in which they are."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def number_in(value: Any) -> Any:
    """Return the number of a text that a reader of YAML 1.1 left as it is; any other value unchanged.

    Snakemake reads its configuration files by itself.

    Examples
    --------
    >>> number_in("1e-3"), number_in("1"), number_in(2)
    (0.001, '1', 2)
    """
    return float(value) if isinstance(value, str) and EXPONENT.match(value) else value
