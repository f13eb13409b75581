"""What will run: a configuration together with the plugins that it names, read once a job."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from morphobench.plugins.discovery import (
    BrokenPlugin,
    DatasetInfo,
    MethodInfo,
    Plugins,
    discover_plugins,
    names_in,
    split_dataset_id,
)
from morphobench.project.files import write_json, write_text
from morphobench.project.paths import Project, RunFolder
from morphobench.project.provenance import provenance
from morphobench.runs.configuration import check_names
from morphobench.settings.reading import check, read_yaml
from morphobench.settings.run import Configuration, MethodEntry
from morphobench.settings.yaml_text import dump

__all__ = ["Plan", "load_plan", "make_plan"]


@dataclass(frozen=True)
class Plan:
    """What a configuration asks for, given the plugins that are there.

    Parameters
    ----------
    plugins : Plugins
        Every plugin of the checkout, whether it takes part or not.
    """

    project: Project
    configuration: Configuration
    plugins: Plugins

    @property
    def run(self) -> RunFolder:
        """Folders of the run."""
        return self.project.run(self.configuration.run)

    @cached_property
    def datasets(self) -> dict[str, DatasetInfo | BrokenPlugin]:
        """Data sets of the run by their ids."""
        return {name: self.plugins.datasets[split_dataset_id(name)[0]] for name in self.configuration.dataset_ids}

    @cached_property
    def methods(self) -> dict[str, MethodInfo | BrokenPlugin]:
        """Methods of the run by their names."""
        return {entry.name: self.plugins.methods[entry.name] for entry in self._entries}

    @property
    def _entries(self) -> list[MethodEntry]:
        """Methods that take part, each with the variants to be run."""
        section = self.configuration.methods
        entries = section.include
        if entries is None:
            entries = [MethodEntry(name=name) for name in self.plugins.methods]
        return [
            entry.model_copy(update={"variants": self._variants(entry)})
            for entry in entries
            if entry.name not in section.exclude
        ]

    def _variants(self, entry: MethodEntry) -> list[str]:
        """Variants that an entry names, else those that ``methods.variants`` chooses."""
        if entry.variants:
            return entry.variants
        info = self.plugins.methods[entry.name]
        known = list(info.variants) if isinstance(info, MethodInfo) else ["default"]
        return known[:1] if self.configuration.methods.variants == "first" else known

    @cached_property
    def cells(self) -> tuple[tuple[str, str, str], ...]:
        """The cells (data set, method, variant) to be run.

        A variant of a method takes part on a data set if its tasks include the data set's. A broken plugin takes part everywhere,
        so that its reason is seen in every table.
        """
        found: dict[tuple[str, str, str], None] = {}
        for identifier in self.datasets:
            wanted = self.configuration.methods_on(identifier)
            for entry in self._entries:
                if wanted is not None and entry.name not in wanted:
                    continue
                if entry.datasets is not None and identifier not in entry.datasets:
                    continue
                for variant in entry.variants or []:
                    if self._fits(identifier, entry.name, variant):
                        found[identifier, entry.name, variant] = None
        return tuple(found)

    def _fits(self, identifier: str, method: str, variant: str) -> bool:
        dataset, info = self.datasets[identifier], self.methods[method]
        if isinstance(info, BrokenPlugin) or isinstance(dataset, BrokenPlugin):
            return True
        return dataset.variant_task(split_dataset_id(identifier)[1]) in info.tasks_of(variant)

    @cached_property
    def corrupted_cells(self) -> list[tuple[str, str, str]]:
        """The cells whose models are tried on corrupted images."""
        wanted = self.configuration.robustness
        return [
            cell
            for cell in self.cells
            if cell[0] in wanted.datasets and (wanted.methods is None or cell[1] in wanted.methods)
        ]

    @cached_property
    def certified_cells(self) -> list[tuple[str, str, str]]:
        """The cells whose models prove their predictions, and are attacked."""
        return [
            cell for cell in self.cells if cell[0] in self.configuration.certified.datasets and self._proves(cell[1])
        ]

    def _proves(self, method: str) -> bool:
        info = self.methods[method]
        return isinstance(info, MethodInfo) and "certified" in names_in(info.folder / "method.py")

    def written_out(self) -> dict[str, Any]:
        """Return the configuration with methods and variants named, so that one added while a run goes on does not join it."""
        values = self.configuration.model_dump()
        values["methods"]["include"] = [entry.model_dump() for entry in self._entries]
        return values

    def write(self) -> None:
        """Write ``config.yaml``, every default filled in, and ``environment.json``, versions and hardware, of the run."""
        write_json(self.run.results / "environment.json", provenance(self.project.root))
        write_text(self.run.results / "config.yaml", dump(self.written_out()))


def load_plan(path: Path, project: Project) -> Plan:
    """Read a configuration file and the descriptions of the plugins.

    Raises
    ------
    UserError
        If it does not parse, does not fit the schema, or names an unknown method, variant or data set.
    """
    return make_plan(read_yaml(path), project, str(path))


def make_plan(values: Any, project: Project, source: str) -> Plan:
    """Check parsed ``values``, fill in the defaults and find the plugins; ``source`` is what messages call the values."""
    configuration = check(Configuration, values, source)
    plan = Plan(project, configuration, discover_plugins(project))
    check_names(configuration, plan.plugins.datasets, plan.plugins.methods, source)
    return plan
