"""Training state on disk: weights, optimiser, step and history in one file, so that no two parts can disagree.

All random streams are functions of the seed and the step (`vaelab.training.streams`); the step is their state.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from vaelab import storage
from vaelab.errors import InputError
from vaelab.training.hooks import Record
from vaelab.types import Trainable

_MODEL, _BEST, _OPTIMIZER = "model/", "best/", "optimizer/"


@dataclass
class TrainState:
    """Where a training stands, apart from weights and optimiser.

    Attributes
    ----------
    step
        Steps done.
    history
        Recorded epochs.
    best_loss, best_weights
        The best held-out objective and a copy of the weights that reached it, where that is asked for.
    """

    step: int = 0
    history: list[Record] = field(default_factory=list)
    best_loss: float = float("inf")
    best_weights: dict[str, Tensor] = field(default_factory=dict)


def save_state(
    path: Path,
    key: dict[str, Any],
    state: TrainState,
    model: Trainable,
    optimizer: Optimizer,
    precision: dict[str, Any],
) -> None:
    """Write the whole state atomically.

    Parameters
    ----------
    path
        The file.
    key
        What this training is (stage, settings, sizes); `load_state` refuses a state of another one.
    state, model, optimizer, precision
        What to save; `precision` is the state of the loss scaler, empty unless float16 is used.
    """
    tensors = {_MODEL + name: value for name, value in model.state_dict().items()}
    tensors |= {_BEST + name: value for name, value in state.best_weights.items()}
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"{_OPTIMIZER}{index}/{slot}": torch.as_tensor(value) for slot, value in slots.items()}
    meta = {
        "key": key,
        "step": state.step,
        "history": state.history,
        "best_loss": state.best_loss if state.best_weights else None,
        "precision": precision,
    }
    storage.save_tensors(path, tensors, meta)


def load_state(path: Path, key: dict[str, Any], model: Trainable, optimizer: Optimizer) -> tuple[TrainState, Any]:
    """Put a saved state into the model and the optimiser; return where training stands, and the scaler's state.

    Raises
    ------
    InputError
        The state belongs to another training.
    """
    tensors, meta = storage.load_tensors(path)
    if meta.get("key") != key:
        raise InputError(
            f"{path} of a training with {_difference(meta.get('key') or {}, key)}",
            "the state of the same training",
            "Resume with the settings it was started with, or train into a new folder.",
        )

    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

    try:
        model.load_state_dict(part(_MODEL))
    except RuntimeError as error:
        raise InputError(f"{path} of another model ({error})", "the state of the same model") from error
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in part(_OPTIMIZER).items():
        index, slot = name.split("/")
        slots.setdefault(int(index), {})[slot] = value
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    best = part(_BEST)
    best_loss = float("inf") if meta["best_loss"] is None else meta["best_loss"]
    return TrainState(meta["step"], meta["history"], best_loss, best), meta["precision"]


def _difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    names = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    return ", ".join(f"{name}={old.get(name)!r} (now {new.get(name)!r})" for name in names)
