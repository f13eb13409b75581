"""The data sets that need no download: what they hold, and that they are the same everywhere and every time."""

import hashlib

import numpy as np
import pytest

from morphobench.data.splits import content_digest

SHAPES = {
    "digits": ((1079, 359, 359), (1, 8, 8), np.float32),
    "mnist5k": ((3500, 500, 1000), (1, 28, 28), np.uint8),
    "degraded-digits": ((600, 150, 250), (1, 32, 32), np.uint8),
    "vessels": ((300, 75, 125), (1, 64, 64), np.uint8),
}
CLASSIFICATION = ["digits", "mnist5k"]
SEGMENTATION = ["degraded-digits", "vessels"]
# The content on the machine that made the reference numbers. A difference means that the generator, its seed or a
# package it draws on has changed, and with it every number that was measured on the data set.
CONTENT = {
    "digits": "74c3f1e29e843aea5438533d92eaaa53f07f8c015f5083a0e6b250b78c53dea7",
    "mnist5k": "72d5c9c78460beaf8222bfedf3e982727491a4f22e1b25e8064f1217bfdffe97",
    "degraded-digits": "d1972eb675256121b045d7e8b98ed190413b3be99b9242f072739a749edf0416",
    "vessels": "97034697a3e504f614703eece1124d85ad8a2d2fbf40df97b0119f283e4261c8",
}


@pytest.mark.parametrize("name", SHAPES)
def test_splits_have_the_declared_sizes_shapes_and_types(name, splits_of):
    sizes, shape, dtype = SHAPES[name]
    splits = splits_of(name)
    assert tuple(len(split) for split in splits.values()) == sizes
    for split in splits.values():
        assert split.images.shape[1:] == shape
        assert split.images.dtype == dtype
        assert split.labels.dtype == np.int64
        assert split.labels.shape == split.images.shape[:1] + (shape[1:] if name in SEGMENTATION else ())


@pytest.mark.parametrize("name", SHAPES)
def test_content_is_the_same_on_every_machine(name, splits_of):
    splits = splits_of(name)
    arrays = {f"{split}_{part}": getattr(splits[split], part) for split in splits for part in ("images", "labels")}
    assert content_digest(arrays) == CONTENT[name]


@pytest.mark.parametrize("name", SHAPES)
def test_no_picture_serves_two_splits(name, splits_of):
    pictures = [
        {hashlib.sha256(image.tobytes()).digest() for image in split.images} for split in splits_of(name).values()
    ]
    assert pictures[0].isdisjoint(pictures[1] | pictures[2])
    assert pictures[1].isdisjoint(pictures[2])


@pytest.mark.parametrize("name", SHAPES)
def test_pictures_lie_in_the_unit_interval_and_use_most_of_it(name, splits_of):
    images = splits_of(name)["train"].as_float().images
    assert 0 <= images.min() < 0.1
    assert 0.9 < images.max() <= 1


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_classes_have_their_share_of_every_split(name, splits_of):
    splits = splits_of(name)
    counts = {split: np.bincount(data.labels, minlength=10) for split, data in splits.items()}
    total = sum(counts.values())
    for split, data in splits.items():
        assert np.all(np.abs(counts[split] - total * len(data) / total.sum()) <= 2)


@pytest.mark.parametrize("name", SEGMENTATION)
def test_every_mask_holds_both_classes(name, splits_of):
    for split in splits_of(name).values():
        assert set(np.unique(split.labels)) == {0, 1}
        share = split.labels.mean(axis=(1, 2))
        assert share.min() > 0.02
        assert share.max() < 0.5


@pytest.mark.parametrize("name", SHAPES)
def test_declared_classes_cover_the_labels(name, splits_of, described):
    assert splits_of(name)["train"].labels.max() == len(described[name].classes) - 1


def test_a_second_preparation_changes_nothing(plugin, cache_of):
    (path,) = cache_of("digits").iterdir()
    before = path.stat().st_mtime_ns
    plugin("digits").prepare("default", path.parent)
    assert path.stat().st_mtime_ns == before


def test_a_folder_other_than_the_first_gets_the_same_file(plugin, cache_of, tmp_path):
    plugin("digits").prepare("default", tmp_path)
    (path,), (again,) = cache_of("digits").iterdir(), tmp_path.iterdir()
    assert path.read_bytes() == again.read_bytes()


def test_a_truncated_cache_is_made_again(plugin, tmp_path):
    digits = plugin("digits")
    digits.prepare("default", tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    digits.prepare("default", tmp_path)
    assert path.read_bytes() == whole
