"""Settings of one training, checked before any work starts: how long and how fast, and on what."""

from __future__ import annotations

import math
from typing import ClassVar, Literal, Self

from pydantic import Field

from vaelab.spec import Spec, Value
from vaelab.training.augmentation import Augment

Precision = Literal["32-true", "bf16-mixed", "16-mixed", "64-true"]
Accelerator = Literal["auto", "cpu", "gpu"]

# default length of a training: this many steps, but neither fewer epochs nor many more than a data set can bear
_STEPS, _LEAST_STEPS = 10_000, 2_000
_LEAST_EPOCHS, _MOST_EPOCHS = 5, 200


class Schedule(Value):
    """How the learning rate moves over the steps, as multiples of its peak; see `vaelab.training.schedules`."""

    axis: ClassVar[str] = "schedule"


class Constant(Schedule):
    """The peak at every step."""

    kind: ClassVar[str] = "constant"


class Cosine(Schedule):
    """Down to 0 along half a cosine."""

    kind: ClassVar[str] = "cosine"


class OneCycle(Schedule):
    """Up for the first 30 % of the steps, then down to almost 0."""

    kind: ClassVar[str] = "one_cycle"


class Exponential(Schedule):
    """Down to a hundredth, by the same share at every step."""

    kind: ClassVar[str] = "exponential"


class Halving(Schedule):
    """Half after every so many epochs."""

    kind: ClassVar[str] = "step"
    every: int = Field(ge=1, description="epochs between halvings")


class Plateau(Schedule):
    """Half whenever the objective of held-out rows has not fallen for more than so many epochs."""

    kind: ClassVar[str] = "plateau"
    patience: int = Field(5, ge=1, description="epochs to wait")


class FitSettings(Spec):
    """How long and how fast to train; one record for every `fit`."""

    epochs: int | None = Field(None, ge=1, description="passes over the training data; default: to suit the data")
    batch_size: int = Field(100, ge=1, description="rows per step, over all processes; at most those there are")
    lr: float = Field(1e-3, gt=0, description="learning rate of Adam; the peak of a one-cycle or cosine schedule")
    schedule: Schedule = Field(Cosine(), description="how the learning rate moves")
    beta1: float = Field(0.9, ge=0, lt=1, description="decay of Adam's mean of gradients")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty inside Adam")
    ema: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="decay of a moving average of the weights, which the model ends with; none if left out",
    )
    keep_best: bool = Field(True, description="end with the weights best on held-out rows, where there are any")
    patience: int | None = Field(
        None, ge=1, description="end after so many epochs in which held-out rows did not improve; never if left out"
    )
    clip: float | None = Field(
        None,
        gt=0,
        description="largest norm of a step's gradient; longer ones are shortened. None if left out",
    )
    accumulate: int = Field(
        1, ge=1, description="parts of a step's rows, passed one by one, whose gradients add up: memory is that of one"
    )
    augment: Augment | None = Field(
        None, description="change training rows at random, anew at every step; held-out rows never; nothing if left out"
    )

    @property
    def watches(self) -> str | None:
        """Which of the settings watches held-out rows."""
        if isinstance(self.schedule, Plateau):
            return "schedule='plateau'"
        return None if self.patience is None else f"patience={self.patience}"

    def unwatched(self) -> Self:
        """Return settings that need no held-out rows: the learning rate stays where it would have followed them."""
        schedule = Constant() if isinstance(self.schedule, Plateau) else self.schedule
        return self.model_copy(update={"schedule": schedule, "patience": None})

    def resolve(self, rows: int) -> Self:
        """Fill in the epochs: 2,000 to 10,000 steps, at least 5 epochs."""
        if self.epochs is not None:
            return self
        per_epoch = max(1, rows // self.batch_size)
        usual = min(max(math.ceil(_STEPS / per_epoch), _LEAST_EPOCHS), _MOST_EPOCHS)
        return self.model_copy(update={"epochs": max(usual, math.ceil(_LEAST_STEPS / per_epoch))})

    @property
    def length(self) -> int:
        """Epochs, after `resolve`."""
        if self.epochs is None:
            raise ValueError("epochs are open before resolve")
        return self.epochs


class Compute(Spec):
    """On what to compute, in which numbers, and how often to save."""

    precision: Precision = Field("32-true", description="number format, as Lightning Fabric names it")
    compile: bool = Field(False, description="compile the training step with torch.compile")
    accelerator: Accelerator = Field("auto", description="kind of device; auto takes a CUDA device if there is one")
    checkpoint_seconds: float = Field(30.0, ge=0, description="least time between two training states on disk")
