"""Drawing, storing and reading splits."""

import re

import numpy as np
import pytest

from morphobench.contract import DataUnavailable, Split
from morphobench.data.download import CorruptFile
from morphobench.data.splits import load_split, prepare_splits, read_arrays, stratified_split

SIZES = {"train": 13, "valid": 5, "test": 6}


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def example() -> dict[str, Split]:
    draw = generator()
    return {
        name: Split(draw.integers(0, 256, (size, 1, 4, 4)).astype(np.uint8), draw.integers(0, 3, size))
        for name, size in SIZES.items()
    }


def test_stratified_split_deals_every_sample_once():
    labels = generator().integers(0, 4, 24)
    parts = stratified_split(labels, SIZES, generator(1))
    assert {name: len(index) for name, index in parts.items()} == SIZES
    assert sorted(np.concatenate(list(parts.values()))) == list(range(24))


@pytest.mark.parametrize("seed", range(5))
def test_stratified_split_gives_each_class_its_share(seed):
    labels = generator(seed).integers(0, 7, 400)
    parts = stratified_split(labels, {"train": 251, "valid": 53, "test": 96}, generator(seed))
    for index in parts.values():
        share = np.bincount(labels, minlength=7) * len(index) / len(labels)
        assert np.all(np.abs(np.bincount(labels[index], minlength=7) - share) <= 2)


def test_stratified_split_depends_on_the_seed_alone():
    labels = np.repeat(np.arange(3), 8)
    first, second, other = (stratified_split(labels, SIZES, generator(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first["train"], second["train"])
    assert not np.array_equal(first["train"], other["train"])


def test_sizes_that_do_not_sum_up_are_refused():
    with pytest.raises(ValueError, match="expected numbers that sum to 5"):
        stratified_split(np.zeros(5), {"train": 3, "test": 3}, generator())


def test_stored_splits_come_back_unchanged(tmp_path):
    path = tmp_path / "example.npz"
    prepare_splits(path, "recipe", example)
    for name, split in example().items():
        stored = load_split(path, name)
        np.testing.assert_array_equal(stored.images, split.images)
        np.testing.assert_array_equal(stored.labels, split.labels)
        assert stored.labels.dtype == split.labels.dtype


def test_splits_are_made_again_only_when_the_recipe_changes(tmp_path):
    path, made = tmp_path / "example.npz", []

    def make():
        made.append(1)
        return example()

    for recipe in ("one", "one", "two", "two"):
        prepare_splits(path, recipe, make)
    assert len(made) == 2


def test_a_failing_recipe_leaves_nothing_behind(tmp_path):
    def make():
        raise RuntimeError("the source is gone")

    with pytest.raises(RuntimeError, match="the source is gone"):
        prepare_splits(tmp_path / "example.npz", "recipe", make)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match="found 'val', expected one of train, valid, test"):
        load_split(tmp_path / "example.npz", "val")


def test_loading_before_preparing_says_so(tmp_path):
    with pytest.raises(DataUnavailable, match=re.escape(f"{tmp_path / 'example.npz'}: no such file")):
        load_split(tmp_path / "example.npz", "train")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_npz_is_reported_with_its_name_and_size(tmp_path, share):
    path = tmp_path / "example.npz"
    prepare_splits(path, "recipe", example)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CorruptFile, match=rf"example\.npz: not a readable npz .*found {int(share * len(whole))} bytes"):
        load_split(path, "test")


def test_a_damaged_npz_is_reported(tmp_path):
    path = tmp_path / "example.npz"
    prepare_splits(path, "recipe", example)
    data = bytearray(path.read_bytes())
    start = data.index(b"train_images.npy") + 60
    data[start : start + 40] = bytes(40)
    path.write_bytes(bytes(data))
    with pytest.raises(CorruptFile, match=r"example\.npz: not a readable npz"):
        load_split(path, "train")


def test_pickled_objects_are_refused(tmp_path):
    path = tmp_path / "objects.npz"
    np.savez(path, train_images=np.array([{"a": 1}], dtype=object))
    with pytest.raises(CorruptFile, match="allow_pickle"):
        read_arrays(path, ["train_images"])


def test_missing_arrays_are_named(tmp_path):
    path = tmp_path / "partial.npz"
    np.savez(path, train_images=np.zeros(3))
    with pytest.raises(CorruptFile, match="found arrays train_images, expected also train_labels"):
        read_arrays(path, ["train_images", "train_labels"])


def test_a_single_array_is_no_archive(tmp_path):
    path = tmp_path / "single.npz"
    with path.open("wb") as stream:
        np.save(stream, np.zeros(3))
    with pytest.raises(CorruptFile, match="found a single array, expected an npz archive"):
        read_arrays(path, ["train_images"])
