"""The pairs of images that operators learn from, and the structuring function that made them."""

from __future__ import annotations

from morphobench.contract import SPLITS, InvalidPlugin, MorphologicalTarget, Split
from morphobench.plugins.discovery import DatasetInfo, read_dataset, split_dataset_id
from morphobench.plugins.loading import load_dataset
from morphobench.project.paths import dataset_cache, find_project

__all__ = ["load_pairs"]


def load_pairs(identifier: str) -> tuple[MorphologicalTarget, dict[str, Split]]:
    """Prepare a data set, if it is not, and return how its pairs were made, and its splits.

    Raises
    ------
    DataUnavailable
        If its files are not to be had.
    InvalidPlugin
        If it does not say how its pairs were made.
    """
    project = find_project()
    name, variant = split_dataset_id(identifier)
    info = read_dataset(project.datasets / name)
    if not isinstance(info, DatasetInfo):
        raise InvalidPlugin(info.why)
    module = load_dataset(info)
    if not hasattr(module, "target"):
        raise InvalidPlugin(f"datasets/{name}/dataset.py: function target not found; operator recovery needs it")
    cache = dataset_cache(project, name, variant)
    module.prepare(variant, cache)
    return module.target(variant), {split: module.load(variant, cache, split).as_float() for split in SPLITS}
