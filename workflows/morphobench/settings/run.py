"""The configuration of a run: what a tier of the workflow consists of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, StringConstraints, field_validator

from morphobench.contract import Budget
from morphobench.settings.method import Resources
from morphobench.settings.model import Above0, AsInteger, AsWritten, Count, Distinct, Partial, Settings, Whole, distinct
from morphobench.settings.studies import Studies

__all__ = ["BudgetSettings", "Configuration", "DatasetEntry", "MethodEntry", "Robustness", "Tuning"]

RunName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$")]


class BudgetSettings(Settings):
    """How much training a trial may use."""

    epochs: Count = Budget.epochs
    """Passes over the training split; for a graph, steps of the optimiser."""
    batch_size: Count = Budget.batch_size
    """Images in one optimiser step; without meaning for graphs, where a step takes all training nodes."""
    timeout_s: Above0 = Budget.timeout_s
    """Wall-clock limit of one seed in seconds; the process group is killed after it."""
    memory_mb: Annotated[int, Field(ge=64), AsInteger] = Budget.memory_mb
    """Limit of the resident memory of one trial in MiB."""
    steps_per_epoch: Count | None = Budget.steps_per_epoch
    """Largest number of batches in one epoch; null takes the whole training split."""
    shift: Annotated[int, Field(ge=0), AsInteger] = Budget.shift
    """Each time it is learned from, a training image (with its truth, where that is an image) is moved by a random number of pixels
    up to this one along each axis, border pixels repeated; without meaning for graphs, and for methods with a solver of their own."""


class BudgetChange(Partial, BudgetSettings):
    """Keys of budget that differ on this data set, for every method alike."""


class DatasetEntry(Partial):
    """A data set of the run with a budget or methods of its own."""

    name: str
    """Data set as name or name.variant."""
    budget: BudgetChange | None = None
    methods: list[str] | None = Field(default=None, min_length=1)
    """Names of the methods that run on this data set; absent means every one that fits its task."""


class MethodEntry(Partial):
    """A method of the run."""

    name: str
    """Name of the method."""
    variants: list[str] | None = Field(default=None, min_length=1)
    """Variants to run; absent means every one."""
    datasets: list[str] | None = None
    """Data sets to run it on; absent means all of the config that fit its tasks."""


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


NamedMethod = Annotated[MethodEntry, BeforeValidator(_named, json_schema_input_type=str | MethodEntry)]
NamedDataset = Annotated[DatasetEntry, BeforeValidator(_named, json_schema_input_type=str | DatasetEntry)]


class Methods(Settings):
    """Which methods take part; those whose tasks do not fit a data set are left out there."""

    include: list[NamedMethod] | None = None
    """Methods, each as a name or a mapping; absent means every folder of methods/."""
    variants: Literal["all", "first"] = "all"
    """Variants of a method whose entry names none; first takes the first of method.yaml."""
    exclude: list[str] = []
    """Names of methods to leave out."""


class Tuning(Settings):
    """How the learning rate is chosen."""

    mode: Literal["stored", "grid"] = "stored"
    """stored takes the rate in method.yaml; grid trains every rate of the grid with each trial's seed and keeps the one
    that is best on the validation split."""
    grid: list[Above0] = Field(default=[0.0003, 0.001, 0.003, 0.01], min_length=1)
    """Learning rates tried by mode grid, the same for every method."""


class Robustness(Settings):
    """Scores of saved models on corrupted test images (salt and pepper, Gaussian noise, blur, contrast); without data sets none."""

    datasets: list[str] = []
    """Data sets of the run, of images, whose models are tried."""
    methods: list[str] | None = None
    """Methods whose models are tried; null means all that ran on these data sets."""
    severities: Distinct[list[Annotated[int, Field(ge=1, le=5), AsInteger]]] = Field(
        default=[1, 2, 3, 4, 5], min_length=1
    )
    """Severities of each corruption."""
    noise_datasets: list[str] = []
    """Those of the data sets whose models are also tried under uniform and normal noise."""
    noise_levels: Annotated[int, Field(ge=2), AsInteger] = 20
    """Number of levels of the noise, from none to a standard deviation of half the range."""
    seeds: Count = 10
    """How many of the seeds are tried, from the first."""


class Certification(Settings):
    """Proofs and attacks of saved models in the sup norm, of the methods that give ``certified``; without data sets none."""

    datasets: list[str] = []
    """Data sets of the run, of images and classes, whose models are tried."""
    epsilons: Distinct[list[Above0]] = Field(default=[0.05, 0.1, 0.2, 0.3], min_length=1)
    """Greatest change of a pixel, in units of the range of grey values."""
    images: Count = 10000
    """How many of the test images are taken, from the first."""
    proofs: Count = 10000
    """How many of the proven images are attacked, from the first; those that are not proven are attacked all."""
    steps: Count = 100
    """Steps of each attack by projected gradients."""
    restarts: Count = 5
    """Random starts of the attack for each of its two losses, cross-entropy and margin."""
    seeds: Count = 10
    """How many of the seeds are tried, from the first."""


class Comparison(Settings):
    """How methods are compared."""

    baseline: str = "backbone-depthwise"
    """Method, or method/variant, that the paired differences are taken to."""
    alpha: AsWritten[Annotated[float, Field(gt=0, lt=1)]] = 0.05
    """One minus the coverage of the intervals, and the level of the tests."""


class Report(Settings):
    """What the report shows."""

    include: list[RunName] = []
    """Names of other runs (from other machines, say) merged into the report."""


class Reference(Settings):
    """Comparison with the committed numbers of results/reference."""

    tolerances: dict[str, AsWritten[Annotated[float, Field(ge=0)]]] = {"accuracy": 0.02, "dice": 0.02, "auc": 0.02}
    """Largest accepted difference of a mean score, by metric; three standard errors over seeds are always accepted."""


class Configuration(Settings):
    """A tier of the workflow is one such file and nothing else."""

    model_config = ConfigDict(title="configuration of a run")

    run: RunName
    """Name of the run; results and reports go to results/<run> and reports/<run>."""
    datasets: list[NamedDataset] = Field(min_length=1)
    """Data sets, each as name, name.variant, or a mapping with a budget or methods of its own."""
    methods: Methods = Methods()
    seeds: Distinct[list[Whole]] = Field(default=[0, 1, 2, 3, 4, 5], min_length=1)
    """Seeds of the repeated trials; every method gets the same ones, so differences are paired."""
    seeds_per_job: Count = 3
    """How many seeds one process trains one after the other (importing a framework costs seconds)."""
    budget: BudgetSettings = BudgetSettings()
    threads: Count = 1
    """Threads of one trial; 1 gives identical results on any number of cores."""
    quiet: bool = True
    """Whether studies and benchmarks, which measure time, have the machine to themselves. Where false they take one core and share
    the others with trials: only for runs whose times mean nothing."""
    tuning: Tuning = Tuning()
    studies: Studies = Studies()
    robustness: Robustness = Robustness()
    certified: Certification = Certification()
    statistics: Comparison = Comparison()
    report: Report = Report()
    reference: Reference = Reference()

    @field_validator("datasets")
    @classmethod
    def _each_dataset_once(cls, entries: list[DatasetEntry]) -> list[DatasetEntry]:
        distinct([entry.name for entry in entries])
        return entries

    @property
    def dataset_ids(self) -> list[str]:
        """Data sets in the order of the file."""
        return [entry.name for entry in self.datasets]

    def budget_for(self, dataset: str, resources: Resources | None = None) -> Budget:
        """Budget of a trial: the run's, what the data set changes, what the method needs beyond it."""
        chosen = self.budget.model_dump()
        for entry in self.datasets:
            if entry.name == dataset and entry.budget is not None:
                chosen |= entry.budget.model_dump()
        beyond = resources.model_dump(include={"timeout_s", "memory_mb"}, exclude_none=True) if resources else {}
        return Budget(**chosen | beyond)

    def methods_on(self, dataset: str) -> Sequence[str] | None:
        """Names of the methods that the data set is restricted to, if it is."""
        return next((entry.methods for entry in self.datasets if entry.name == dataset), None)

    def seed_chunks(self) -> list[list[int]]:
        """Seeds in chunks of ``seeds_per_job``."""
        size = self.seeds_per_job
        return [self.seeds[start : start + size] for start in range(0, len(self.seeds), size)]

    def settings_of_studies(self) -> dict[str, dict[str, Any]]:
        """Return the settings of each study that is asked for, by its name."""
        return self.studies.model_dump()
