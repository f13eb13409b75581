"""How the equilibria of each epoch converged: a line of the log and a row of a table."""

from __future__ import annotations

import csv
from typing import Any

import numpy as np

from morphobench.contract import Run
from varmorph.torch import Certificate

__all__ = ["FILE", "ConvergenceLog"]

FILE = "convergence.csv"
COLUMNS = ("epoch", "split", "mean_steps", "most_steps", "converged", "backward_converged", "backward_residual")


class ConvergenceLog:
    """Collects certificates, batch by batch.

    Columns of its table: mean and greatest number of forward steps, share of images whose equilibrium has reached its tolerance,
    share whose adjoint has, and the mean relative residual of the adjoint; the last two are empty for validation.
    """

    def __init__(self, run: Run):
        self.run = run
        self.epoch, self.split = 1, "train"
        self.forward: list[np.ndarray] = []  # (2, N): steps, converged
        self.backward: list[np.ndarray] = []  # (2, N): converged, residual
        with (run.directory / FILE).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerow(COLUMNS)

    def add(self, split: str, certificate: Certificate) -> None:
        """Take the certificate of a batch of a split, "train" or "valid"; another split than before closes that."""
        if split != self.split:
            self.close()
            self.split = split
        self.forward.append(_rows(certificate.forward.iterations, certificate.forward.converged))
        if certificate.backward is not None:
            self.backward.append(_rows(certificate.backward.converged, certificate.backward.residual))

    def close(self) -> None:
        """Write what has been collected of the split; the epoch ends with "valid"."""
        split = self.split
        steps, converged = np.concatenate(self.forward, axis=1)
        row: list[Any] = [self.epoch, split, f"{steps.mean():.2f}", int(steps.max()), f"{converged.mean():.4f}"]
        said = f"equilibrium steps mean {row[2]} most {row[3]}, converged {converged.mean():.1%}"
        if self.backward:
            done, residual = np.concatenate(self.backward, axis=1)
            row += [f"{done.mean():.4f}", f"{residual.mean():.2e}"]
            said += f"; adjoint converged {done.mean():.1%}, residual {row[-1]}"
        self.run.log(f"epoch {self.epoch:3d} {split:5s} {said}")
        with (self.run.directory / FILE).open("a", encoding="utf-8", newline="") as file:
            csv.writer(file).writerow(row + [""] * (len(COLUMNS) - len(row)))
        self.epoch += split == "valid"
        self.forward, self.backward = [], []


def _rows(*entries: Any) -> np.ndarray:
    return np.stack([entry.detach().cpu().numpy().astype(float) for entry in entries])
