"""Checkpoints: one file a training, whole at any moment, of tensors and plain values alone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from semhier_ros.training.errors import TrainingError
from semhier_ros.whole_file import replacing


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint so that a kill or a power cut leaves the old one or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part, part.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The checkpoint at `path`, or None where there is none. Only tensors and plain values are ever unpickled."""
    return torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None


def digest(weights: Mapping[str, Tensor]) -> str:
    """Sixteen hexadecimal digits that change with any of the weights."""
    found = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]


def check_made_of(path: Path, state: Mapping[str, Any], made_of: Mapping[str, Any]) -> None:
    """Raises TrainingError where the state at `path` was made of something else; what it does not say is accepted."""
    for name, wanted in made_of.items():
        if name in state and state[name] != wanted:
            raise TrainingError(f"{path} was trained with {name} {state[name]}, not {wanted}; name another place")


class Checkpoint:
    """Where a training leaves its state, and takes it up again.

    made_of: plain values that must be the same when a training goes on; they stand in the file under their names. What
    a file that is there does not say of them, it goes on not saying.
    """

    def __init__(self, path: Path, made_of: Mapping[str, Any] | None = None):
        self.path, self.made_of = path, dict(made_of or {})

    def read(self) -> dict[str, Any] | None:
        """The state, or None where there is none yet.

        Raises:
            TrainingError: the file is no checkpoint, or of another training.
        """
        try:
            saved = load_checkpoint(self.path)
            state = None if saved is None else self.unwrap(saved)
            if state is not None and not {"network", "step"} <= state.keys():
                raise KeyError("network")
        except Exception as error:  # torch raises errors of many kinds for a damaged file
            raise TrainingError(
                f"{self.path} is there, and no checkpoint of this command; name another file"
            ) from error
        if state is not None:
            check_made_of(self.path, state, self.made_of)
            self.made_of = {name: value for name, value in self.made_of.items() if name in state}
        return state

    def write(self, state: dict[str, Any]) -> None:
        """Raises OSError, naming the file, where it cannot be written."""
        save_checkpoint(self.path, self.wrap(state | self.made_of))

    def wrap(self, state: dict[str, Any]) -> dict[str, Any]:
        """What the file holds for a state; for trainings whose files others read."""
        return state

    def unwrap(self, saved: dict[str, Any]) -> dict[str, Any]:
        """The reverse of `wrap`."""
        return saved
