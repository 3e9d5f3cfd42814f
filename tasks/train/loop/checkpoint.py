"""Checkpoints that survive kill -9: written aside, forced to the disk, named by their own digest.

One safetensors file holds it all: the network's state, the optimiser's, the running mean of the weights,
the best weights so far, and in its header where the training stands: epoch, step, sums of the running
epoch, history. The newest whole one wins; a torn file is passed over. Random states are not in it: they
follow from the seed, which is in the header, and from epoch, step and rank; the learning rate follows
from the step. So best and last are one file, and the last but one is there should that be torn.
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

from tasks.errors import NotFound

if TYPE_CHECKING:
    from tasks.train.loop.state import TrainingState

_NAME = re.compile(r"^epoch-(\d{6})-step-(\d{9})-([0-9a-f]{16})\.safetensors$")
_KEPT = 2

log = logging.getLogger(__name__)


class CheckpointFolder:
    """The checkpoints of one fit.

    Args:
        folder: Where they are; made when needed.
        identity: What the fit is: settings, data digest, seed. Checkpoints of another fit that lie
            in the same folder are not used.
        ranks: How many there are; a fit goes on with more or fewer of them.
    """

    def __init__(self, folder: Path, identity: dict[str, Any], ranks: int = 1) -> None:
        self.folder = folder
        self.ranks = ranks
        text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
        self.identity = hashlib.sha256(text.encode()).hexdigest()
        self.seed = identity.get("seed")

    def write(self, state: TrainingState) -> Path:
        """Keep the state, and drop all but the two newest checkpoints."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = save(_tensors(state), metadata={"state": json.dumps(self._summary(state))})
        digest = hashlib.sha256(content).hexdigest()[:16]
        path = self.folder / f"epoch-{state.epoch:06d}-step-{state.step:09d}-{digest}.safetensors"
        aside = path.with_suffix(".partial")
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)
        # By place, not by name: what another fit left may be further on, and must not push this one out.
        others = [old for old in _files(self.folder) if old != path]
        mine = [old for old in others if _place(old) <= _place(path)]
        for old in {*others} - {*mine[: _KEPT - 1]}:
            old.unlink(missing_ok=True)
        for partial in self.folder.glob("*.partial"):
            partial.unlink(missing_ok=True)
        return path

    def newest(self) -> bytes | None:
        """Content of the newest whole checkpoint of this fit; None where there is none."""
        for path in _files(self.folder):
            content = _whole(path)
            if content is None:
                continue
            if _header(content)["identity"] == self.identity:
                return content
            log.info("The checkpoint %s is of another fit; not used.", path.name)
        return None

    def _summary(self, state: TrainingState) -> dict[str, Any]:
        return {
            "identity": self.identity,
            "seed": self.seed,
            "epoch": state.epoch,
            "step": state.step,
            "rows_taken": state.rows_taken,
            "ranks": self.ranks,
            "steps_done": state.steps_done,
            "epoch_elapsed_s": state.epoch_elapsed_s,
            "history": state.history,
            "best_epoch": state.best_epoch,
            "elapsed_s": state.elapsed_s,
        }


def restore(state: TrainingState, content: bytes, ranks: int = 1) -> None:
    """Bring a state of the same network to a checkpoint's content, in place.

    Args:
        state: What to change.
        content: Of a checkpoint, perhaps of another number of ranks.
        ranks: How many there are now.
    """
    summary = _header(content)
    tensors = load(content)
    state.network.load_state_dict(_below("network.", tensors))
    if state.averaged is not None:
        state.averaged.load_state_dict(_below("averaged.", tensors))
    state.sums.copy_(tensors["sums"]).mul_(summary["ranks"] / ranks)  # they are the mean over the ranks
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
    state.step = summary["step"]
    state.rows_taken = summary["rows_taken"]
    state.steps_done = summary["steps_done"]
    state.epoch_elapsed_s = summary["epoch_elapsed_s"]
    state.history = summary["history"]
    state.best_epoch = summary["best_epoch"]
    state.elapsed_s = summary["elapsed_s"]


def is_checkpoint(path: Path) -> bool:
    """Whether a path is one of our checkpoint files, or a folder that has some."""
    return bool(_files(path)) if path.is_dir() else bool(_NAME.match(path.name))


def weights_of(path: Path) -> dict[str, Tensor]:
    """The best weights in a checkpoint, or the current ones where no epoch was finished.

    Args:
        path: A checkpoint file, or a folder of which the newest whole one is taken.

    Raises:
        NotFound: None is whole.
    """
    for file in _files(path) if path.is_dir() else [path]:
        content = _whole(file)
        if content is not None:
            tensors = load(content)
            for kind in ("best.", "averaged.", "network."):
                if weights := _below(kind, tensors):
                    return weights
    raise NotFound(
        "there is no whole checkpoint to start from",
        where=str(path),
        allowed="a checkpoint file of ours whose digest is the one in its name, or a folder of those",
        mend="choose another start, or none",
    )


def _files(folder: Path) -> list[Path]:
    """Checkpoint files, newest first."""
    if not folder.is_dir():
        return []
    return sorted((p for p in folder.iterdir() if _NAME.match(p.name)), key=_place, reverse=True)


def _place(path: Path) -> tuple[int, int]:
    """Epoch and step that a file is of."""
    match = _NAME.match(path.name)
    assert match is not None
    return int(match.group(1)), int(match.group(2))


def _whole(path: Path) -> bytes | None:
    """Content of a checkpoint whose digest is right; None, with a word in the log, for another file."""
    try:
        content = path.read_bytes()
        match = _NAME.match(path.name)
        if match and hashlib.sha256(content).hexdigest()[:16] == match.group(3):
            _header(content)
            return content
    except (OSError, ValueError, KeyError):
        pass  # unreadable, or a file of someone else that has our kind of name
    log.warning("The checkpoint %s is damaged; passed over.", path.name)
    return None


def _tensors(state: TrainingState) -> dict[str, Tensor]:
    optimiser = {
        f"optimiser.{number}.{name}": value
        for number, values in state.optimiser.state_dict()["state"].items()
        for name, value in values.items()
        if value is not None
    }
    averaged = {} if state.averaged is None else state.averaged.state_dict()
    everything = {
        **{f"network.{name}": value for name, value in state.network.state_dict().items()},
        **{f"averaged.{name}": value for name, value in averaged.items()},
        **{f"best.{name}": value for name, value in state.best_weights.items()},
        **optimiser,
        "sums": state.sums,
    }
    return {name: value.detach().cpu().contiguous() for name, value in everything.items()}


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _header(content: bytes) -> dict[str, Any]:
    """The summary in the file's header: eight bytes of length, then JSON."""
    length = int.from_bytes(content[:8], "little")
    return dict(json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["state"]))
