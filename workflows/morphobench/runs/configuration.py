"""Checks the configuration of a run against the plugins that are there, and writes it with every default filled in."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from morphobench.plugins.discovery import BrokenPlugin, DatasetInfo, MethodInfo, split_dataset_id, variants_named
from morphobench.project.errors import UserError
from morphobench.settings.run import Configuration, MethodEntry

__all__ = ["check_names"]


def check_names(
    configuration: Configuration,
    datasets: Mapping[str, DatasetInfo | BrokenPlugin],
    methods: Mapping[str, MethodInfo | BrokenPlugin],
    source: str,
) -> None:
    """Refuse a configuration that names what is not there; ``source`` is what messages call it.

    Raises
    ------
    UserError
        For an unknown method, variant or data set; the message gives those that are known, and the nearest.
    """
    for identifier in configuration.dataset_ids:
        name, variant = split_dataset_id(identifier)
        _expect(name, datasets, f"{source}: key 'datasets': unknown data set {name!r}")
        info = datasets[name]
        if isinstance(info, DatasetInfo):
            _expect(variant, info.variants, f"{source}: key 'datasets': data set {name!r} has no variant {variant!r}")
    for entry in configuration.datasets:
        for name in entry.methods or []:
            _expect(name, methods, f"{source}: key 'datasets': {entry.name} names an unknown method {name!r}")
    _check_robustness(configuration, datasets, methods, f"{source}: key 'robustness")
    _check_certified(configuration, datasets, f"{source}: key 'certified.datasets'")
    for named in configuration.methods.include or []:
        _check_method_entry(named, methods, configuration.dataset_ids, f"{source}: key 'methods.include'")
    for name in configuration.methods.exclude:
        _expect(name, methods, f"{source}: key 'methods.exclude': unknown method {name!r}")
    baseline = configuration.statistics.baseline.split("/")[0]
    _expect(baseline, methods, f"{source}: key 'statistics.baseline': unknown method {baseline!r}")
    if configuration.studies.recovery is not None:
        try:
            variants_named(configuration.studies.recovery.datasets, datasets)
        except UserError as error:
            raise UserError(f"{source}: key 'studies.recovery.datasets': {error}") from None


def _check_robustness(
    configuration: Configuration,
    datasets: Mapping[str, DatasetInfo | BrokenPlugin],
    methods: Mapping[str, MethodInfo | BrokenPlugin],
    key: str,
) -> None:
    wanted = configuration.robustness
    for identifier in wanted.datasets:
        complaint = f"{key}.datasets': {identifier!r}"
        _expect(identifier, configuration.dataset_ids, f"{complaint} is no data set of this run")
        name, variant = split_dataset_id(identifier)
        info = datasets[name]
        if isinstance(info, DatasetInfo) and info.variant_task(variant) == "node_classification":
            # No corruption of images is meant for the features of a graph.
            raise UserError(f"{complaint} is a graph (node_classification), expected a data set of images")
    for identifier in wanted.noise_datasets:
        _expect(identifier, wanted.datasets, f"{key}.noise_datasets': {identifier!r} is not in robustness.datasets")
    for name in wanted.methods or []:
        _expect(name, methods, f"{key}.methods': unknown method {name!r}")


def _check_certified(
    configuration: Configuration, datasets: Mapping[str, DatasetInfo | BrokenPlugin], key: str
) -> None:
    for identifier in configuration.certified.datasets:
        _expect(identifier, configuration.dataset_ids, f"{key}: {identifier!r} is no data set of this run")
        name, variant = split_dataset_id(identifier)
        info = datasets[name]
        if isinstance(info, DatasetInfo) and info.variant_task(variant) not in ("classification", "ordinal"):
            task = info.variant_task(variant)
            raise UserError(f"{key}: {identifier!r} is a task of {task}, expected classes of images")


def _check_method_entry(
    entry: MethodEntry, methods: Mapping[str, MethodInfo | BrokenPlugin], identifiers: list[str], key: str
) -> None:
    _expect(entry.name, methods, f"{key}: unknown method {entry.name!r}")
    info = methods[entry.name]
    if isinstance(info, MethodInfo):
        for variant in entry.variants or []:
            _expect(variant, info.variants, f"{key}: {entry.name} has no variant {variant!r}")
    for identifier in entry.datasets or []:
        _expect(identifier, identifiers, f"{key}: {entry.name} names {identifier!r}, not in datasets")


def _expect(name: str, known: Iterable[str], complaint: str) -> None:
    names = list(known)
    if name in names:
        return
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise UserError(f"{complaint}; known: {', '.join(names)}{hint}")
