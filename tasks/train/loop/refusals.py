"""Settings of the loop that the rows cannot be trained with, refused in words once it shows."""

from __future__ import annotations

import math

from tasks.errors import InvalidSettings
from tasks.train.algorithms.fit import TrainingData
from tasks.train.algorithms.network_algorithm import ImageHyperparameters, NetworkHyperparameters


class Diverged(InvalidSettings):
    """The loss is no longer a finite number."""


def refuse_diverged(loss: float, split: str, epoch: int) -> None:
    """Check a loss.

    Args:
        loss: Of the epoch that is running.
        split: Rows that it is of.
        epoch: Finished epochs.

    Raises:
        Diverged: It is infinite, or no number.
    """
    if not math.isfinite(loss):
        raise Diverged(
            f"the {split} loss is {loss} in epoch {epoch + 1}",
            where="hyperparameters",
            mend="lower learning_rate, clip gradients with gradient_clip_norm, or use precision float32",
        )


def refuse_unfit(settings: NetworkHyperparameters, data: TrainingData, ranks: int) -> None:
    """Check the loop's settings against the rows.

    Raises:
        InvalidSettings: Names every setting that the rows cannot be trained with.
    """
    faults = []
    if not data.problem.is_classification:
        names = [name for name, used in _of_classes(settings).items() if used]
        if names:
            faults.append(f"{', '.join(names)} need classes, and the label is a number")
    if isinstance(settings, ImageHyperparameters):
        side = min(data.train.inputs.shape[1:3])
        if settings.shift_px >= side:
            faults.append(f"shift_px {settings.shift_px} moves images of {side} pixels out of sight")
    rows = len(data.train) // ranks
    if not rows:
        faults.append(f"{ranks} ranks are more than the {len(data.train)} training rows")
    usual = type(settings).model_fields["batch_size_per_rank"].default
    # The default is fitted quietly; a number that someone chose is not changed behind their back.
    if settings.batch_size_per_rank > max(rows, 1) and settings.batch_size_per_rank != usual:
        each = f" for each of {ranks} ranks" if ranks > 1 else ""
        faults.append(
            f"batch_size_per_rank {settings.batch_size_per_rank} is more than the {rows} training rows{each}"
        )
    step = settings.batch_size_per_rank * settings.accumulation_steps
    if settings.accumulation_steps > 1 and step > rows:
        faults.append(f"accumulation_steps {settings.accumulation_steps} make steps of {step} of {rows} rows")
    if faults:
        raise InvalidSettings(
            "these hyperparameters do not go with the data: " + "; ".join(faults),
            where="hyperparameters",
            allowed=f"batches of at most {max(rows, 1)} rows; class settings for classes only",
            mend="change them, or leave them out for their defaults",
        )


def fitted_batch_size(settings: NetworkHyperparameters, rows: int, ranks: int) -> int:
    """The rows of a step: as set, or all of a rank's where those are fewer than the default."""
    return min(settings.batch_size_per_rank, max(1, rows // ranks))


def _of_classes(settings: NetworkHyperparameters) -> dict[str, bool]:
    """Whether each of the settings that only classification has is used."""
    return {
        "class_weights": settings.class_weights != "none",
        "label_smoothing": settings.label_smoothing > 0,
        "mixup": isinstance(settings, ImageHyperparameters) and settings.mixup > 0,
        "cutmix": isinstance(settings, ImageHyperparameters) and settings.cutmix > 0,
    }
