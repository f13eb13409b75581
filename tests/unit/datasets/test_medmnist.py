"""MedMNIST: the declarations agree with the medmnist package, and official files become splits."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from morphobench.contract import DataUnavailable
from morphobench.data.download import CorruptFile
from morphobench.project.paths import data_folders

FOLDER = Path(__file__).resolve().parents[3] / "datasets" / "medmnist"
VARIANTS = [
    *["path", "chest", "derma", "oct", "pneumonia", "retina"],
    *["breast", "blood", "tissue", "organa", "organc", "organs"],
]
TASKS = {
    "multi-class": "classification",
    "binary-class": "classification",
    "ordinal-regression": "ordinal",
    "multi-label, binary-class": "multilabel",
}


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """medmnist.INFO, read in another process: the import makes a folder in the home directory and prints."""
    home = tmp_path_factory.mktemp("home")
    code = "import json, medmnist; print('INFO:' + json.dumps(medmnist.INFO))"
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, "HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return json.loads(answer.stdout.split("INFO:", 1)[1])


@pytest.fixture
def medmnist(plugin):
    return plugin("medmnist")


def write_file(folder: Path, variant: str, shape: tuple[int, ...], labels: np.ndarray) -> Path:
    """Write a small file laid out as the official ones are."""
    generator = np.random.Generator(np.random.PCG64(0))
    arrays = {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"] = generator.integers(0, 256, (len(labels), *shape)).astype(np.uint8)
        arrays[f"{split}_labels"] = labels
    path = folder / f"{variant}mnist.npz"
    np.savez_compressed(path, **arrays)
    return path


def test_declarations_agree_with_the_medmnist_package(described, official):
    info = described["medmnist"]
    assert list(info.variants) == VARIANTS
    for file in info.files:
        ours, theirs = file.variant, official[f"{file.variant}mnist"]
        assert (file.name, file.url, file.md5) == (f"{ours}mnist.npz", theirs["url"], theirs["MD5"])
        assert info.variant_task(ours) == TASKS[theirs["task"]]
        assert info.variant_title(ours) == theirs["python_class"]
        assert list(info.variant_classes(ours)) == list(theirs["label"].values())
    assert [file.variant for file in info.files] == VARIANTS


@pytest.mark.parametrize(("variant", "outputs"), [("breast", 2), ("chest", 14), ("path", 9), ("retina", 5)])
def test_outputs_are_the_number_of_classes(medmnist, variant, outputs):
    described = medmnist.describe(variant)
    assert described["outputs"] == len(described["classes"]) == outputs


def test_grey_pictures_get_one_channel(medmnist, tmp_path):
    path = write_file(tmp_path, "breast", (28, 28), np.array([[0], [1], [1]], dtype=np.uint8))
    split = medmnist.load("breast", tmp_path, "valid")
    assert split.images.shape == (3, 1, 28, 28)
    assert split.labels.dtype == np.int64
    assert split.labels.tolist() == [0, 1, 1]
    np.testing.assert_array_equal(split.images[:, 0], np.load(path)["val_images"])


def test_colour_pictures_get_their_channels_first(medmnist, tmp_path):
    path = write_file(tmp_path, "path", (28, 28, 3), np.array([[0], [8]], dtype=np.uint8))
    split = medmnist.load("path", tmp_path, "test")
    assert split.images.shape == (2, 3, 28, 28)
    assert split.images.flags.c_contiguous
    np.testing.assert_array_equal(split.images[1, 2], np.load(path)["test_images"][1, :, :, 2])


def test_findings_stay_a_row_of_labels(medmnist, tmp_path):
    findings = np.eye(14, dtype=np.int64)[:4]
    write_file(tmp_path, "chest", (28, 28), findings)
    split = medmnist.load("chest", tmp_path, "train")
    assert split.labels.dtype == np.uint8
    np.testing.assert_array_equal(split.labels, findings)


def test_unknown_names_are_refused(medmnist, tmp_path):
    with pytest.raises(ValueError, match="found variant 'brain', expected one of path, chest"):
        medmnist.prepare("brain", tmp_path)
    with pytest.raises(ValueError, match="found 'val', expected one of train, valid, test"):
        medmnist.load("breast", tmp_path, "val")


def test_a_truncated_file_is_reported(medmnist, tmp_path):
    path = write_file(tmp_path, "breast", (28, 28), np.zeros((5, 1), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CorruptFile, match=r"breastmnist\.npz: not a readable npz .*found 1000 bytes"):
        medmnist.load("breast", tmp_path, "train")


def test_pictures_of_another_size_are_refused(medmnist, tmp_path):
    write_file(tmp_path, "breast", (64, 64), np.zeros((2, 1), dtype=np.uint8))
    with pytest.raises(CorruptFile, match=r"train_images: found uint8 \(2, 64, 64\)"):
        medmnist.load("breast", tmp_path, "train")


def test_loading_before_preparing_says_so(medmnist, tmp_path):
    with pytest.raises(DataUnavailable, match="has not been prepared"):
        medmnist.load("breast", tmp_path, "train")


def test_a_given_file_with_a_wrong_checksum_is_not_used(medmnist, tmp_path, monkeypatch):
    given = tmp_path / "given" / "medmnist"
    given.mkdir(parents=True)
    path = write_file(given, "derma", (28, 28, 3), np.zeros((2, 1), dtype=np.uint8))
    monkeypatch.setenv("MORPHOBENCH_DATA", str(given.parent))
    with pytest.raises(CorruptFile, match=f"{path}: wrong checksum: found md5"):
        medmnist.prepare("derma", tmp_path / "cache")
    assert not (tmp_path / "cache" / "dermamnist.npz").exists()


def test_breastmnist_from_a_data_folder(medmnist, tmp_path):
    if not any((folder / "medmnist" / "breastmnist.npz").is_file() for folder in data_folders()):
        pytest.skip("MORPHOBENCH_DATA names no folder that holds medmnist/breastmnist.npz")
    medmnist.prepare("breast", tmp_path)
    splits = {split: medmnist.load("breast", tmp_path, split) for split in ("train", "valid", "test")}
    assert {name: len(split) for name, split in splits.items()} == {"train": 546, "valid": 78, "test": 156}
    for split in splits.values():
        assert split.images.shape[1:] == (1, 28, 28)
        assert set(split.labels.tolist()) == {0, 1}
    assert int((splits["test"].labels == 0).sum()) == 42


def test_published_values_cover_every_variant_and_name_each_reference_once():
    with (FOLDER / "published.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["dataset", "method", "metric", "value", "deviation", "tolerance", "reference", "source"]
    keys = {(row["dataset"], row["method"], row["metric"]) for row in rows if row["reference"] == "Yang et al. 2023"}
    assert keys == {(f"medmnist.{name}", "resnet18", metric) for name in VARIANTS for metric in ("auc", "accuracy")}
    again = {
        (row["dataset"], row["metric"]): (float(row["value"]), float(row["deviation"]))
        for row in rows
        if row["reference"] == "Doerrich et al. 2025"
    }
    assert again == {
        ("medmnist.breast", "accuracy"): (0.8397, 0.0181),
        ("medmnist.breast", "auc"): (0.8761, 0.0116),
        ("medmnist.pneumonia", "accuracy"): (0.8312, 0.0110),
        ("medmnist.pneumonia", "auc"): (0.9501, 0.0030),
    }
    assert len(keys) + len(again) == len(rows)
    assert all(0.5 < float(row["value"]) < 1 for row in rows)
    assert {(row["metric"], float(row["tolerance"])) for row in rows} == {("auc", 0.02), ("accuracy", 0.03)}
