"""Settings of handing items out for labelling and of taking the labels back."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from tasks.settings import Settings


class AssignConfig(Settings):
    """Who labels what."""

    annotators: list[str] = Field(
        min_length=1, max_length=100, description="People who label; the items are split evenly over them."
    )
    reviewer: str = Field(
        default="", max_length=80, description="Person who checks the labels; empty for nobody."
    )
    classes: list[str] = Field(
        default_factory=list,
        max_length=1000,
        description="Labels to choose from; empty takes the classes that the dataset has.",
    )
    seed: int = Field(
        default=0,
        ge=0,
        le=2**32 - 1,
        description="Start of the shuffle; the same seed assigns the same items.",
    )

    @model_validator(mode="after")
    def _names_are_distinct(self) -> Self:
        for what, names in (("annotator", self.annotators), ("class", self.classes)):
            if len(set(names)) != len(names):
                raise ValueError(f"a {what} is named twice")
            if any(not name.strip() for name in names):
                raise ValueError(f"a {what} has no name")
        return self


class CollectConfig(Settings):
    """Where the finished labels are."""

    assignment: str = Field(
        min_length=1, description="Folder of the assignment, as the step that handed the items out gave it."
    )
    exports: list[str] = Field(
        min_length=1,
        max_length=100,
        description="Label Studio's JSON exports: paths or URLs; a pattern such as *.json works.",
    )
    require_complete: bool = Field(
        default=True, description="Refuse while items are unlabelled; off leaves them unlabelled."
    )
