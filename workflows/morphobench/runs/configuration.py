"""Reads and checks the configuration of a run, and lists the trials it asks for."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from morphobench.contract import Budget
from morphobench.plugins.discovery import (
    BrokenPlugin,
    DatasetInfo,
    MethodInfo,
    discover_datasets,
    discover_methods,
    split_dataset_id,
)
from morphobench.project.files import write_json, write_text
from morphobench.project.paths import Project
from morphobench.project.provenance import provenance
from morphobench.project.validation import UserError, fill_defaults, load_schema, read_yaml, validate

__all__ = [
    "Configuration",
    "Plan",
    "corrupted_cells",
    "load_configuration",
    "make_plan",
    "name_methods",
    "resolve_configuration",
    "write_configuration",
]


@dataclass(frozen=True)
class Configuration:
    """A checked configuration with every default filled in (see ``workflows/schemas/config.schema.yaml``)."""

    values: Mapping[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    @property
    def dataset_ids(self) -> list[str]:
        """Data sets in the order of the file."""
        return [_name(entry) for entry in self.values["datasets"]]

    def budget(self, dataset: str, resources: Mapping[str, Any] | None = None) -> Budget:
        """Budget of a trial: the run's, what the data set changes, what the method needs beyond it."""
        chosen = dict(self.values["budget"]) | self._options(dataset).get("budget", {})
        chosen |= {key: value for key, value in (resources or {}).items() if key in ("timeout_s", "memory_mb")}
        return Budget(**chosen)

    def methods_on(self, dataset: str) -> list[str] | None:
        """Names of the methods that the data set is restricted to, if it is."""
        return self._options(dataset).get("methods")

    def _options(self, dataset: str) -> Mapping[str, Any]:
        entries = [entry for entry in self.values["datasets"] if _name(entry) == dataset]
        return entries[0] if entries and isinstance(entries[0], dict) else {}

    def seed_chunks(self) -> list[list[int]]:
        """Seeds in chunks of ``seeds_per_job``."""
        seeds, size = self.values["seeds"], self.values["seeds_per_job"]
        return [seeds[start : start + size] for start in range(0, len(seeds), size)]


def _name(entry: str | Mapping[str, Any]) -> str:
    return entry if isinstance(entry, str) else entry["name"]


def load_configuration(path: Path, project: Project) -> Configuration:
    """Read a configuration file.

    Raises
    ------
    UserError
        If it does not parse, does not fit the schema, or names an unknown method, variant or data set.
    """
    return resolve_configuration(read_yaml(path), project, str(path))


def resolve_configuration(values: Any, project: Project, source: str) -> Configuration:
    """Check parsed ``values`` and fill in the defaults; ``source`` is what messages call them."""
    schema_path = project.schemas / "config.schema.yaml"
    validate(values, schema_path, source)
    schema = load_schema(schema_path)
    filled = fill_defaults(values, schema)
    filled["budget"] = fill_defaults(filled["budget"], schema["$defs"]["budget"])
    filled["studies"] = {name: _study(name, given, source) for name, given in filled["studies"].items()}
    configuration = Configuration(filled)
    _check_names(configuration, project, source)
    return configuration


def _study(name: str, given: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Fill in and check the settings of a study; the operator benchmarks have their keys in the schema."""
    from morphobench.settings.studies import study_settings

    if name == "benchmarks":
        return dict(given)
    try:
        return study_settings(name, given)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None


def _check_names(configuration: Configuration, project: Project, source: str) -> None:
    datasets, methods = discover_datasets(project.datasets), discover_methods(project.methods)
    identifiers = configuration.dataset_ids
    for identifier in identifiers:
        name, variant = split_dataset_id(identifier)
        _expect(name, datasets, f"{source}: key 'datasets': unknown data set {name!r}")
        info = datasets[name]
        if isinstance(info, DatasetInfo):
            _expect(variant, info.variants, f"{source}: key 'datasets': data set {name!r} has no variant {variant!r}")
    duplicates = {identifier for identifier in identifiers if identifiers.count(identifier) > 1}
    if duplicates:
        raise UserError(f"{source}: key 'datasets': found {', '.join(sorted(duplicates))} more than once")
    for identifier in identifiers:
        for name in configuration.methods_on(identifier) or []:
            _expect(name, methods, f"{source}: key 'datasets': {identifier} names an unknown method {name!r}")
    for identifier in configuration["robustness"]["datasets"]:
        _expect(
            identifier, identifiers, f"{source}: key 'robustness.datasets': {identifier!r} is no data set of this run"
        )
        _expect_images(identifier, datasets, f"{source}: key 'robustness.datasets'")
    for identifier in configuration["robustness"]["noise_datasets"]:
        tried = configuration["robustness"]["datasets"]
        _expect(
            identifier,
            tried,
            f"{source}: key 'robustness.noise_datasets': {identifier!r} is not in robustness.datasets",
        )
    for name in configuration["robustness"]["methods"] or []:
        _expect(name, methods, f"{source}: key 'robustness.methods': unknown method {name!r}")
    section = configuration["methods"]
    for entry in section["include"] or []:
        _check_method_entry(entry, methods, identifiers, source)
    for name in section["exclude"]:
        _expect(name, methods, f"{source}: key 'methods.exclude': unknown method {name!r}")
    baseline = configuration["statistics"]["baseline"].split("/")[0]
    _expect(baseline, methods, f"{source}: key 'statistics.baseline': unknown method {baseline!r}")


def _expect_images(identifier: str, datasets: Mapping[str, DatasetInfo | BrokenPlugin], complaint: str) -> None:
    """Refuse a data set of a graph, whose features no corruption of images is meant for."""
    name, variant = split_dataset_id(identifier)
    info = datasets[name]
    if isinstance(info, DatasetInfo) and info.variant_task(variant) == "node_classification":
        raise UserError(f"{complaint}: {identifier!r} is a graph (node_classification), expected a data set of images")


def _check_method_entry(entry: Any, methods: Mapping[str, Any], identifiers: list[str], source: str) -> None:
    name = _name(entry)
    _expect(name, methods, f"{source}: key 'methods.include': unknown method {name!r}")
    info = methods[name]
    if isinstance(entry, str):
        return
    for variant in entry.get("variants", []) if isinstance(info, MethodInfo) else []:
        _expect(variant, info.variants, f"{source}: key 'methods.include': {name} has no variant {variant!r}")
    for identifier in entry.get("datasets", []):
        _expect(
            identifier, identifiers, f"{source}: key 'methods.include': {name} names {identifier!r}, not in datasets"
        )


def _expect(name: str, known: Iterable[str], complaint: str) -> None:
    names = list(known)
    if name in names:
        return
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise UserError(f"{complaint}; known: {', '.join(names)}{hint}")


def name_methods(configuration: Configuration, project: Project) -> dict[str, Any]:
    """Return the values with methods and variants written out, so that one added while a run goes on does not join it."""
    methods = discover_methods(project.methods)
    section = dict(configuration["methods"])
    entries = list(methods) if section["include"] is None else section["include"]
    section["include"] = [
        {**({"name": entry} if isinstance(entry, str) else entry), "variants": chosen}
        for entry in entries
        for chosen in [_variants(entry, methods[_name(entry)], section["variants"])]
    ]
    return {**configuration.values, "methods": section}


def write_configuration(configuration: Configuration, project: Project) -> None:
    """Write ``config.yaml``, every default filled in, and ``environment.json``, versions and hardware, of the run."""
    results = project.run(configuration["run"]).results
    write_json(results / "environment.json", provenance(project.root))
    write_text(results / "config.yaml", yaml.safe_dump(name_methods(configuration, project), sort_keys=False))


def _variants(entry: str | Mapping[str, Any], info: MethodInfo | BrokenPlugin, choice: str) -> list[str]:
    """Variants that an entry of ``methods.include`` names, else those that ``methods.variants`` chooses."""
    named = [] if isinstance(entry, str) else entry.get("variants", [])
    if named:
        return list(named)
    known = list(info.variants) if isinstance(info, MethodInfo) else ["default"]
    return known[:1] if choice == "first" else known


def corrupted_cells(configuration: Configuration, plan: Plan) -> list[tuple[str, str, str]]:
    """List the cells (data set, method, variant) of a plan whose models are tried on corrupted images."""
    wanted = configuration["robustness"]
    return [
        cell
        for cell in plan.cells
        if cell[0] in wanted["datasets"] and (wanted["methods"] is None or cell[1] in wanted["methods"])
    ]


@dataclass(frozen=True)
class Plan:
    """What a configuration asks for, given the plugins that are there."""

    datasets: Mapping[str, DatasetInfo | BrokenPlugin]
    methods: Mapping[str, MethodInfo | BrokenPlugin]
    cells: tuple[tuple[str, str, str], ...]  # (data set, method, variant)


def make_plan(configuration: Configuration, project: Project) -> Plan:
    """List the cells (data set, method, variant) to be run.

    A variant of a method takes part on a data set if its tasks include the data set's. A broken plugin takes part everywhere, so
    that its reason is seen in every table.
    """
    datasets, methods = discover_datasets(project.datasets), discover_methods(project.methods)
    section = configuration["methods"]
    entries = list(methods) if section["include"] is None else section["include"]
    entries = [entry for entry in entries if _name(entry) not in section["exclude"]]
    cells = []
    for identifier in configuration.dataset_ids:
        wanted = configuration.methods_on(identifier)
        for entry in entries:
            info = methods[_name(entry)]
            if wanted is not None and info.name not in wanted:
                continue
            options = {} if isinstance(entry, str) else entry
            if identifier not in options.get("datasets", [identifier]):
                continue
            chosen = _variants(entry, info, section["variants"])
            cells += [(identifier, info.name, v) for v in chosen if _fits(info, v, datasets, identifier)]
    return Plan(
        {identifier: datasets[split_dataset_id(identifier)[0]] for identifier in configuration.dataset_ids},
        {_name(entry): methods[_name(entry)] for entry in entries},
        tuple(dict.fromkeys(cells)),
    )


def _fits(info: MethodInfo | BrokenPlugin, method_variant: str, datasets: Mapping[str, Any], identifier: str) -> bool:
    name, variant = split_dataset_id(identifier)
    dataset = datasets[name]
    if isinstance(info, BrokenPlugin) or isinstance(dataset, BrokenPlugin):
        return True
    return dataset.variant_task(variant) in info.tasks_of(method_variant)
