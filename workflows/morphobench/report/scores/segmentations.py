"""What the segmentation methods predict on test images that were fixed before any run."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from morphobench.report.formatting import score, sentence_list
from morphobench.report.results import Entry, RunResults
from morphobench.report.style import Absent, Drawing, new_figure
from morphobench.training.metrics import dice

__all__ = ["agreement_picture", "draw_segmentations"]

EXAMPLES = 5  # the first test images, whatever they show
MISSED, SPURIOUS = (0.90, 0.45, 0.0), (0.0, 0.45, 0.70)


def agreement_picture(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Colour a prediction by whether it is right.

    Parameters
    ----------
    predicted, truth : ndarray
        (H, W) classes, 0 is background.

    Returns
    -------
    ndarray
        (H, W, 3) in [0, 1]: right foreground white, right background black, missed foreground orange, anything else
        (spurious foreground, wrong class) blue.
    """
    picture = np.zeros((*truth.shape, 3))
    picture[(truth > 0) & (predicted == truth)] = 1.0
    picture[(truth > 0) & (predicted == 0)] = MISSED
    picture[(predicted > 0) & (predicted != truth)] = SPURIOUS
    return picture


def _dice(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Dice of the foreground of one image."""
    overlap, total = ((predicted == truth) & (truth > 0)).sum(), (predicted > 0).sum() + (truth > 0).sum()
    return float(dice(overlap, total))


def draw_segmentations(results: RunResults) -> list[Drawing | Absent]:
    """One figure a segmentation data set: image, truth, and each method's prediction."""
    datasets = [name for name in results.dataset_names if results.task(name) == "segmentation"]
    if not datasets:
        return [Absent("segmentation", "Segmentation examples", "no segmentation data set is part of this run")]
    return [_examples(results, dataset) for dataset in datasets]


def _predictions(results: RunResults, dataset: str) -> dict[Entry, tuple[int, np.ndarray]]:
    """Seed and predicted classes (images, H, W) of each method's first successful seed, for the fixed test images."""
    found: dict[Entry, tuple[int, np.ndarray]] = {}
    for entry in results.entries:
        if results.is_control(entry):
            continue
        for seed, content in results.arrays(dataset, entry, "predictions.npz"):
            place = {int(index): row for row, index in enumerate(content["index"])}
            if all(index in place for index in range(EXAMPLES)):
                rows = [place[index] for index in range(EXAMPLES)]
                found[entry] = (seed, content["scores"][rows].argmax(axis=1))
                break
    return found


def _examples(results: RunResults, dataset: str) -> Drawing | Absent:
    name, title = f"segmentation-{dataset}", f"Segmentation examples: {results.dataset_title(dataset)}"
    manifest = results.datasets.get(dataset, {})
    if manifest.get("status", "ok") != "ok":
        return Absent(name, title, str(manifest.get("message")))
    predictions = _predictions(results, dataset)
    if not predictions:
        return Absent(name, title, f"no successful trial has predictions of the first {EXAMPLES} test images")
    try:
        split = results.test_split(dataset)
    except Exception as error:  # a data plugin may fail in any way; the report goes on without the pictures
        return Absent(name, title, f"the test images could not be read: {error}")
    truth = split.labels[:EXAMPLES]
    images = [np.moveaxis(image, 0, -1) for image in split.images[:EXAMPLES]]
    images = [np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image[..., :3] for image in images]
    rows = [("Image", images, [f"test image {index}" for index in range(EXAMPLES)])]
    rows.append(("Truth", [agreement_picture(one, one) for one in truth], [""] * EXAMPLES))
    for entry, (_, predicted) in predictions.items():
        pairs = list(zip(predicted, truth, strict=True))
        texts = [f"Dice {score(_dice(*pair))}" for pair in pairs]
        rows.append((results.title(entry), [agreement_picture(*pair) for pair in pairs], texts))
    figure = new_figure(1.22 * len(rows) + 0.35)
    for axis, (label, pictures, texts) in zip(figure.subplots(len(rows), 1), rows, strict=True):
        _picture_row(axis, label, pictures, texts)
    handles = [
        Patch(facecolor="white", edgecolor="#404040", label="right foreground"),
        Patch(facecolor=MISSED, label="missed"),
        Patch(facecolor=SPURIOUS, label="spurious"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    seeds = sorted({seed for seed, _ in predictions.values()})
    caption = (
        f"The first {EXAMPLES} test images of {results.dataset_title(dataset)}, chosen by their index, and the "
        f"predictions of seed {sentence_list(map(str, seeds))}; below each prediction the Dice score of that image. "
        "White: right foreground, black: right background, orange: missed, blue: spurious."
    )
    alt = f"Pictures: {EXAMPLES} test images, their truth, and the predictions of {len(predictions)} methods."
    return Drawing(name, title, caption, alt, "tables/scores.csv", figure)


def _picture_row(axis: Axes, label: str, pictures: Sequence[np.ndarray], texts: Sequence[str]) -> None:
    """Show (H, W, 3) pictures side by side in one axis, a text below each."""
    height, width = pictures[0].shape[:2]
    gap = max(2, width // 8)
    strip = np.ones((height, len(pictures) * (width + gap) - gap, 3))
    for place, picture in enumerate(pictures):
        strip[:, place * (width + gap) : place * (width + gap) + width] = picture
    axis.imshow(np.clip(strip, 0, 1))
    middles = [place * (width + gap) + (width - 1) / 2 for place in range(len(pictures))]
    axis.set_xticks(middles, texts, fontsize=8)
    axis.set_yticks([])
    axis.tick_params(axis="x", length=0, pad=2)
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
    axis.set_ylabel("\n".join(textwrap.wrap(label, 24)), rotation=0, ha="right", va="center", labelpad=8)
