"""The image networks are laid out for the images that they see, and resize them where they are told to."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tasks.errors import InvalidSettings
from tasks.refs import Problem
from tasks.train import algorithms
from tasks.train.algorithms.fit import FitContext, Rows, TrainingData
from tasks.train.algorithms.resnet import ResNet50Hyperparameters
from tasks.train.algorithms.transformers_algorithm import TransformersAlgorithm, patch_px, reduction
from tasks.train.networks.image_classifier import ImageClassifier

NETWORKS = [a for a in algorithms.CATALOGUE.values() if isinstance(a, TransformersAlgorithm)]
NAMES = [network.name for network in NETWORKS]
SIDES_PX = (8, 12, 28, 32, 64, 150, 224)
ONE_OF_EACH = ("resnet_18", "resnet_50", "efficientnet_b0", "mobilenet_v2", "convnext_tiny", "vit_tiny")
OTHERS = tuple(name for name in NAMES if name not in ONE_OF_EACH)


def _network(name: str, shape: tuple[int, int, int], **values: object) -> ImageClassifier:
    algorithm = algorithms.get(name)
    network = algorithm.network(shape, 10, algorithms.settings(algorithm, {"input_size": None, **values}))
    assert isinstance(network, ImageClassifier)
    return network.eval()


def _last_map(network: ImageClassifier, height: int, width: int, channels: int) -> tuple[int, ...]:
    """Height and width of the last map, or the number of patches."""
    body = getattr(network.model, network.model.base_model_prefix)
    seen: list[tuple[int, ...]] = []
    told = body.register_forward_hook(lambda _module, _inputs, answer: seen.append(answer[0].shape))
    logits = network(torch.zeros(2, channels, height, width, device=network.model.device))
    told.remove()
    assert logits.shape == (2, 10)
    (shape,) = seen
    return tuple(shape[2:]) if len(shape) == 4 else (shape[1] - 1,)


def test_all_ten_are_there() -> None:
    assert set(NAMES) == {
        "resnet_18", "resnet_34", "resnet_50", "resnet_101", "efficientnet_b0", "efficientnet_b1",
        "mobilenet_v2", "convnext_tiny", "vit_tiny", "vit_small",
    }  # fmt: skip


def test_the_rule_of_the_layout() -> None:
    assert [reduction(side) for side in SIDES_PX] == [2, 4, 8, 8, 16, 32, 32]
    assert [patch_px(side) for side in SIDES_PX] == [2, 2, 4, 4, 8, 16, 16]
    for side in range(8, 512):
        assert side // reduction(side) >= 3
        filled = -(-side // patch_px(side)) * patch_px(side)
        assert patch_px(filled) == patch_px(side)


LAYOUTS = [(name, side_px) for name in ONE_OF_EACH for side_px in SIDES_PX] + [(name, 28) for name in OTHERS]


@pytest.mark.parametrize(("name", "side_px"), LAYOUTS)
def test_the_last_map_is_neither_a_pixel_nor_large(name: str, side_px: int) -> None:
    with torch.device("meta"):
        last = _last_map(_network(name, (side_px, side_px, 1)), side_px, side_px, 1)
    if name.startswith("vit"):
        grid = -(-side_px // patch_px(side_px))
        assert last == (grid**2,)
        return
    height, width = last
    assert height == width
    # Pyramids round a side up or down as their authors' do: ConvNeXt drops what fills no patch.
    assert height in (side_px // reduction(side_px), -(-side_px // reduction(side_px)))
    assert 3 <= height <= 8


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_images_that_are_wider_than_high_or_coloured_are_taken(name: str) -> None:
    with torch.device("meta"):
        last = _last_map(_network(name, (30, 101, 3)), 30, 101, 3)
    if name.startswith("vit"):
        assert last == (8 * 26,)
    else:
        assert last[1] > last[0] >= 3


@pytest.mark.parametrize("name", NAMES)
def test_published_images_meet_the_published_network(name: str) -> None:
    published_millions = {
        "resnet_18": 11.7, "resnet_34": 21.8, "resnet_50": 25.6, "resnet_101": 44.5,
        "efficientnet_b0": 5.3, "efficientnet_b1": 7.8, "mobilenet_v2": 3.5, "convnext_tiny": 28.6,
        "vit_tiny": 5.7, "vit_small": 22.1,
    }  # fmt: skip
    algorithm = algorithms.get(name)
    with torch.device("meta"):
        settings = algorithms.settings(algorithm, {"input_size": None})
        network = algorithm.network((224, 224, 3), 1000, settings)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert parameters / 1e6 == pytest.approx(published_millions[name], abs=0.06)


@pytest.mark.parametrize("name", NAMES)
def test_small_images_are_refused_with_the_smallest_side(name: str) -> None:
    with pytest.raises(InvalidSettings, match=r"7 x 40 pixels are too small.*at least 8 pixels.*input_size"):
        _network(name, (40, 7, 1))
    with pytest.raises(
        InvalidSettings, match=r"'input_size' is 4: input should be greater than or equal to 8"
    ):
        algorithms.settings(algorithms.get(name), {"input_size": 4})


def test_resizing_travels_with_the_network() -> None:
    torch.manual_seed(0)
    network = _network("mobilenet_v2", (6, 20, 1), input_size=12)
    images = torch.rand(3, 1, 6, 20)
    sized = network.sized(images)
    assert sized.shape == (3, 1, 12, 12)
    with torch.inference_mode():
        torch.testing.assert_close(network(images), network.model(pixel_values=sized).logits)
    # What shrinks is averaged: stripes of one pixel become their mean.
    stripes = torch.zeros(1, 1, 48, 48)
    stripes[..., ::2] = 1
    assert network.sized(stripes).std() < 0.05


def test_the_builtin_of_nhn_easymaker_takes_its_names() -> None:
    named = {
        "num_train_epochs": 2, "per_device_train_batch_size": 8, "per_device_eval_batch_size": 4,
        "logging_steps": 5, "input_size": 32, "learning_rate": 0.01,
    }  # fmt: skip
    settings = algorithms.settings(algorithms.get("resnet_50"), named)
    assert isinstance(settings, ResNet50Hyperparameters)
    taken = settings.model_dump(include={"epochs", "batch_size_per_rank", "eval_batch_size_per_rank"})
    assert taken == {"epochs": 2, "batch_size_per_rank": 8, "eval_batch_size_per_rank": 4}
    assert (settings.logging_steps, settings.input_size, settings.learning_rate) == (5, 32, 0.01)
    default = ResNet50Hyperparameters()
    assert (default.epochs, default.batch_size_per_rank, default.eval_batch_size_per_rank) == (3, 16, 16)
    assert (default.logging_steps, default.input_size, default.learning_rate) == (10, 28, 0.1)
    assert default.optimizer == "adamw"


def test_statistics_of_batches_are_kept_over_many() -> None:
    """transformers' own momenta would keep those of the last batch alone, and validate at random."""
    for name in ("efficientnet_b0", "mobilenet_v2"):
        momenta = {
            module.momentum
            for module in _network(name, (12, 12, 1)).modules()
            if isinstance(module, torch.nn.BatchNorm2d)
        }
        assert momenta == {0.1}


def test_a_resized_fit_repeats_itself() -> None:
    """Resizing runs under torch's deterministic algorithms, with images that are larger and not square."""
    random = np.random.default_rng(0)
    rows = Rows(random.integers(0, 255, (24, 20, 30, 3), dtype=np.uint8), np.arange(24) % 2)
    data = TrainingData(Problem.IMAGE_CLASSIFICATION, rows, None, ("a", "b"))
    algorithm = algorithms.get("mobilenet_v2")
    settings = algorithms.settings(
        algorithm, {"epochs": 1, "batch_size_per_rank": 8, "width": 0.25, "input_size": 12}
    )
    first, second = (algorithm.fit(data, settings, FitContext(seed=1, threads=1)) for _ in range(2))
    np.testing.assert_array_equal(first.model.predict(rows.inputs), second.model.predict(rows.inputs))
