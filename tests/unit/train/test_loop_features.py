"""Each setting of the training loop does what it says, and only where it makes sense."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tasks.errors import InvalidSettings
from tasks.refs import Problem
from tasks.train import algorithms
from tasks.train.algorithms.fit import Fit, FitContext, Metrics, Rows, TrainingData
from tasks.train.loop.ahead import ahead
from tasks.train.loop.augmentation import ImageAugmentation
from tasks.train.loop.mixing import Mixing
from tasks.train.loop.objective import CrossEntropy, Targets, balanced_weights
from tasks.train.loop.optimisers import optimiser
from tasks.train.loop.seeds import mixed
from tasks.train.loop.weight_averaging import average_in_, averaged_copy
from tests.helpers.striped import EVERYTHING, fit_striped, striped


def _losses(fit: Fit) -> list[float]:
    return [loss for metrics in fit.history for loss in (metrics["train_loss"], metrics["validation_loss"])]


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "sgd", "learning_rate": 0.05},
        {"optimizer": "sgd", "learning_rate": 0.05, "momentum": 0.0},
        {"schedule": "cosine"},
        {"schedule": "one_cycle"},
        {"schedule": "step"},
        {"schedule": "constant", "warmup_percent": 0},
        {"gradient_clip_norm": 0.05},
        {"label_smoothing": 0.2},
        {"weight_averaging": 0.8},
        {"shift_px": 0},
        {"horizontal_flip": True},
        {"rotation_degrees": 10},
        {"zoom_percent": 20},
        {"brightness_percent": 30},
        {"erase_percent": 50},
        {"mixup": 0.4},
        {"cutmix": 1.0},
    ],
    ids=lambda changes: next(iter(changes)) + "-" + str(next(iter(changes.values()))),
)
def test_every_setting_changes_the_training_and_still_learns(changes: dict[str, Any]) -> None:
    fit = fit_striped(epochs=6, **changes)
    assert _losses(fit) != _losses(fit_striped(epochs=6))
    assert fit.history[-1]["train_loss"] < 0.95 * fit.history[0]["train_loss"]
    assert _losses(fit) == _losses(fit_striped(epochs=6, **changes))


def test_everything_at_once_learns_and_repeats_itself() -> None:
    one, other = (fit_striped(epochs=12, **EVERYTHING) for _ in range(2))
    assert _losses(one) == _losses(other)
    assert one.best["validation_accuracy"] > 0.8


# Optimisers


def test_biases_and_normalisations_do_not_decay() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    for name in ("adamw", "sgd"):
        made = optimiser(name, network, 0.1, 0.3, 0.9)
        decays = {id(p): group["weight_decay"] for group in made.param_groups for p in group["params"]}
        assert [decays[id(p)] for p in network.parameters()] == [0.3, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_fused_steps_are_those_of_the_plain_optimiser_on_channels_last_weights(name: str) -> None:
    torch.manual_seed(0)
    network = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    plain = torch.nn.Conv2d(3, 4, 3)
    plain.load_state_dict(network.state_dict())
    fused = optimiser(name, network, 0.1, 0.01, 0.9)
    groups = [{"params": [plain.weight], "weight_decay": 0.01}, {"params": [plain.bias], "weight_decay": 0.0}]
    reference: torch.optim.Optimizer = torch.optim.AdamW(groups, lr=0.1, foreach=False)
    if name == "sgd":
        reference = torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True, foreach=False)
    images = torch.rand(5, 3, 8, 8)
    for _ in range(4):
        for model, steps in ((network, fused), (plain, reference)):
            steps.zero_grad()
            model(images.to(memory_format=torch.channels_last)).square().mean().backward()
            steps.step()
    torch.testing.assert_close(network.weight.detach(), plain.weight.detach(), atol=1e-5, rtol=1e-4)


# Objectives


def test_balanced_weights_give_each_class_the_same_say() -> None:
    labels = torch.tensor([0] * 6 + [1] * 2 + [3] * 4)
    weights = balanced_weights(labels, classes=4)
    assert [float(weights[label] * (labels == label).sum()) for label in (0, 1, 3)] == pytest.approx(
        [4, 4, 4]
    )
    assert float(weights[labels].mean()) == pytest.approx(1)
    assert weights[2] == 1


def test_class_weights_find_the_rare_class() -> None:
    data = striped(240)
    rare = np.concatenate(
        [np.flatnonzero(data.train.labels != 1), np.flatnonzero(data.train.labels == 1)[:6]]
    )
    uneven = replace(data, train=Rows(data.train.inputs[rare], data.train.labels[rare]))
    given = {}
    for weights in ("none", "balanced"):
        fit = fit_striped(uneven, FitContext(seed=2), epochs=6, class_weights=weights, dropout=0.0)
        assert data.validation is not None
        scores = fit.model.predict(data.validation.inputs)[data.validation.labels == 1]
        given[weights] = scores[:, 1].mean()
    assert given["balanced"] > 2 * given["none"]


def test_losses_of_mixed_labels_are_shares_of_both_and_metrics_stay_plain() -> None:
    raw = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    labels, others = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1]), torch.tensor([1, 1, 0, 0, 2, 2, 1, 0])
    objective = CrossEntropy(label_smoothing=0.1)
    parts = [objective.loss(raw, Targets(each)) for each in (labels, others)]
    loss = objective.loss(raw, Targets(labels, others, 0.3))
    assert float(loss) == pytest.approx(0.3 * float(parts[0]) + 0.7 * float(parts[1]))
    assert torch.equal(Targets(labels, others, 0.3).plain, others)
    total, right = objective.counts(raw, labels).tolist()
    assert total == pytest.approx(float(torch.nn.functional.cross_entropy(raw, labels, reduction="sum")))
    assert right == (raw.argmax(1) == labels).sum()


# Variations


def _pictures(n: int = 6, height: int = 20, width: int = 14, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (n, height, width, channels), dtype=torch.uint8, generator=generator)


def test_mixup_blends_pixels_as_it_blends_labels() -> None:
    images, labels = _pictures(), torch.arange(6)
    mixed_images, targets = Mixing(1.0, 0.0)(images, labels, seed=4)
    assert targets.others is not None
    expected = targets.share * images.float() + (1 - targets.share) * images[targets.others].float()
    assert 0 < targets.share < 1
    torch.testing.assert_close(mixed_images.float(), expected, atol=0.51, rtol=0)


def test_cutmix_pastes_as_much_as_it_says() -> None:
    images, labels = _pictures(), torch.arange(6)
    shares = []
    for seed in range(20):
        pasted, targets = Mixing(0.0, 1.0)(images, labels, seed)
        assert targets.others is not None
        for row in range(6):
            own = (pasted[row] == images[row]).all(-1)
            other = (pasted[row] == images[targets.others[row]]).all(-1)
            assert (own | other).all()
            if targets.others[row] != row:
                assert float(own.float().mean()) == pytest.approx(targets.share, abs=0.01)
        shares.append(targets.share)
    assert min(shares) < 0.4 < 0.6 < max(shares)


@pytest.mark.parametrize("changes", [{"rotation_degrees": 1e-4}, {"zoom_percent": 1e-4}])
def test_turning_and_zooming_by_nothing_changes_nothing(changes: dict[str, float]) -> None:
    images = _pictures()
    assert torch.equal(ImageAugmentation(**changes)(images, torch.Generator().manual_seed(0)), images)


def test_a_turn_keeps_shapes_in_pictures_that_are_not_square() -> None:
    images = torch.zeros(1, 40, 80, 1, dtype=torch.uint8)
    images[0, 18:22, 30:50] = 200  # a bar of 4 x 20 pixels in the middle

    class Quarter:
        """Always the largest number: a turn of 90 degrees."""

        def __call__(self, *size: Any, **_: Any) -> torch.Tensor:
            return torch.ones(*size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "rand", Quarter())
        turned = ImageAugmentation(rotation_degrees=90)(images, torch.Generator())
    expected = torch.zeros_like(images)
    expected[0, 10:30, 38:42] = 200
    assert (turned.int() - expected.int()).abs().float().mean() < 1


def test_shifts_and_mirrors_are_the_same_with_and_without_a_turn() -> None:
    images = _pictures()
    one = ImageAugmentation(shift_px=3)(images, torch.Generator().manual_seed(7))
    other = ImageAugmentation(shift_px=3, rotation_degrees=1e-5)(images, torch.Generator().manual_seed(7))
    assert torch.equal(one, other)
    assert not torch.equal(one, images)


def test_erasing_blanks_one_rectangle_in_its_share_of_the_images() -> None:
    images = _pictures(400)
    erased = ImageAugmentation(erase_percent=50)(images, torch.Generator().manual_seed(0))
    changed = (erased != images).any(-1)
    touched = changed.flatten(1).any(1)
    assert 0.4 < touched.float().mean() < 0.6
    areas = changed[touched].float().mean(dim=(1, 2))
    assert 0.005 < areas.min() < areas.max() < 0.4
    first = int(touched.nonzero()[0])
    assert len(erased[first][changed[first]].unique(dim=0)) == 1


def test_brightness_moves_the_mean_and_contrast_the_spread() -> None:
    images = _pictures(50)
    varied = ImageAugmentation(brightness_percent=40)(images, torch.Generator().manual_seed(0)).float()
    assert float(varied.mean(dim=(1, 2, 3)).std()) > 10
    assert float(varied.std(dim=(1, 2, 3)).std()) > 5


# Averaging, reports, batches


def test_averaged_weights_are_the_mean_that_they_should_be() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.BatchNorm2d(1))
    averaged = averaged_copy(network)
    expected = network[0].weight.item()
    for step in range(1, 200):
        torch.nn.init.constant_(network[0].weight, float(step))
        network(torch.rand(4, 1, 2, 2))
        average_in_(averaged, network, 0.9, step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    assert float(averaged[0].weight) == pytest.approx(expected, rel=1e-4)
    assert averaged[1].num_batches_tracked == 199
    assert 0 < float(averaged[1].running_mean.abs()) != float(network[1].running_mean.abs())


def test_the_model_and_the_watched_loss_are_those_of_the_averaged_weights() -> None:
    data = striped()
    assert data.validation is not None
    fit = fit_striped(data, epochs=6, weight_averaging=0.9)
    of_label = fit.model.predict(data.validation.inputs)[np.arange(48), data.validation.labels]
    assert -np.log(of_label).mean() == pytest.approx(fit.best["validation_loss"], rel=1e-4)


def test_steps_are_reported_as_often_as_asked() -> None:
    heard: list[tuple[int, Metrics]] = []
    fit = fit_striped(
        context=FitContext(report_steps=lambda step, metrics: heard.append((step, metrics))), logging_steps=4
    )
    assert [step for step, _ in heard] == list(range(4, 37, 4))
    assert {"step_train_loss", "step_train_accuracy", "step_learning_rate"} == heard[0][1].keys()
    in_first = [metrics["step_train_loss"] for step, metrics in heard if step in (4,)]
    assert in_first[0] == pytest.approx(fit.history[0]["train_loss"], rel=0.2)


def test_ranks_and_steps_draw_different_numbers() -> None:
    seeds = {mixed(seed, epoch, step, rank) for seed in range(4) for epoch in range(4) for step in range(9)
             for rank in range(3)}  # fmt: skip
    assert len(seeds) == 4 * 4 * 9 * 3
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_batches_made_ahead_come_in_order_with_their_errors_and_leave_no_thread() -> None:
    def numbers() -> Any:
        yield from range(5)
        raise ValueError("torn")

    seen: list[int] = []
    with pytest.raises(ValueError, match="torn"):
        seen.extend(ahead(numbers()))
    assert seen == [0, 1, 2, 3, 4]
    left_early = ahead(iter(int, 1))
    next(left_early)
    left_early.close()
    assert "batches" not in {thread.name for thread in threading.enumerate()}


def test_threads_are_no_more_than_allowed() -> None:
    seen: set[int] = set()

    def count(*_: Any) -> None:
        seen.add(torch.get_num_threads())

    before = torch.get_num_threads()
    for threads in (1, 2):
        fit_striped(
            striped(256, side_px=24),
            FitContext(report=count, threads=threads),
            epochs=1,
            batch_size_per_rank=128,
        )
    assert seen == {1, 2}
    assert torch.get_num_threads() == before


@pytest.mark.slow
def test_a_compiled_network_learns_the_same_and_is_kept_plain() -> None:
    changes = {"epochs": 3, "dropout": 0.0}  # a compiled network draws dropout in another order
    plain = fit_striped(**changes)
    fit = fit_striped(**changes, compile=True)
    np.testing.assert_allclose(_losses(fit), _losses(plain), rtol=1e-2)
    assert type(fit.model.network) is type(plain.model.network)  # type: ignore[attr-defined]


# Refusals


def test_a_host_without_a_compiler_refuses_to_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InvalidSettings, match=r"no C\+\+ compiler.*leave compile out"):
        fit_striped(epochs=1, compile=True)


def _table(problem: Problem) -> TrainingData:
    random = np.random.default_rng(0)
    inputs = random.normal(size=(40, 2))
    labels = inputs[:, 0] if problem is Problem.TABLE_REGRESSION else random.integers(0, 2, 40)
    classes = () if problem is Problem.TABLE_REGRESSION else ("a", "b")
    return TrainingData(problem, Rows(inputs, labels), None, classes, ("p", "q"))


def _fit_table(problem: Problem, **changes: Any) -> Fit:
    algorithm = algorithms.get("mlp")
    return algorithm.fit(
        _table(problem), algorithms.settings(algorithm, {"epochs": 1, **changes}), FitContext()
    )


def test_what_only_classes_have_is_refused_for_numbers() -> None:
    with pytest.raises(InvalidSettings, match=r"class_weights, label_smoothing need classes"):
        _fit_table(Problem.TABLE_REGRESSION, class_weights="balanced", label_smoothing=0.1)
    _fit_table(Problem.TABLE_CLASSIFICATION, class_weights="balanced", label_smoothing=0.1)


def test_a_chosen_batch_larger_than_the_data_is_refused_and_the_default_fitted() -> None:
    with pytest.raises(InvalidSettings, match=r"batch_size_per_rank 41 is more than the 40 training rows"):
        _fit_table(Problem.TABLE_CLASSIFICATION, batch_size_per_rank=41)
    fit_striped(striped(20), batch_size_per_rank=64)  # the default


def test_a_shift_out_of_sight_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="shift_px 8 moves images of 8 pixels out of sight"):
        fit_striped(shift_px=8)
