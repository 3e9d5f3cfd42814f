"""Which preprocessing steps a configuration comes to, for a problem."""

from __future__ import annotations

from typing import cast

from tasks.data.config import PreprocessConfig, StepConfig
from tasks.data.methods import METHODS, ImageMethod, PreprocessingMethod
from tasks.errors import InvalidSettings
from tasks.refs import Problem


def planned_steps(problem: Problem, config: PreprocessConfig) -> tuple[StepConfig, ...]:
    """The steps that will be applied, in order.

    Images get one colour mode and one size even if no step asks for them: a model has one input shape,
    and an endpoint is sent images of any. Tables get the usual steps if none are given; steps that are
    given are taken as they are, because filling gaps in data is a choice that its owner should make.

    Raises:
        InvalidSettings: A method does not apply to data of this problem.
    """
    kind = "table" if problem.is_table else "image"
    for step in config.steps:
        if METHODS[step.method].applies_to != kind:
            raise InvalidSettings(
                f"The preprocessing method {step.method.value} is not for {kind}s",
                where="preprocess.steps",
                allowed=", ".join(name for name, method in METHODS.items() if method.applies_to == kind),
            )
    if problem.is_table:
        usual = (PreprocessingMethod("impute"), PreprocessingMethod("scale"), PreprocessingMethod("encode"))
        return config.steps or tuple(StepConfig(method=method) for method in usual)
    methods = [cast(ImageMethod, METHODS[step.method]) for step in config.steps]
    steps = config.steps
    if not any(method.sets_mode for method in methods):
        steps = (StepConfig(method=PreprocessingMethod("colour-mode")), *steps)
    if not any(method.sets_size for method in methods):
        size = {"width_px": config.input_size_px, "height_px": config.input_size_px}
        steps = (*steps, StepConfig(method=PreprocessingMethod("resize"), parameters=size))
    return steps


def mends_missing_values(problem: Problem, config: PreprocessConfig | None) -> bool:
    """Whether the preprocessing to come fills missing feature values."""
    if config is None:
        return False
    return any(METHODS[step.method].mends_missing_values for step in planned_steps(problem, config))
