"""``dataset.yaml``: what a folder of ``datasets/`` says about itself."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from morphobench.contract import TaskKind
from morphobench.settings.method import Name, Text
from morphobench.settings.model import Above0, Count, Partial, Settings, empty_for_null

__all__ = ["DatasetDescription", "DatasetVariant", "SourceFile"]

Names = Annotated[tuple[str, ...], Field(strict=False)]


class SourceFile(Settings):
    """A source file, with one checksum at least."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """File name, also the name looked for in MORPHOBENCH_DATA/<data set>/."""
    url: Annotated[str, StringConstraints(pattern=r"^https?://")]
    """Where it is downloaded from."""
    size: Count | None = None
    """Size in bytes."""
    md5: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")] | None = None
    """MD5 of the file, hexadecimal."""
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None
    """SHA-256 of the file, hexadecimal."""
    variant: str | None = None
    """The variant that needs this file; absent means every variant."""

    @model_validator(mode="after")
    def _has_a_checksum(self) -> SourceFile:
        if not (self.md5 or self.sha256):
            raise ValueError("found no checksum, expected md5 or sha256")
        return self


class DatasetVariant(Partial):
    """What differs from the data set's own values."""

    title: str | None = None
    """What tables and figures call this variant."""
    at: Above0 | None = None
    """The number of this variant, see `sweep`."""
    images: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*([.][a-z0-9][a-z0-9-]*)?$")] | None = None
    """The data set for segmentation, as an id, whose images this graph is made of. The plugin then gives on_images(...), and
    graph and image methods are compared by the Dice coefficient of the pixels."""
    task: TaskKind | None = None
    """Kind of task of this variant."""
    classes: Names | None = None
    """Names of the classes of this variant."""


class DatasetDescription(Settings):
    """What a folder of datasets/ says about itself. Read without importing any of its code."""

    model_config = ConfigDict(title="dataset.yaml")

    name: Name
    """Name of the data set; equal to the name of its folder."""
    title: Text
    """What tables and figures call it."""
    summary: str = ""
    """One sentence for the report."""
    task: TaskKind
    """Kind of task; a variant may say otherwise."""
    licence: Text
    """Licence of the data, as its owner names it."""
    citation: Text
    """The work to cite, as one line."""
    classes: Names = ()
    """Names of the classes (background first for segmentation); a variant may say otherwise."""
    files: Annotated[tuple[SourceFile, ...], Field(strict=False)] = ()
    """Source files that are found in MORPHOBENCH_DATA or downloaded."""
    made_from: Names = ()
    """Data sets whose plugins this one calls; it is prepared again when one of them is edited."""
    sweep: str = ""
    """What number sets the variants apart (each says its own as `at`); the report draws scores over it."""
    variants: dict[
        Name, Annotated[DatasetVariant, BeforeValidator(empty_for_null, json_schema_input_type=DatasetVariant | None)]
    ] = Field(default={"default": DatasetVariant()}, min_length=1)
    """Name of each variant and what differs from the data set's own values."""

    def variant_task(self, variant: str) -> TaskKind:
        """Kind of task of one variant."""
        return self.variants[variant].task or self.task

    def variant_title(self, variant: str) -> str:
        """Title of one variant."""
        found = self.variants[variant].title
        return self.title if found is None else found

    def variant_classes(self, variant: str) -> tuple[str, ...]:
        """Class names of one variant."""
        found = self.variants[variant].classes
        return self.classes if found is None else found

    def variant_images(self, variant: str) -> str:
        """Id of the data set for segmentation whose images the graph of one variant is made of, "" for none."""
        return self.variants[variant].images or ""

    def variant_number(self, variant: str) -> float | None:
        """Where one variant lies in the sweep of the variants, None if it takes no part in one."""
        number = self.variants[variant].at
        return float(number) if self.sweep and number is not None else None
