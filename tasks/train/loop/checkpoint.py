"""Checkpoints that survive kill -9: written aside, forced to the disk, named by their own digest.

One safetensors file holds it all: the network's state, the optimiser's, the best weights so far, and
in its header the epoch and the history. The newest whole one wins; a torn file is passed over.
Random states are not in it, since the loop derives them from (seed, epoch, rank), nor is the learning
rate, which follows from the step.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load, save
from torch import Tensor

if TYPE_CHECKING:
    from tasks.train.loop.loop import TrainingState

_NAME = re.compile(r"^epoch-(\d{6})-([0-9a-f]{16})\.safetensors$")
_KEPT = 2

log = logging.getLogger(__name__)


class CheckpointFolder:
    """The checkpoints of one fit.

    Args:
        folder: Where they are; made when needed.
        identity: What the fit is: settings, data digest, seed. Checkpoints of another fit that lie
            in the same folder are not used.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self.folder = folder
        text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
        self.identity = hashlib.sha256(text.encode()).hexdigest()

    def write(self, state: TrainingState) -> Path:
        """Keep the state, and drop all but the two newest checkpoints."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = save(_tensors(state), metadata={"state": json.dumps(self._summary(state))})
        digest = hashlib.sha256(content).hexdigest()[:16]
        path = self.folder / f"epoch-{state.epoch:06d}-{digest}.safetensors"
        aside = path.with_suffix(".partial")
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)
        for old in self._files()[_KEPT:]:
            old.unlink(missing_ok=True)
        for partial in self.folder.glob("*.partial"):
            partial.unlink(missing_ok=True)
        return path

    def newest(self) -> bytes | None:
        """Content of the newest whole checkpoint of this fit; None where there is none."""
        for path in self._files():
            content = path.read_bytes()
            match = _NAME.match(path.name)
            if not match or hashlib.sha256(content).hexdigest()[:16] != match.group(2):
                log.warning("The checkpoint %s is damaged; an earlier one is tried.", path.name)
            elif _header(content)["identity"] != self.identity:
                log.info("The checkpoint %s is of another fit; not used.", path.name)
            else:
                return content
        return None

    def _files(self) -> list[Path]:
        """Checkpoint files, newest first."""
        if not self.folder.is_dir():
            return []
        return sorted((p for p in self.folder.iterdir() if _NAME.match(p.name)), reverse=True)

    def _summary(self, state: TrainingState) -> dict[str, Any]:
        return {
            "identity": self.identity,
            "epoch": state.epoch,
            "history": state.history,
            "best_epoch": state.best_epoch,
            "elapsed_s": state.elapsed_s,
        }


def restore(state: TrainingState, content: bytes) -> None:
    """Bring a state of the same network to a checkpoint's content, in place."""
    summary = _header(content)
    tensors = load(content)
    state.network.load_state_dict(_below("network.", tensors))
    state.best_weights = _below("best.", tensors)
    parameters = [p for group in state.optimiser.param_groups for p in group["params"]]
    plain = state.optimiser.state_dict()
    plain["state"] = {}
    for key, tensor in _below("optimiser.", tensors).items():
        number, name = key.split(".")
        if tensor.ndim:
            # The memory order of the parameter: another order takes another path through the sums.
            tensor = torch.empty_like(parameters[int(number)]).copy_(tensor)
        plain["state"].setdefault(int(number), {})[name] = tensor
    state.optimiser.load_state_dict(plain)
    state.epoch = summary["epoch"]
    state.history = summary["history"]
    state.best_epoch = summary["best_epoch"]
    state.elapsed_s = summary["elapsed_s"]


def _tensors(state: TrainingState) -> dict[str, Tensor]:
    optimiser = {
        f"optimiser.{number}.{name}": value
        for number, values in state.optimiser.state_dict()["state"].items()
        for name, value in values.items()
    }
    everything = {
        **{f"network.{name}": value for name, value in state.network.state_dict().items()},
        **{f"best.{name}": value for name, value in state.best_weights.items()},
        **optimiser,
    }
    return {name: value.detach().cpu().contiguous() for name, value in everything.items()}


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _header(content: bytes) -> dict[str, Any]:
    """The summary in the file's header: eight bytes of length, then JSON."""
    length = int.from_bytes(content[:8], "little")
    return dict(json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["state"]))
