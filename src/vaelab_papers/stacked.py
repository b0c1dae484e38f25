"""Many small models of equal shape trained together: one set of tensors with a leading axis, one step for all.

A step of a small network is bound by the cost of its calls, not by arithmetic. With the models' parameters stacked, the
calls of one step serve all of them; and the calls are recorded, so that a step repeats the tensor operations alone.
Adam works on each number by itself, so every model takes the steps that it would take alone with the same settings, to
rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self, final

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from vaelab.errors import InputError
from vaelab.training.hooks import Hook
from vaelab.training.loop import fit
from vaelab.training.settings import Compute, FitSettings
from vaelab.types import Batches, Objective, ParameterGroup, Trainable
from vaelab_papers.recorded import Function, record


@final
class Stack(Trainable):
    """Models of one architecture as one trainable, whose loss is the sum of theirs.

    Parameters
    ----------
    members
        At least one; their states are copied, and written back by `unstack`.
    """

    def __init__(self, members: Sequence[Trainable]) -> None:
        super().__init__()
        shapes = {tuple((name, tuple(value.shape)) for name, value in m.state_dict().items()) for m in members}
        if len(shapes) != 1:
            raise InputError(f"{len(members)} models of {len(shapes)} architectures", "models of one architecture")
        if any(m.steps_before() for m in members):
            raise InputError(
                "models with a critic, to be trained together", "models with one step", "Train each by itself."
            )
        if any(getattr(each, "schedule", None) for m in members for each in getattr(m, "regularizers", ())):
            got = "models with a schedule of the KL's weight, to be trained together"
            raise InputError(got, "models whose weights stay", "Train each by itself.")
        self._members = list(members)  # a plain list: their own parameters are not the stack's
        self._template = [copy.deepcopy(members[0])]
        parameters, buffers = stack_module_state(list(members))
        self.stacked = nn.ParameterDict({_key(name): nn.Parameter(value) for name, value in parameters.items()})
        self._names = list(parameters)
        self._buffers_of = list(buffers)
        self._penalties: list[str] = []  # names, in the order of what `_score` returns
        self._recordings: dict[tuple[Any, ...], Function] = {}
        for name, value in buffers.items():
            self.register_buffer(_key(name), value)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """That of one member: all see the same noise, as they would alone with the same seed."""
        return self._members[0].noise_shape

    def train(self, mode: bool = True) -> Self:
        """Choose training or evaluation mode for all members."""
        self._template[0].train(mode)
        return super().train(mode)

    def forward(self, x: Tensor, c: Tensor | None = None, *, noise: Tensor | None = None) -> Objective:
        """Score one minibatch of each member.

        Parameters
        ----------
        x, c
            (B, members, …).
        noise
            (B, *noise_shape), shared.
        """
        state = [*(self.stacked[_key(name)] for name in self._names), *self._own_buffers()]
        arguments = [*state, *(value for value in (x, c, noise) if value is not None)]
        distortion, *penalties = self._function(arguments, c is not None)(arguments)
        return Objective(distortion, dict(zip(self._penalties, penalties, strict=True)), {})

    def _own_buffers(self) -> list[Tensor]:
        return [getattr(self, _key(name)) for name in self._buffers_of]

    def _function(self, arguments: list[Tensor], conditioned: bool) -> Function:
        """Return the sums of the members' terms as a function of state and minibatch, recorded where it can be."""
        function = partial(self._score, conditioned)
        if torch.compiler.is_compiling():
            return function
        x = arguments[len(self._names) + len(self._buffers_of)]
        key = (self.training, conditioned, x.dtype, x.device, *(value.shape for value in arguments))
        if key not in self._recordings:
            self._recordings[key] = record(function, arguments) or function
        return self._recordings[key]

    def _score(self, conditioned: bool, arguments: list[Tensor]) -> list[Tensor]:
        names = [*self._names, *self._buffers_of]
        x, *rest = arguments[len(names) :]
        c = rest.pop(0) if conditioned else None
        noise = rest[0] if rest else None
        template = self._template[0]

        def one(state: dict[str, Tensor], x: Tensor, c: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
            found: Objective = functional_call(template, state, (x, c), {"noise": noise})
            return found.distortion, found.penalties

        axes: tuple[Any, ...] = (0, 1, None if c is None else 1)
        distortion, penalties = vmap(one, in_dims=axes)(dict(zip(names, arguments, strict=False)), x, c)
        self._penalties = list(penalties)
        return [distortion.sum(0), *(value.sum(0) for value in penalties.values())]

    def parameter_groups(self) -> list[ParameterGroup]:
        """Those of the members."""
        first = self._members[0]
        names = {id(parameter): name for name, parameter in first.named_parameters()}
        return [
            replace(group, parameters=[self.stacked[_key(names[id(p)])] for p in group.parameters])
            for group in first.parameter_groups()
        ]

    @torch.no_grad()
    def unstack(self) -> None:
        """Give every member its own state, and the stack's device and mode."""
        for i, member in enumerate(self._members):
            member.to(next(self.parameters()).device)
            state = {name: self.stacked[_key(name)][i] for name in self._names}
            state |= {name: value[i] for name, value in zip(self._buffers_of, self._own_buffers(), strict=True)}
            member.load_state_dict(state, strict=False)  # buffers that are not kept hold constants
            member.train(self.training)


@dataclass(frozen=True)
class StackedBatches:
    """Data sets of equal shape, taken together; implements `vaelab.types.Batches`.

    Attributes
    ----------
    members
        One for each model; none of them random.
    """

    members: tuple[Batches, ...]

    def __post_init__(self) -> None:
        sizes = {(len(member), member.event_shape, member.noise_shape) for member in self.members}
        if len(sizes) != 1 or next(iter(sizes))[2] != (0,):
            raise InputError(f"data sets of sizes {sorted(map(str, sizes))}", "as many rows of one shape in each")

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one row of one member, by which a training is cut into chunks as if it were alone."""
        return self.members[0].event_shape

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """(0,)."""
        return (0,)

    def __len__(self) -> int:
        return len(self.members[0])

    def to(self, device: torch.device | str) -> Self:
        """Move all to a device."""
        return type(self)(tuple(member.to(device) for member in self.members))

    def take(self, index: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return (B, members, *event_shape), and the conditions (B, members, …) or None."""
        taken = [member.take(index) for member in self.members]
        conditions = [c for _, c in taken if c is not None]
        # members lie apart in memory, so that a step's products need no copies
        together = torch.stack(conditions).transpose(0, 1) if conditions else None
        return torch.stack([x for x, _ in taken]).transpose(0, 1), together


def fit_together(
    models: Sequence[Trainable],
    batches: Sequence[Batches],
    settings: FitSettings,
    *,
    compute: Compute | None = None,
    hooks: Sequence[Hook] = (),
    stage: str = "training",
    state_file: Path | None = None,
    resume: bool = False,
    held_out: Batches | None = None,
) -> None:
    """Train models of one architecture in place, each on its own data set of one common shape.

    Each ends as `fit` would leave it with the same settings, to rounding.

    Parameters
    ----------
    models, batches
        As many of each.
    settings, compute, hooks, stage, state_file, resume
        As for `fit`.
    held_out
        As for `fit`, of a single model; of several nothing is held out.
    """
    if len(models) != len(batches) or not models:
        raise InputError(f"{len(models)} models and {len(batches)} data sets", "as many of each, at least one")
    if len(models) > 1 and settings.clip is not None:  # the norm would be that of all together
        raise InputError(f"clip={settings.clip:g} for {len(models)} models at once", "none", "Train them one by one.")
    stack = models[0] if len(models) == 1 else Stack(models)
    fit(
        stack,
        batches[0] if len(models) == 1 else StackedBatches(tuple(batches)),
        settings,
        compute=compute,
        hooks=hooks,
        stage=stage,
        state_file=state_file,
        resume=resume,
        held_out=held_out if len(models) == 1 else None,
    )
    if isinstance(stack, Stack):
        stack.unstack()


def _key(name: str) -> str:
    return name.replace(".", "/")
