"""The model as MLflow runs it: opens the bundle beside it and answers frames.

MLflow keeps this file itself in the logged model ("models from code") and runs it when the model is
opened, so nothing is pickled. Where Trainyard is not installed, the copy of its code that was logged
with the model is used.
"""

from __future__ import annotations

import base64
import importlib.util
import io
import sys
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

CODE = Path(__file__).resolve().parent / "code" / "trainyard.zip"
IMAGE_COLUMN = "data"


class BundleModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc, name-defined]
    """Probabilities `[n, classes]` in the bundle's class order, or values `[n]` for regression.

    Clusters and components are answered as `[n, clusters]` distances to the centres and `[n, components]`.

    Tables come with their raw columns; images as base64 of the encoded file in the column `data`, the
    same as at an endpoint.
    """

    def load_context(self, context: Any) -> None:
        """Open the bundle; called once."""
        if importlib.util.find_spec("tasks") is None and str(CODE) not in sys.path:
            sys.path.append(str(CODE))
        from tasks.train.bundle import Bundle

        self.bundle = Bundle.load(Path(context.artifacts["bundle"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> Any:
        """Score a frame; see the class."""
        if self.bundle.problem.is_table:
            return self.bundle.predict_table(model_input)
        from PIL import Image

        contents = [base64.b64decode(text, validate=True) for text in model_input[IMAGE_COLUMN]]
        return self.bundle.predict_images([Image.open(io.BytesIO(content)) for content in contents])


mlflow.models.set_model(BundleModel())
