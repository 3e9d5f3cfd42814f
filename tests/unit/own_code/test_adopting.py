"""Which saved models are served, how their outputs are read, and what is refused in words."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from onnx import TensorProto, helper, save
from PIL import Image
from sklearn.datasets import load_iris
from sklearn.ensemble import GradientBoostingClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import LinearSVC

from tasks.errors import InvalidData, InvalidRequest
from tasks.refs import Problem
from tasks.train import models
from tasks.train.model_inputs import ShapesTables, stack_table
from tasks.train.models.pixel_input import from_processor
from tasks.train.own_code.adopting import adopt
from tasks.train.own_code.config import ImageInput
from tasks.train.own_code.saved_model import NotServed, find_saved
from tasks.train.own_code.trial import Trial

SPECIES = ("virginica", "setosa", "versicolor")
"""An order that is neither sorted nor that of scikit-learn, so that a mistake shows."""


def rows() -> tuple[pd.DataFrame, np.ndarray]:
    data = load_iris(as_frame=True)
    names = [str(name) for name in data.target_names]
    labels = np.array([SPECIES.index(names[target]) for target in data.target])
    return data.data.rename(columns=lambda name: name[:8].strip().replace(" ", "_") + name[6:7]), labels


def table(classes: tuple[str, ...] = SPECIES, labels: np.ndarray | None = None) -> Trial:
    frame, own = rows()
    numbers = range(len(classes))
    by_name = tuple(sorted(numbers, key=lambda place: classes[place]))
    problem = Problem.TABLE_CLASSIFICATION if classes else Problem.TABLE_REGRESSION
    orders = tuple(dict.fromkeys((by_name, tuple(numbers))))
    return Trial(problem, classes, orders, None, frame, own if labels is None else labels, ImageInput())


def pictures(classes: int = 2) -> Trial:
    values = [20, 230] * 4
    images = [Image.new("RGB", (8, 8), (value, value, value)) for value in values]
    names = tuple(f"c{n}" for n in range(classes))
    labels = np.array([0, 1] * 4)
    return Trial(
        Problem.IMAGE_CLASSIFICATION, names, (tuple(range(classes)),), images, None, labels, ImageInput()
    )


def scores(folder: Path, trial: Trial) -> np.ndarray:
    """What the model answers after it went through the file of a bundle."""
    adopted = adopt(find_saved(folder), trial)
    path = folder.with_name(f"{folder.name}-in-bundle")
    adopted.model.save(path)
    about = json.loads(json.dumps(adopted.model.description()))
    model: Any = models.load(adopted.model.format, path, about)
    assert model.parameters == adopted.model.parameters
    if trial.images is not None:
        return np.asarray(model.predict(model.stack_images(trial.images)))
    stack = model.stack_table if isinstance(model, ShapesTables) else stack_table
    return np.asarray(model.predict(stack(trial.table, adopted.inputs)))


def onnx(folder: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], *weights: Any) -> None:
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(weights))
    save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
        folder / "model.onnx",
    )


def floats(name: str, *shape: Any) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def linear(folder: Path, outputs: int, *, output: str = "y", after: str = "", features: int = 4) -> None:
    """`x · w`, with w fitted so that iris is told apart, sorted by name."""
    frame, labels = rows()
    fitted = LogisticRegression(max_iter=500).fit(frame, np.array(SPECIES)[labels])
    weights = np.concatenate([fitted.coef_, fitted.intercept_[:, None]], axis=1)[:outputs, :features]
    w = helper.make_tensor("w", TensorProto.FLOAT, [features, outputs], weights.T.ravel().tolist())
    b = helper.make_tensor("b", TensorProto.FLOAT, [outputs], fitted.intercept_[:outputs].tolist())
    last = "z" if after else output
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Add", ["m", "b"], [last])]
    if after:
        nodes.append(helper.make_node(after, ["z"], [output]))
    onnx(folder, nodes, [floats("x", "n", features)], [floats(output, "n", outputs)], w, b)


@pytest.mark.parametrize("after", ["", "Softmax"])
def test_onnx_logits_and_probabilities_are_told_apart(tmp_path: Path, after: str) -> None:
    linear(tmp_path, 3, after=after)
    given = scores(tmp_path, table())
    assert np.allclose(given.sum(axis=1), 1, atol=1e-5)
    assert (given.argmax(axis=1) == rows()[1]).mean() > 0.9  # sorted by name, as a script has them
    assert (given.max(axis=1) > 0.8).mean() > 0.4  # softmax was not applied twice


def test_names_beside_the_model_say_the_order(tmp_path: Path) -> None:
    linear(tmp_path, 3)
    (tmp_path / "label_names.json").write_text(
        json.dumps({"0": "setosa", "1": "versicolor", "2": "virginica"})
    )
    assert (scores(tmp_path, table()).argmax(axis=1) == rows()[1]).mean() > 0.9
    (tmp_path / "label_names.json").write_text(json.dumps(["setosa", "rose", "virginica"]))
    with pytest.raises(NotServed, match="classes that the dataset does not have: rose"):
        adopt(find_saved(tmp_path), table())


def brightness(folder: Path, shape: list[Any]) -> None:
    """The mean of all pixels, less a half: the logit of the second of two classes."""
    axes = {"axes": list(range(1, len(shape))), "keepdims": 0}
    half = helper.make_tensor("half", TensorProto.FLOAT, [], [0.5])
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], **axes),
        helper.make_node("Sub", ["m", "half"], ["y"]),
    ]
    onnx(folder, nodes, [floats("x", *shape)], [floats("y", shape[0])], half)


@pytest.mark.parametrize(
    ("layout", "shape"), [("nchw", ["n", 3, 4, 4]), ("nhwc", [1, 4, 4, 3]), ("flat", ["n", 192])]
)
def test_onnx_images_of_each_layout(tmp_path: Path, layout: str, shape: list[Any]) -> None:
    brightness(tmp_path, shape)
    adopted = adopt(find_saved(tmp_path), pictures())
    assert adopted.model.pixels.layout == layout  # type: ignore[attr-defined]
    assert scores(tmp_path, pictures()).argmax(axis=1).tolist() == [0, 1] * 4


def labels_of(folder: Path, *first: float) -> None:
    """Answers labels: the first column in whole numbers, less these."""
    less = helper.make_tensor("less", TensorProto.FLOAT, [], list(first))
    nodes = [
        helper.make_node("Slice", ["x", "from", "to", "axis"], ["c"]),
        helper.make_node("Sub", ["c", "less"], ["d"]),
        helper.make_node("Cast", ["d"], ["y"], to=TensorProto.INT64),
    ]
    ends = [
        helper.make_tensor(name, TensorProto.INT64, [1], [value])
        for name, value in (("from", 0), ("to", 1), ("axis", 1))
    ]
    whole = helper.make_tensor_value_info("y", TensorProto.INT64, ["n", 1])
    onnx(folder, nodes, [floats("x", "n", 4)], [whole], less, *ends)


def labelled(values: list[int]) -> Trial:
    frame = pd.DataFrame(np.zeros((len(values), 4), dtype=np.float32), columns=list("abcd"))
    frame["a"] = values
    return replace(table(("p", "q", "r"), np.array(values) % 3), table=frame)


def test_onnx_that_answers_labels(tmp_path: Path) -> None:
    labels_of(tmp_path, 0)
    assert scores(tmp_path, labelled([0, 1, 2, 2])).argmax(axis=1).tolist() == [0, 1, 2, 2]
    for first, said in ((-1, "the label 3, which is no class"), (1, "the label -1, which is no class")):
        labels_of(tmp_path, first)
        with pytest.raises(NotServed, match=said):
            adopt(find_saved(tmp_path), labelled([0, 1, 2, 2]))


def test_a_label_that_only_a_later_row_shows_is_refused(tmp_path: Path) -> None:
    labels_of(tmp_path, 0)
    model: Any = adopt(find_saved(tmp_path), labelled([0, 1, 2, 2])).model
    with pytest.raises(InvalidRequest, match="the label -2, 7, which is no class"):
        model.predict(np.array([[-2, 0, 0, 0], [7, 0, 0, 0], [1, 0, 0, 0]], dtype=np.float32))


def test_onnx_that_does_not_fit(tmp_path: Path) -> None:
    linear(tmp_path, 2)
    with pytest.raises(NotServed, match="gives 2 numbers a row, the dataset has 3 classes"):
        adopt(find_saved(tmp_path), table())
    linear(tmp_path, 3, features=3)
    with pytest.raises(NotServed, match="takes 3 columns, the data has 4"):
        adopt(find_saved(tmp_path), table())
    with pytest.raises(NotServed, match=r"fails on rows of the dataset"):
        adopt(find_saved(tmp_path), pictures())
    two = [floats("x", "n", 4), floats("w", "n", 4)]
    onnx(tmp_path, [helper.make_node("Add", ["x", "w"], ["y"])], two, [floats("y", "n", 4)])
    with pytest.raises(NotServed, match="2 inputs; one is allowed"):
        adopt(find_saved(tmp_path), table())
    onnx(tmp_path, [helper.make_node("Log", ["x"], ["y"])], two[:1], [floats("y", "n", 4)])
    below = replace(table(("a", "b", "c", "d")), table=-rows()[0])
    with pytest.raises(NotServed, match="NaN or infinity"):
        adopt(find_saved(tmp_path), below)
    (tmp_path / "model.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(NotServed, match="no ONNX file"):
        adopt(find_saved(tmp_path), table())


@pytest.mark.parametrize(
    "estimator",
    [
        make_pipeline(StandardScaler(), LogisticRegression()),
        GradientBoostingClassifier(n_estimators=5, random_state=0),
        LinearSVC(),
    ],
    ids=lambda one: type(one).__name__,
)
@pytest.mark.parametrize("named", [True, False])
def test_scikit_learn_classifiers(tmp_path: Path, estimator: Any, named: bool) -> None:
    import skops.io

    frame, labels = rows()
    estimator.fit(frame if named else frame.to_numpy(), np.array(SPECIES)[labels])
    skops.io.dump(estimator, tmp_path / "model.skops")
    given = scores(tmp_path, table())
    assert (given.argmax(axis=1) == labels).mean() > 0.9
    assert np.allclose(given.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("estimator", [Ridge(), RandomForestRegressor(5, random_state=0)])
def test_scikit_learn_regressors(tmp_path: Path, estimator: Any) -> None:
    import skops.io

    frame, _ = rows()
    values = frame.iloc[:, 0].to_numpy() * 3
    skops.io.dump(estimator.fit(frame, values), tmp_path / "model.skops")
    given = scores(tmp_path, table((), values))
    assert given.shape == (150,)
    assert np.abs(given - values).mean() < 0.5


def test_lightgbm_of_two_classes_and_of_values(tmp_path: Path) -> None:
    import lightgbm

    frame, labels = rows()
    two = labels == 1
    for objective, target in (("binary", two), ("regression", frame.iloc[:, 0].to_numpy())):
        booster = lightgbm.train(
            {"objective": objective, "verbosity": -1, "num_threads": 1},
            lightgbm.Dataset(frame[frame.columns[::-1]], target.astype(float)),
            5,
        )
        booster.save_model(tmp_path / "model.txt")
        trial = table(("no", "yes"), two.astype(int)) if objective == "binary" else table((), target)
        adopted = adopt(find_saved(tmp_path), trial)
        assert adopted.inputs == tuple(frame.columns[::-1])  # by the names in the model
        given = scores(tmp_path, trial)
        assert given.shape == ((150, 2) if objective == "binary" else (150,))
    booster = lightgbm.train(
        {"objective": "binary", "verbosity": -1}, lightgbm.Dataset(frame, two.astype(float)), 2
    )
    booster.save_model(tmp_path / "model.txt")
    with pytest.raises(NotServed, match="gives 2 numbers a row, the dataset has 3 classes"):
        adopt(find_saved(tmp_path), table())


def test_what_can_run_code_is_refused(tmp_path: Path) -> None:
    import skops.io

    frame, labels = rows()
    risky = make_pipeline(
        FunctionTransformer(np.asarray, inverse_func=os.path.join, check_inverse=False), LogisticRegression()
    ).fit(frame, labels)
    skops.io.dump(risky, tmp_path / "model.skops")
    with pytest.raises(NotServed, match="types that are not trusted"):
        adopt(find_saved(tmp_path), table())


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["model.pkl"], "pickle"),
        (["a/b/model.pt"], "PyTorch's pickle"),
        (["model.keras"], "Keras"),
        (["weights.safetensors"], "no config.json beside them"),
        (["notes.md"], "no model that is known"),
        (["a.onnx", "b.skops"], "several models beside each other"),
        (["a/x.onnx", "b/x.onnx"], "models in several folders"),
    ],
)
def test_what_is_not_served_is_said(tmp_path: Path, files: list[str], said: str) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(NotServed, match=said):
        find_saved(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("label_names.json", "[" * 100_000, "label_names.json beside the model is not JSON"),
        ("label_names.json", " " * (8 * 2**20 + 1), "label_names.json has more than 8 MiB"),
        ("MLmodel", "{" * 100_000, "the file MLmodel cannot be read"),
    ],
)
def test_files_that_would_break_the_flow_process_are_refused(
    tmp_path: Path, name: str, content: str, said: str
) -> None:
    (tmp_path / "model.onnx").write_bytes(b"x")
    (tmp_path / name).write_text(content)
    with pytest.raises(NotServed, match=said):
        find_saved(tmp_path)


def test_an_empty_folder_and_the_last_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="EM_MODEL_DIR is empty"):
        find_saved(tmp_path)
    for number in (9, 10):
        folder = tmp_path / f"checkpoint-{number}"
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(b"x")
    assert find_saved(tmp_path).path.name == "checkpoint-10"


def test_mlflow_models(tmp_path: Path) -> None:
    import mlflow.sklearn

    frame, labels = rows()
    model = LogisticRegression(max_iter=500).fit(frame, np.array(SPECIES)[labels])
    mlflow.sklearn.save_model(model, tmp_path / "good", serialization_format="skops", pip_requirements=[])
    assert (scores(tmp_path / "good", table()).argmax(axis=1) == labels).mean() > 0.9
    mlflow.sklearn.save_model(model, tmp_path / "bad", serialization_format="pickle", pip_requirements=[])
    with pytest.raises(NotServed, match="flavour sklearn is kept as pickle"):
        find_saved(tmp_path / "bad")


def test_steps_of_image_processors_are_those_of_transformers() -> None:
    import transformers

    random = np.random.default_rng(0)
    image = Image.fromarray(random.integers(0, 255, (37, 51, 3), dtype=np.uint8))
    processors = [
        transformers.ViTImageProcessorPil(size={"height": 20, "width": 24}),
        transformers.ViTImageProcessorPil(size={"height": 20, "width": 24}, resample=0),
        transformers.ConvNextImageProcessorPil(size={"shortest_edge": 28}, crop_pct=0.875),
        transformers.ConvNextImageProcessorPil(size={"shortest_edge": 384}),
        transformers.MobileNetV2ImageProcessorPil(
            size={"shortest_edge": 32}, crop_size={"height": 28, "width": 28}
        ),
    ]
    for processor in processors:
        theirs = processor(image, return_tensors="np")["pixel_values"]
        config = json.loads(processor.to_json_string())
        ours = from_processor(config, 3).stack([image])
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() < 1e-5, type(processor).__name__


def test_a_size_as_a_number_is_that_of_its_processor() -> None:
    assert from_processor({"size": 32}, 3).model_dump(include={"height", "width"}) == {
        "height": 32,
        "width": 32,
    }
    assert from_processor({"size": 32, "default_to_square": False}, 3).shortest_edge == 32
    older = from_processor(
        {"size": 28, "crop_pct": 0.875, "feature_extractor_type": "ConvNextFeatureExtractor"}, 3
    )
    assert (older.shortest_edge, older.crop_height, older.crop_width) == (32, 28, 28)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"size": {"longest_edge": 64}}, "the size of the image processor, {'longest_edge': 64}, is not one"),
        ({"size": {"shortest_edge": 32, "longest_edge": 64}}, "the size of the image processor"),
        ({"size": {"max_height": 64, "max_width": 64}}, "the size of the image processor"),
        ({"size": {"height": 64}}, "the size of the image processor"),
        ({"size": [64, 64]}, "the size of the image processor"),
        ({"size": {"height": 64, "width": 64}, "crop_pct": 0.9}, "the size of the image processor"),
        (
            {"do_center_crop": True, "crop_size": {"shortest_edge": 64}},
            r"the crop_size of the image processor, .* \(preprocessor_config.json\)",
        ),
        (
            {"image_processor_type": "LevitImageProcessor", "size": {"shortest_edge": 64}},
            "the steps LevitImageProcessor of the image processor are not known",
        ),
        ({"do_center_crop": True}, "preprocessor_config.json cannot be read: 'crop_size'"),
    ],
)
def test_a_size_that_is_not_honoured_is_not_served(tmp_path: Path, config: dict[str, Any], said: str) -> None:
    brightness(tmp_path, ["n", 3, 4, 4])
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    with pytest.raises(NotServed, match=said):
        adopt(find_saved(tmp_path), pictures())
