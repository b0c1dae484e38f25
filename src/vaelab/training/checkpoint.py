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
from vaelab.training.settings import FitSettings
from vaelab.types import Trainable

_MODEL, _BEST, _AVERAGE, _OPTIMIZER = "model/", "best/", "average/", "optimizer/"
_SLOTS = {"step", "exp_avg", "exp_avg_sq"}  # of Adam
_AGAIN = "Restore it from a copy; or remove it, and this stage is trained again."


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
    average
        The moving average of the weights, where that is asked for.
    stopped
        Whether training has ended before its last step: held-out rows, or a hook, have ended it.
    """

    step: int = 0
    history: list[Record] = field(default_factory=list)
    best_loss: float = float("inf")
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    average: dict[str, Tensor] = field(default_factory=dict)
    stopped: bool = False


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
    tensors |= {_AVERAGE + name: value for name, value in state.average.items()}
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"{_OPTIMIZER}{index}/{slot}": torch.as_tensor(value) for slot, value in slots.items()}
    meta = {
        "key": key,
        "step": state.step,
        "history": state.history,
        "best_loss": state.best_loss if state.best_weights else None,
        "precision": precision,
        "stopped": state.stopped,
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
    if not isinstance(meta, dict) or not isinstance(meta.get("key"), dict) or not _whole(meta):
        raise InputError(f"{path}, whose record of the training is damaged", "the state of a training", _AGAIN)
    known = FitSettings().model_dump(mode="json") | meta["key"]  # a setting that is newer had what is its default
    if known != key:
        raise InputError(
            f"{path} of a training with {_difference(known, key)}",
            "the state of the same training",
            "Resume with the settings it was started with, or train into a new folder.",
        )

    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

    try:
        model.load_state_dict(part(_MODEL))
    except RuntimeError as error:
        raise InputError(f"{path} of another model ({error})", "the state of the same model") from error
    slots = _slots(part(_OPTIMIZER), optimizer, path)
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    best, average = part(_BEST), part(_AVERAGE)
    moved = {name: p for name, p in model.named_parameters() if p.requires_grad} if key.get("ema") else {}
    wanted = {"best weights": (best, model.state_dict() if best else {}), "average of weights": (average, moved)}
    for name, (saved, ours) in wanted.items():
        if {k: (v.shape, v.dtype) for k, v in saved.items()} != {k: (v.shape, v.dtype) for k, v in ours.items()}:
            raise InputError(f"{path}, whose {name} are of another model", "the state of the same model", _AGAIN)
    best_loss = float("inf") if meta["best_loss"] is None else meta["best_loss"]
    state = TrainState(meta["step"], meta["history"], best_loss, best, average, meta.get("stopped", False))
    return state, meta["precision"]


def _whole(meta: dict[str, Any]) -> bool:
    """Whether the record has the types that `save_state` writes."""
    best, history = meta.get("best_loss", ""), meta.get("history")
    return (
        type(meta.get("step")) is int
        and meta["step"] >= 0
        and isinstance(history, list)
        and all(isinstance(record, dict) for record in history)
        and (best is None or isinstance(best, int | float))
        and isinstance(meta.get("precision"), dict)
        and isinstance(meta.get("stopped", False), bool)
    )


def _slots(tensors: dict[str, Tensor], optimizer: Optimizer, path: Path) -> dict[int, dict[str, Tensor]]:
    """Group the optimiser's numbers by parameter; a fused step reads them without looking at their shapes."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, slot = name.partition("/")
        own = parameters[int(index)] if index.isdecimal() and int(index) < len(parameters) else None
        wanted = None if own is None else (torch.Size(), torch.float32) if slot == "step" else (own.shape, own.dtype)
        if (value.shape, value.dtype) != wanted or slot not in _SLOTS:
            got = f"{path}, whose {name} of the optimiser has shape {tuple(value.shape)} and dtype {value.dtype}"
            raise InputError(got, "the state of the same model", _AGAIN)
        slots.setdefault(int(index), {})[slot] = value
    if any(found.keys() != _SLOTS for found in slots.values()):
        raise InputError(f"{path}, in which numbers of the optimiser are missing", "a whole state", _AGAIN)
    return slots


def _difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    names = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    return ", ".join(f"{name}={old.get(name)!r} (now {new.get(name)!r})" for name in names)
