"""The study of certificates: how many test images of a saved model are proven right, survive an attack, are right at all.

For every image certified <= attacked <= clean must hold. An image that was proven and then broken is a false proof: the row has the status
"error" and names it. All three speak of one function, the network in float64.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from morphobench.contract import InvalidPlugin
from morphobench.data.preparation import Manifest, images_of_test, labels_of_test, read_manifest
from morphobench.evaluation.robustness import rows_of_saved_model
from morphobench.plugins.loading import Method
from morphobench.project.files import write_table
from morphobench.runs.plan import Plan
from morphobench.settings.run import Certification

if TYPE_CHECKING:
    import torch

__all__ = ["COLUMNS", "collect_certified", "score_certified"]

STREAM = 12  # names the random stream of the starts of attacks
COLUMNS = [
    *["run", "dataset", "task", "method", "variant", "seed", "epsilon", "images", "clean", "certified", "attacked"],
    *["proofs_attacked", "proofs_broken", "status", "message"],
]


def score_certified(plan: Plan, cell: tuple[str, str, str]) -> None:
    """Write ``certified.csv`` and ``.parquet`` of one cell (data set, method, variant) beside its trials.

    One row a seed and epsilon, with shares of the test images. Every image that is right and not proven is attacked, and so many of those
    that are proven as the configuration says: the first ones. A model that is not to be had is a row with the reason.
    """
    project, run, wanted = plan.project, plan.run, plan.configuration.certified
    dataset, method, variant = cell
    manifest = read_manifest(run.results / "data" / f"{dataset}.json")
    rows: list[dict[str, Any]] = []
    if manifest.status == "ok":
        images, labels = images_of_test(project, manifest), labels_of_test(project, manifest)
        shared = {
            "run": run.results.name,
            "dataset": dataset,
            "task": manifest.task,
            "method": method,
            "variant": variant,
        }
        for seed in plan.configuration.seeds[: wanted.seeds]:
            found = _rows_of_seed(plan, manifest, (*cell, seed), images[: wanted.images], labels[: wanted.images])
            rows += [{**shared, "seed": seed, **row} for row in found]
    write_table(run.trials.joinpath(*cell, "certified"), pd.DataFrame(rows, columns=COLUMNS))


def collect_certified(plan: Plan) -> None:
    """Write the table ``certified`` of a run from those of its cells."""
    run = plan.run
    parts = [pd.read_parquet(run.trials.joinpath(*cell, "certified.parquet")) for cell in plan.certified_cells]
    numbers = dict.fromkeys(
        ["epsilon", "images", "clean", "certified", "attacked", "proofs_attacked", "proofs_broken"], "float64"
    )
    parts = [part.astype(numbers) for part in parts if len(part)]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)
    write_table(run.tables / "certified", table)


def _rows_of_seed(
    plan: Plan, manifest: Manifest, trial: tuple[str, str, str, int], images: np.ndarray, labels: np.ndarray
) -> list[dict[str, Any]]:
    def measure(method: Method, model: Any) -> list[dict[str, Any]]:
        return _measured(method, model, images, labels, plan.configuration.certified, trial[3])

    return rows_of_saved_model(plan, manifest, plan.run.trial(*trial), measure, {})


def _measured(
    method: Method, model: Any, images: np.ndarray, labels: np.ndarray, wanted: Certification, seed: int
) -> list[dict[str, Any]]:
    import torch

    from morphobench.evaluation.attacks import accurate, broken_by_attack

    fast = model.float().eval()
    exact = copy.deepcopy(model).double().eval()
    x, truth = torch.from_numpy(images).double(), torch.from_numpy(labels).long().flatten()
    clean = accurate(exact, x, truth)
    survives, proven_before = clean.clone(), clean.clone()
    rows = []
    for epsilon in sorted(wanted.epsilons):
        proven = _proven(method, exact, x, truth, epsilon)
        tried = survives & ~proven
        audited = proven.nonzero().flatten()[: wanted.proofs]
        tried[audited] = True
        some = tried.nonzero().flatten()
        attack = {"steps": wanted.steps, "restarts": wanted.restarts, "seed": STREAM + 1000 * seed}
        broken = torch.zeros_like(tried)
        broken[some] = broken_by_attack(fast, exact, x[some], truth[some], epsilon, **attack)
        false_proofs = (proven & (broken | ~clean)).nonzero().flatten().tolist()
        unsteady = (proven & ~proven_before).nonzero().flatten().tolist()
        survives, proven_before = survives & ~broken, proven
        rows.append(
            {
                "epsilon": epsilon,
                "images": len(truth),
                **{name: float(part.double().mean()) for name, part in (("clean", clean), ("certified", proven), ("attacked", survives))},
                "proofs_attacked": len(audited),
                "proofs_broken": len(false_proofs),
                "status": "error" if false_proofs or unsteady else "ok",
                "message": _complaint(false_proofs, unsteady, epsilon),
            }
        )  # fmt: skip
    return rows


def _proven(
    method: Method, exact: torch.nn.Module, x: torch.Tensor, truth: torch.Tensor, epsilon: float
) -> torch.Tensor:
    import torch

    parts = []
    with torch.no_grad():
        for some in torch.arange(len(truth)).split(128):
            found = method.module.certified(exact, x[some], truth[some], epsilon)
            if not isinstance(found, torch.Tensor) or found.dtype != torch.bool or found.shape != some.shape:
                shape = getattr(found, "shape", type(found).__name__)
                raise InvalidPlugin(
                    f"certified() returns {shape}, expected a tensor of bool of shape {tuple(some.shape)}"
                )
            parts.append(found)
    return torch.cat(parts)


def _complaint(false_proofs: list[int], unsteady: list[int], epsilon: float) -> str:
    """Say which proofs do not hold."""
    if false_proofs:
        return f"false proof at epsilon {epsilon:g}: test images {false_proofs[:10]} are proven, and wrong within it"
    if unsteady:
        return f"test images {unsteady[:10]} are proven at epsilon {epsilon:g} and not at a smaller one"
    return ""
