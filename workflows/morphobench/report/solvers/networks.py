"""What a user of a network pays: training and prediction of one image, beside the same network with a depthwise convolution."""

from __future__ import annotations

from typing import Any

import pandas as pd

from morphobench.report.formatting import number, seconds, sentence_list
from morphobench.report.results import Entry, RunResults, entry_of, rows_of
from morphobench.report.table import Cell, ReportTable, number_cell

__all__ = ["network_costs", "network_sentence", "networks"]

VARIATIONAL, PEER = Entry("backbone-variational", "default"), Entry("backbone-depthwise", "default")
COLUMNS = ["dataset", "method", "variant", "seeds", "fit_image_s", "predict_image_s", "fit_ratio", "predict_ratio"]


def network_costs(results: RunResults) -> pd.DataFrame:
    """Time of each network that was trained on a data set, one row an entry and data set; controls are left out.

    ``fit_image_s`` is that of one training image in one epoch, validation and all else included, ``predict_image_s`` that of
    one test image; medians over seeds. Ratios are medians over the seeds that the depthwise network has too.
    """
    rows: list[dict[str, Any]] = []
    for dataset in results.dataset_names:
        done = _per_image(results, dataset)
        peer = rows_of(done, PEER).set_index("seed")[["fit_image_s", "predict_image_s"]]
        for entry in results.entries_in(done):
            own = rows_of(done, entry).set_index("seed")
            ratio = own[peer.columns] / peer
            rows.append(
                {
                    "dataset": dataset,
                    "method": entry.method,
                    "variant": entry.variant,
                    "seeds": len(own),
                    "fit_image_s": own["fit_image_s"].median(),
                    "predict_image_s": own["predict_image_s"].median(),
                    "fit_ratio": ratio["fit_image_s"].median(),
                    "predict_ratio": ratio["predict_image_s"].median(),
                }
            )
    return pd.DataFrame(rows, columns=COLUMNS)


def _per_image(results: RunResults, dataset: str) -> pd.DataFrame:
    """Trials of a data set of images that succeeded, with times for one image; none where its size is not known."""
    splits = results.datasets.get(dataset, {}).get("splits", {})
    trials = results.trials
    done = trials[(trials["dataset"] == dataset) & (trials["status"] == "ok") & (trials["family"] != "control")]
    if not splits.get("train") or not splits.get("test"):
        done = done.iloc[:0]
    times = {name: pd.to_numeric(done[name]) for name in ("fit_s", "predict_s", "epochs")}
    done = done.assign(
        fit_image_s=times["fit_s"] / (times["epochs"] * float(splits.get("train") or 1)),
        predict_image_s=times["predict_s"] / float(splits.get("test") or 1),
    )
    return done[done["fit_image_s"].notna()]


def networks(results: RunResults) -> ReportTable:
    """The table of all networks, by data set."""
    rows = [
        [
            Cell(results.title(entry_of(row))),
            Cell(results.dataset_title(row["dataset"])),
            number_cell(row["seeds"]),
            number_cell(row["fit_image_s"], seconds),
            number_cell(row["fit_ratio"]),
            number_cell(row["predict_image_s"], seconds),
            number_cell(row["predict_ratio"]),
        ]
        for row in network_costs(results).to_dict("records")
    ]
    columns = ["Network", "Data set", "Seeds", "Training, image and epoch", "Ratio", "Prediction, image", "Ratio "]
    caption = (
        "What a network costs: median time of one image, and its ratio to the same trials of the depthwise backbone; "
        "networks of other architectures have other sizes"
    )
    return ReportTable("networks", caption, columns, rows, "trials.csv", frozenset(range(2, 7)))


def network_sentence(results: RunResults) -> str:
    """Training and prediction of the variational network beside the depthwise one; empty where they were not both trained."""
    rows = rows_of(network_costs(results), VARIATIONAL)
    rows = rows[rows["fit_ratio"].notna()]
    said = [
        f"{results.dataset_title(row['dataset'])} {seconds(row['fit_image_s'])} ({number(row['fit_ratio'])}×), "
        f"{seconds(row['predict_image_s'])} ({number(row['predict_ratio'])}×)"
        for row in rows.to_dict("records")
    ]
    if not said:
        return ""
    return (
        "Training an image in an epoch, then predicting one, takes the variational network (ratio to the same network with "
        f"depthwise convolutions, medians over seeds): {sentence_list(said)}."
    )
