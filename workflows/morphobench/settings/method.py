"""``method.yaml``: what a folder of ``methods/`` says about itself."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, StringConstraints

from morphobench.contract import Family, FrameworkName, TaskKind
from morphobench.settings.model import Above0, AsInteger, Count, Distinct, Partial, Settings, empty_for_null

__all__ = ["MethodDescription", "MethodVariant", "Name", "Resources", "Text"]

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$")]
Text = Annotated[str, StringConstraints(min_length=1)]
Tasks = Distinct[Annotated[tuple[TaskKind, ...], Field(strict=False, min_length=1)]]


class Parameters(Partial):
    """Parameters with their defaults; learning_rate is the one the default training loop reads."""

    model_config = ConfigDict(extra="allow")

    learning_rate: Above0 = 1e-3
    """Learning rate of Adam at the start of training."""


class MethodVariant(Parameters):
    """The parameters that a variant overrides; tasks, if it does not do all that the method does."""

    tasks: Tasks | None = None
    """Kinds of task of this variant."""


class Resources(Settings):
    """What a trial of this method needs beyond the budget of the config."""

    timeout_s: Above0 | None = None
    """Wall-clock limit of one seed in seconds; replaces the one of the config."""
    memory_mb: Count | None = None
    """Memory limit in MiB; replaces the one of the config."""
    gpu: Annotated[int, Field(ge=0, le=1), AsInteger] = 0
    """Number of GPUs a trial takes where there are any (0 or 1)."""


class MethodDescription(Settings):
    """What a folder of methods/ says about itself. Read without importing any of its code."""

    model_config = ConfigDict(title="method.yaml")

    name: Name
    """Name of the method; equal to the name of its folder."""
    title: Text
    """What tables and figures call it."""
    summary: str = ""
    """One sentence for the report."""
    family: Family
    """Kind of method; decides its colour, and control is exempt from "learns above chance"."""
    framework: FrameworkName
    """What it computes with; numpy methods bring their own fit and predict."""
    counterpart: str = ""
    """Method that is the same network with the same parameters in another framework. The two are compared with each other, trial
    by trial; ranks and tests leave this one out, since they would count one network twice. Empty: none."""
    tasks: Tasks
    """Kinds of task it can be asked to learn."""
    params: Parameters = Parameters()
    variants: dict[
        Name, Annotated[MethodVariant, BeforeValidator(empty_for_null, json_schema_input_type=MethodVariant | None)]
    ] = Field(default={"default": MethodVariant()}, min_length=1)
    """Name of each variant and the parameters it overrides."""
    references: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """DOIs or addresses of the papers."""
    citation: str = ""
    """The work this method stands for, as one line."""
    resources: Resources = Resources()

    def tasks_of(self, variant: str) -> tuple[TaskKind, ...]:
        """Kinds of task of one variant; those of the method for one that is not known."""
        known = self.variants.get(variant)
        return known.tasks if known and known.tasks else self.tasks

    def params_of(self, variant: str) -> dict[str, Any]:
        """Parameters of the method after one variant; without any for one that is not known."""
        known = self.variants.get(variant, MethodVariant())
        return {**self.params.model_dump(), **known.model_dump(exclude={"tasks"})}
