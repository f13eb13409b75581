"""Corruptions of test images, and saved models scored on them."""

import numpy as np
import pandas as pd
import pytest

from morphobench.evaluation.robustness import CORRUPTIONS, NOISES, add_noise, corrupt, noise_levels
from morphobench.project.paths import Project


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((4, 1, 16, 16), dtype=np.float32)


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_a_corruption_stays_in_range_repeats_itself_and_grows_with_the_severity(images, corruption):
    distances = []
    for severity in (1, 2, 3, 4, 5):
        found = corrupt(images, corruption, severity)
        assert found.shape == images.shape
        assert found.dtype == np.float32
        assert found.min() >= 0
        assert found.max() <= 1
        np.testing.assert_array_equal(found, corrupt(images, corruption, severity))
        distances.append(float(np.abs(found - images).mean()))
    assert distances == sorted(set(distances))


def test_salt_and_pepper_changes_the_share_of_pixels_it_names(images):
    flat = np.full((8, 1, 64, 64), 0.5, dtype=np.float32)
    changed = corrupt(flat, "salt-and-pepper", 4) != 0.5
    assert changed.mean() == pytest.approx(0.2, abs=0.01)


def test_blur_keeps_the_mean_of_a_plane_and_does_not_mix_images(images):
    alone = corrupt(images[:1], "blur", 5)
    np.testing.assert_array_equal(alone, corrupt(images, "blur", 5)[:1])
    constant = np.full((1, 1, 8, 8), 0.25, dtype=np.float32)
    np.testing.assert_allclose(corrupt(constant, "blur", 3), constant, atol=1e-6)


@pytest.mark.parametrize("noise", NOISES)
def test_noise_has_the_standard_deviation_it_names_and_is_one_draw_for_all_levels(noise):
    flat = np.full((8, 1, 64, 64), 0.5, dtype=np.float32)
    weak, strong = add_noise(flat, noise, 0.05) - flat, add_noise(flat, noise, 0.1) - flat
    assert weak.std() == pytest.approx(0.05, rel=0.02)
    assert weak.mean() == pytest.approx(0, abs=1e-3)
    np.testing.assert_allclose(strong, 2 * weak, atol=1e-6)
    np.testing.assert_array_equal(add_noise(flat, noise, 0.0), flat)


def test_noise_levels_start_at_none():
    levels = noise_levels(20)
    assert len(levels) == 20
    assert levels[0] == 0
    assert np.all(np.diff(levels) > 0)


METHOD = """\
import types
import numpy as np
def build(task, params):
    return types.SimpleNamespace(task=task, threshold=0.0)
def fit(model, train, valid, run):
    model.threshold = np.float64(train.images[train.labels == 1].mean() + train.images[train.labels == 0].mean()) / 2
def predict(model, images):
    means = images.mean(axis=(1, 2, 3))
    images[...] = 0
    return np.stack([model.threshold - means, means - model.threshold], axis=1)
"""

CONFIG = """\
run: try
datasets: [toy]
seeds: [0, 1]
statistics: {baseline: mean}
robustness: {datasets: [toy], severities: [5], seeds: 2, noise_datasets: [toy], noise_levels: 3}
"""


@pytest.fixture
def toy(scratch):
    scratch.add_dataset("toy")
    scratch.add_method("mean", code=METHOD)
    scratch.add_method("broken", code=METHOD.replace("model.threshold = np", "raise ValueError('no'); np"))
    scratch.write_config(CONFIG)
    done = scratch.snakemake("results/try/tables/robustness.csv")
    assert done.returncode == 0, done.stdout + done.stderr
    return pd.read_csv(Project(scratch.root).run("try").tables / "robustness.csv"), Project(scratch.root).run("try")


def test_saved_models_are_scored_as_they_were_left(toy):
    table, _ = toy
    of_seeds = [rows.drop(columns="seed") for _, rows in table[table["method"] == "mean"].groupby("seed")]
    # What a plugin writes into the images that it is given reaches no other seed.
    pd.testing.assert_frame_equal(*(rows.reset_index(drop=True) for rows in of_seeds))
    mean = of_seeds[0].set_index("corruption")
    assert list(mean.index) == ["none", *CORRUPTIONS, *["uniform-noise"] * 2, *["normal-noise"] * 2]
    assert mean.loc["normal-noise", "strength"].tolist() == [0.25, 0.5]
    assert mean.loc["none", "value"] == 1.0


def test_a_trial_that_failed_is_a_row_with_the_reason(toy):
    broken = toy[0].query("method == 'broken'")
    assert broken["status"].tolist() == ["error"] * 2
    assert broken["message"].str.contains("no").all()
    assert broken["value"].isna().all()
