"""Every plugin that is found goes through these tests; `python -m morphobench check NAME` runs them for one plugin.

That tries every variant on every task. Where all plugins are tested, a variant but the first of its plugin is tried on two tasks
alone: the others differ in the loss and in the number of scores, which the first has shown to fit.
"""

from pathlib import Path

from morphobench.plugins.discovery import MethodInfo, discover_datasets, discover_methods, split_dataset_id
from morphobench.project.paths import Project

PROJECT = Project(Path(__file__).resolve().parents[2])


def pytest_addoption(parser):
    parser.addoption("--plugin", action="append", default=[], help="test only the plugin of this name")


def pytest_generate_tests(metafunc):
    chosen = metafunc.config.getoption("--plugin", default=[])

    def wanted(plugins):
        return {name: info for name, info in plugins.items() if not chosen or name in chosen}

    if "method_task" in metafunc.fixturenames:
        cases = [
            (name, variant, kind)
            for name, info in wanted(discover_methods(PROJECT.methods)).items()
            for place, variant in enumerate(getattr(info, "variants", ["default"]))
            for kind in (info.tasks_of(variant) if isinstance(info, MethodInfo) else ["classification"])
            if chosen or not place or kind in ("classification", "segmentation", "node_classification")
        ]
        metafunc.parametrize("method_task", cases, ids=["-".join(case) for case in cases], scope="module")
    if "method_name" in metafunc.fixturenames:
        metafunc.parametrize("method_name", list(wanted(discover_methods(PROJECT.methods))))
    if "dataset_identifier" in metafunc.fixturenames:
        found = wanted(discover_datasets(PROJECT.datasets)).items()
        names = [
            name if variant == "default" else f"{name}.{variant}"
            for name, info in found
            for variant in getattr(info, "variants", ["default"])
        ]
        metafunc.parametrize("dataset_identifier", names)
    if "dataset_name" in metafunc.fixturenames:
        names = {split_dataset_id(name)[0] for name in wanted(discover_datasets(PROJECT.datasets))}
        metafunc.parametrize("dataset_name", sorted(names))
