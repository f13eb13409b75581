"""MNIST and Fashion-MNIST: official files become splits, others are refused by name."""

import gzip

import numpy as np
import pytest

from morphobench.data.download import CorruptFile


@pytest.fixture
def mnist(plugin):
    return plugin("mnist")


def written(folder, name, array):
    """Write an IDX file as the official ones are."""
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    (folder / name).write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    for name, count in (("train", 6000), ("t10k", 40)):
        written(tmp_path, f"{name}-images-idx3-ubyte.gz", rng.integers(0, 256, (count, 28, 28)))
        written(tmp_path, f"{name}-labels-idx1-ubyte.gz", np.arange(count) % 10)
    return tmp_path


def test_every_training_image_is_in_one_split_with_its_label(mnist, files):
    parts = mnist.make(files)
    assert {name: part.images.shape for name, part in parts.items()} == {
        "train": (1000, 1, 28, 28),
        "valid": (5000, 1, 28, 28),
        "test": (40, 1, 28, 28),
    }
    given = mnist.read_idx(files / "train-images-idx3-ubyte.gz", 3)
    found = {
        image.tobytes(): label
        for part in (parts["train"], parts["valid"])
        for image, label in zip(part.images, part.labels, strict=True)
    }
    assert [found[image.tobytes()] for image in given] == (np.arange(6000) % 10).tolist()
    again = mnist.make(files)
    assert all(np.array_equal(parts[name].images, again[name].images) for name in parts)
    assert parts["test"].labels.dtype == np.int64


def test_each_variant_has_its_four_files_with_checksums(mnist, described):
    info = described["mnist"]
    assert list(info.variants) == list(mnist.FOLDERS)
    for variant in info.variants:
        names = [file.name for file in info.files if file.variant == variant]
        assert len(names) == len(set(names)) == 4
        assert mnist.describe(variant)["outputs"] == 10
    assert len({file.md5 for file in info.files}) == 8


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train-images-idx3-ubyte.gz", b"no gzip", "cannot be decompressed"),
        ("train-images-idx3-ubyte.gz", gzip.compress(b"\x00\x00\x08\x03"), "found 4 bytes that begin with 00 00 08 03"),
        ("t10k-labels-idx1-ubyte.gz", gzip.compress(b"\x00\x00\x09\x01\x00\x00\x00\x01\x05"), "begin with 00 00 09 01"),
        ("t10k-labels-idx1-ubyte.gz", gzip.compress(b"\x00\x00\x08\x01\x00\x00\x00\x01\x05"), "40 images and 1 labels"),
    ],
)
def test_files_of_another_kind_are_refused(mnist, files, name, content, message):
    (files / name).write_bytes(content)
    with pytest.raises(CorruptFile, match=message):
        mnist.make(files)
