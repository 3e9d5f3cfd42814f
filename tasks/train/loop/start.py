"""Weights that a training starts from."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from tasks.errors import InvalidSettings
from tasks.train.algorithms.network_algorithm import NetworkAlgorithm
from tasks.train.loop.checkpoint import is_checkpoint, weights_of


def load_start(
    algorithm: NetworkAlgorithm, network: nn.Module, path: Path, input_shape: tuple[int, ...]
) -> None:
    """Give an untrained network the weights at a path.

    Args:
        algorithm: It knows what else than our checkpoints its networks can start from.
        network: Changed in place.
        path: One of our checkpoint files, a folder of those, or what `NetworkAlgorithm.load_weights` takes.
        input_shape: Of one row.

    Raises:
        InvalidSettings: The weights are those of another network.
        NotFound: There are none.
    """
    if not is_checkpoint(path):
        algorithm.load_weights(network, path, input_shape)
        return
    weights = weights_of(path)
    own = network.state_dict()
    misfits = [
        name
        for name in own | weights
        if name not in own or name not in weights or own[name].shape != weights[name].shape
    ]
    if misfits:
        first = misfits[0]
        there, here = (_shape(tensors.get(first)) for tensors in (weights, own))
        raise InvalidSettings(
            f"the checkpoint is of another network: {len(misfits)} of {len(own)} tensors differ, "
            f"first '{first}', which is {there} there and {here} here",
            where=str(path),
            allowed=f"a checkpoint of {algorithm.title} with the same settings, inputs and classes",
            mend="choose another start, or none",
        )
    network.load_state_dict(weights)


def _shape(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else " x ".join(map(str, tensor.shape)) or "a number"


def weights_digest(network: nn.Module) -> str:
    """SHA-256 over a network's names and numbers."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(np.ascontiguousarray(value.cpu().numpy()).data)
    return digest.hexdigest()
