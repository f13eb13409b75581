"""Images of a segmentation data set as one graph of superpixels, the variant being the name of that data set."""

from __future__ import annotations

from functools import cache as remembered
from pathlib import Path

import numpy as np

from morphobench.contract import SPLITS, Graph, GraphSplit, InvalidPlugin, Split
from morphobench.contract.graphs import both_directions, disjoint_union
from morphobench.data.splits import load_graph_split, prepare_splits, recipe
from morphobench.plugins.discovery import DatasetInfo, discover_datasets
from morphobench.plugins.loading import load_dataset
from morphobench.project.files import digest

SUPERPIXELS = {"degraded-digits": 80, "vessels": 150}  # asked for in each image; SLIC makes about as many
COMPACTNESS = 0.1  # distance in grey values that weighs as much as the distance of neighbouring superpixels
DATASETS = Path(__file__).parents[1]


def prepare(variant: str, cache: Path) -> None:
    """Prepare the images in a folder of ``cache``, and store their graph."""
    source = described(variant)
    made_by = digest(recipe(Path(__file__).parent), recipe(source.folder))
    prepare_splits(cache / "superpixels.npz", made_by, lambda: make(variant, images_of(source, cache)))


def load(variant: str, cache: Path, split: str) -> GraphSplit:
    """Return one split: features (nodes, 4), namely mean and standard deviation of the grey values, row and column, standardised."""
    return load_graph_split(cache / "superpixels.npz", split)


def described(variant: str) -> DatasetInfo:
    """Return what the data set of the images says of itself."""
    info = discover_datasets(DATASETS)[variant]
    if not isinstance(info, DatasetInfo):
        raise InvalidPlugin(f"superpixels.{variant}: {info.why}")
    return info


def images_of(source: DatasetInfo, cache: Path) -> dict[str, Split]:
    """Return the images of its variant ``small`` with their masks, grey values in [0, 1]."""
    module, folder = load_dataset(source), cache / source.name
    folder.mkdir(exist_ok=True)
    module.prepare("small", folder)
    return {name: module.load("small", folder, name).as_float() for name in SPLITS}


def make(variant: str, splits: dict[str, Split]) -> dict[str, GraphSplit]:
    """Make one graph of the images of all splits; the nodes of an image belong to the split of the image."""
    graphs, labels, owners = [], [], []
    for name, split in splits.items():
        for image, mask in zip(split.images[:, 0], split.labels, strict=True):
            segments = superpixels(image, SUPERPIXELS[variant])
            graphs.append(graph_of(image, segments))
            labels.append(majority(mask, segments))
            owners.append(name)
    graph, origin = disjoint_union(graphs)
    label, owner = np.concatenate(labels), np.array(owners)[origin]
    graph = Graph(standardised(graph.x, owner == "train"), graph.edges)
    nodes = {name: np.flatnonzero(owner == name) for name in splits}
    return {name: GraphSplit(graph, chosen, label[chosen]) for name, chosen in nodes.items()}


def standardised(x: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Shift and scale each feature so that it has mean 0 and standard deviation 1 over the training nodes."""
    mean, deviation = x[known].mean(axis=0), x[known].std(axis=0)
    return ((x - mean) / np.where(deviation > 0, deviation, 1.0)).astype(np.float32)


def superpixels(image: np.ndarray, count: int) -> np.ndarray:
    """Return the number of the superpixel of each pixel (H, W), from 0 without a gap."""
    from skimage.segmentation import slic

    found = slic(image, n_segments=count, compactness=COMPACTNESS, channel_axis=None, start_label=0)
    return np.unique(found, return_inverse=True)[1].reshape(image.shape)


def graph_of(image: np.ndarray, segments: np.ndarray) -> Graph:
    """Return the graph of an image (H, W): superpixels that share a side of a pixel are joined in both directions.

    Features are mean and standard deviation of the grey values in [0, 1], and row and column of the centroid over height and width.
    """
    flat, areas = segments.ravel(), np.bincount(segments.ravel())

    def mean(values: np.ndarray) -> np.ndarray:
        return np.bincount(flat, values.ravel().astype(np.float64)) / areas

    centre = mean(image)
    deviation = np.sqrt(mean((image - centre[segments]) ** 2))
    rows, columns = np.indices(image.shape)
    features = [centre, deviation, mean(rows) / image.shape[0], mean(columns) / image.shape[1]]
    below = np.stack([segments[:-1].ravel(), segments[1:].ravel()])
    beside = np.stack([segments[:, :-1].ravel(), segments[:, 1:].ravel()])
    return Graph(
        np.stack(features, axis=1).astype(np.float32), both_directions(np.concatenate([below, beside], axis=1))
    )


def majority(mask: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """Return the class of most pixels of each superpixel, int64; the background where both are equally many."""
    return (2 * np.bincount(segments.ravel(), mask.ravel()) > np.bincount(segments.ravel())).astype(np.int64)


def on_images(variant: str, cache: Path, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give every pixel of the test images the scores of its superpixel.

    Parameters
    ----------
    scores : ndarray
        (nodes, 2) of the test nodes in their order.

    Returns
    -------
    tuple of ndarray
        Scores (N, 2, H, W), and the masks (N, H, W) they are to be compared with.
    """
    nodes, masks = nodes_of_pixels(variant, cache)
    return np.moveaxis(scores[nodes], -1, 1), masks


@remembered
def nodes_of_pixels(variant: str, cache: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the place among the test nodes of each pixel of the test images, and the masks, both (N, H, W)."""
    test, first, nodes = images_of(described(variant), cache)["test"], 0, []
    for image in test.images[:, 0]:
        segments = superpixels(image, SUPERPIXELS[variant])
        nodes.append(first + segments)
        first += int(segments.max()) + 1
    return np.stack(nodes), test.labels
