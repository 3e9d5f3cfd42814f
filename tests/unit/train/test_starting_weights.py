"""Networks start from weights that lie on disk, as far as they fit, and from nothing that could be code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    MobileNetV2Config,
    MobileNetV2ForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
    ResNetModel,
    ViTConfig,
    ViTForImageClassification,
)

from tasks.errors import InvalidSettings
from tasks.train import algorithms
from tasks.train.algorithms.network_algorithm import NetworkAlgorithm


def _built(name: str, shape: tuple[int, int, int], outputs: int = 3, **values: object):
    algorithm = algorithms.get(name)
    assert isinstance(algorithm, NetworkAlgorithm)
    torch.manual_seed(1)
    return algorithm, algorithm.network(shape, outputs, algorithms.settings(algorithm, values))


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretrained ResNet-18 for 5 classes, as `save_pretrained` writes it."""
    torch.manual_seed(0)
    config = ResNetConfig(hidden_sizes=(64, 128, 256, 512), depths=(2, 2, 2, 2), layer_type="basic")
    config.num_labels = 5
    folder = tmp_path_factory.mktemp("pretrained") / "resnet"
    ResNetForImageClassification(config).save_pretrained(folder)
    return folder


def test_a_pretrained_folder_gives_the_same_answers(resnet: Path) -> None:
    algorithm, network = _built("resnet_18", (112, 112, 3), outputs=5)
    assert "Starts from 102 of 102 weights" in algorithm.load_weights(network, resnet, (112, 112, 3))
    pretrained = ResNetForImageClassification.from_pretrained(resnet).eval()
    images = torch.rand(2, 3, 112, 112)
    with torch.inference_mode():
        torch.testing.assert_close(network.eval()(images), pretrained(images).logits)


def test_other_classes_get_a_new_last_layer_and_the_log_says_so(
    resnet: Path, caplog: pytest.LogCaptureFixture
) -> None:
    algorithm, network = _built("resnet_18", (112, 112, 3), outputs=3)
    before = network.model.classifier[1].weight.clone()
    with caplog.at_level("INFO"):
        told = algorithm.load_weights(network, resnet, (112, 112, 3))
    assert told.endswith("2 start from random numbers: classifier.1.weight, classifier.1.bias.")
    assert told in caplog.messages
    torch.testing.assert_close(network.model.classifier[1].weight, before)


def test_grey_images_sum_the_colours(resnet: Path) -> None:
    algorithm, network = _built("resnet_18", (112, 112, 1))
    algorithm.load_weights(network, resnet, (112, 112, 1))
    stored = load_file(resnet / "model.safetensors")["resnet.embedder.embedder.convolution.weight"]
    own = network.model.resnet.embedder.embedder.convolution.weight
    assert own.shape == (64, 1, 7, 7)
    torch.testing.assert_close(own, stored.sum(dim=1, keepdim=True))


def test_small_images_take_all_but_the_first_convolution(resnet: Path) -> None:
    algorithm, network = _built("resnet_18", (28, 28, 3), outputs=5)
    told = algorithm.load_weights(network, resnet, (28, 28, 3))
    assert told.endswith("1 start from random numbers: resnet.embedder.embedder.convolution.weight.")


def test_a_body_without_a_last_layer_and_a_file_alone_are_taken(resnet: Path, tmp_path: Path) -> None:
    ResNetModel.from_pretrained(resnet).save_pretrained(tmp_path / "body")
    algorithm, network = _built("resnet_18", (112, 112, 3), outputs=5)
    told = algorithm.load_weights(network, tmp_path / "body", (112, 112, 3))
    assert told.endswith("2 start from random numbers: classifier.1.weight, classifier.1.bias.")
    told = algorithm.load_weights(network, resnet / "model.safetensors", (112, 112, 3))
    assert "102 of 102" in told


def test_a_model_of_our_own_is_taken_with_other_classes(tmp_path: Path) -> None:
    algorithm, trained = _built("mobilenet_v2", (12, 12, 1), outputs=4, width=0.25)
    save_file(trained.state_dict(), tmp_path / "model.safetensors")
    _, network = _built("mobilenet_v2", (12, 12, 1), outputs=2, width=0.25)
    told = algorithm.load_weights(network, tmp_path / "model.safetensors", (12, 12, 1))
    assert "2 start from random numbers: classifier.weight, classifier.bias" in told
    own, other = network.state_dict(), trained.state_dict()
    shared = [name for name in own if "classifier" not in name]
    assert all(torch.equal(own[name], other[name]) for name in shared)


def test_positions_of_a_transformer_are_interpolated(tmp_path: Path) -> None:
    config = ViTConfig(
        hidden_size=192, num_hidden_layers=12, num_attention_heads=3, intermediate_size=768, image_size=32,
        patch_size=4,
    )  # fmt: skip
    config.num_labels = 3
    torch.manual_seed(0)
    pretrained = ViTForImageClassification(config)
    pretrained.save_pretrained(tmp_path)
    algorithm, network = _built("vit_tiny", (28, 28, 1))
    assert "random" not in algorithm.load_weights(network, tmp_path, (28, 28, 1))
    own = network.model.vit.embeddings.position_embeddings
    assert own.shape == (1, 50, 192)
    before = pretrained.vit.embeddings.position_embeddings
    torch.testing.assert_close(own[:, 0], before[:, 0])
    assert own[:, 1:].mean().item() == pytest.approx(before[:, 1:].mean().item(), abs=1e-3)


def test_what_does_not_fit_is_refused_in_words(resnet: Path, tmp_path: Path) -> None:
    config = MobileNetV2Config(depth_multiplier=0.25)
    MobileNetV2ForImageClassification(config).save_pretrained(tmp_path / "mobile")
    algorithm, network = _built("resnet_18", (28, 28, 1))
    for path, words in (
        (tmp_path / "mobile", "are of the architecture mobilenet_v2.*weights of resnet"),
        (tmp_path / "mobile" / "model.safetensors", "No weights there fit this ResNet-18"),
        (tmp_path / "nothing", "no weights to start from"),
    ):
        with pytest.raises(InvalidSettings, match=words):
            algorithm.load_weights(network, path, (28, 28, 1))


@pytest.mark.parametrize("name", ["model.bin", "model.pt", "pytorch_model.bin"])
def test_pickles_are_refused_unopened(name: str, resnet: Path, tmp_path: Path) -> None:
    algorithm, network = _built("resnet_18", (28, 28, 1))
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'touch opened'\ntR.")
    shutil.copy(resnet / "config.json", tmp_path)
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(InvalidSettings, match=r"may be a pickle, which runs code.*safetensors"):
            algorithm.load_weights(network, path, (28, 28, 1))


def test_damaged_weights_and_empty_folders_are_refused_in_words(resnet: Path, tmp_path: Path) -> None:
    algorithm, network = _built("resnet_18", (28, 28, 1))
    with pytest.raises(InvalidSettings, match="no pretrained weights in the folder"):
        algorithm.load_weights(network, tmp_path, (28, 28, 1))
    for broken in ("model.safetensors", "config.json"):
        folder = tmp_path / broken.partition(".")[0]
        shutil.copytree(resnet, folder)
        (folder / broken).write_bytes((folder / broken).read_bytes()[:100])
        with pytest.raises(InvalidSettings, match="cannot be read"):
            algorithm.load_weights(network, folder, (28, 28, 1))
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    shutil.copy(resnet / "model.safetensors", stranger)
    (stranger / "config.json").write_text(
        json.dumps({"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}})
    )
    with pytest.raises(InvalidSettings, match="cannot be read"):  # and no code of the folder is run
        algorithm.load_weights(network, stranger, (28, 28, 1))


def test_other_networks_take_their_own_weights_whole(tmp_path: Path) -> None:
    algorithm, trained = _built("six_layer_cnn", (12, 12, 1), width=8)
    save_file(trained.state_dict(), tmp_path / "own.safetensors")
    torch.manual_seed(2)
    network = algorithm.network((12, 12, 1), 3, algorithms.settings(algorithm, {"width": 8}))
    assert "all" in algorithm.load_weights(network, tmp_path / "own.safetensors", (12, 12, 1))
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), trained.parameters(), strict=True))
    wider = algorithm.network((12, 12, 1), 3, algorithms.settings(algorithm, {"width": 16}))
    with pytest.raises(InvalidSettings, match="have another shape there, such as"):
        algorithm.load_weights(wider, tmp_path / "own.safetensors", (12, 12, 1))
    (tmp_path / "own.pt").write_bytes(b"")
    with pytest.raises(InvalidSettings, match="may be a pickle"):
        algorithm.load_weights(network, tmp_path / "own.pt", (12, 12, 1))
