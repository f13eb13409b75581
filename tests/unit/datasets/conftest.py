"""Data set plugins, loaded from their folders and prepared once a session."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from morphobench.contract import SPLITS, Split
from morphobench.plugins.discovery import DatasetInfo, discover_datasets
from morphobench.plugins.loading import load_dataset

DATASETS = Path(__file__).resolve().parents[3] / "datasets"


@pytest.fixture(scope="session")
def described() -> dict[str, DatasetInfo]:
    return {name: info for name, info in discover_datasets(DATASETS).items() if isinstance(info, DatasetInfo)}


@pytest.fixture(scope="session")
def plugin(described) -> Callable[[str], ModuleType]:
    loaded: dict[str, ModuleType] = {}

    def load(name: str) -> ModuleType:
        if name not in loaded:
            loaded[name] = load_dataset(described[name])
        return loaded[name]

    return load


@pytest.fixture(scope="session")
def cache_of(plugin, tmp_path_factory) -> Callable[[str], Path]:
    folders: dict[str, Path] = {}

    def prepare(name: str) -> Path:
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp(name)
            plugin(name).prepare("default", folders[name])
        return folders[name]

    return prepare


@pytest.fixture(scope="session")
def splits_of(plugin, cache_of) -> Callable[[str], dict[str, Split]]:
    def load(name: str) -> dict[str, Split]:
        return {split: plugin(name).load("default", cache_of(name), split) for split in SPLITS}

    return load
