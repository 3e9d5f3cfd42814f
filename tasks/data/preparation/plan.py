"""Which preprocessing steps a configuration comes to, for a problem."""

from __future__ import annotations

from tasks.data.config import PreprocessConfig, StepConfig
from tasks.data.methods import METHODS, AudioMethod, ImageMethod, PreprocessingMethod
from tasks.errors import InvalidSettings
from tasks.refs import NOUNS, Problem


def planned_steps(problem: Problem, config: PreprocessConfig) -> tuple[StepConfig, ...]:
    """The steps that will be applied, in order.

    Images get one colour mode and one size even if no step asks for them, and sounds one channel and one
    rate: a model has one input shape, and an endpoint is sent files of any. Tables get the usual steps if
    none are given; steps that are given are taken as they are, because filling gaps in data is a choice
    that its owner should make. Texts get none.

    Raises:
        InvalidSettings: A method does not apply to data of this problem.
    """
    steps = config.steps
    modality = problem.modality
    for step in steps:
        if METHODS[step.method].applies_to != modality:
            raise InvalidSettings(
                f"The preprocessing method {step.method.value} is not for {NOUNS[modality]}",
                where="preprocess.steps",
                allowed=", ".join(name for name, one in METHODS.items() if one.applies_to == modality),
            )
    methods = [METHODS[step.method] for step in steps]
    if modality == "table":
        return steps or (_step("impute"), _step("scale"), _step("encode"))
    if modality == "image":
        if not any(isinstance(method, ImageMethod) and method.sets_mode for method in methods):
            steps = (_step("colour-mode"), *steps)
        if not any(isinstance(method, ImageMethod) and method.sets_size for method in methods):
            side = config.input_size_px
            steps = (*steps, _step("resize", width_px=side, height_px=side))
    if modality == "audio":
        if not any(isinstance(method, AudioMethod) and method.sets_channels for method in methods):
            steps = (_step("mono"), *steps)
        if not any(isinstance(method, AudioMethod) and method.sets_rate for method in methods):
            steps = (*steps, _step("resample"))
    return steps


def _step(method: str, **parameters: int) -> StepConfig:
    return StepConfig(method=PreprocessingMethod(method), parameters=parameters)
