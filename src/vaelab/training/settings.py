"""Settings of one training, checked before any work starts."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Schedule = Literal["constant", "step", "one_cycle", "cosine", "exponential", "plateau"]
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
Accelerator = Literal["auto", "cpu", "gpu"]


class FitSettings(BaseModel):
    """How long, how fast and on what to train; one record for every `fit`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(100, ge=1, description="passes over the training data")
    batch_size: int = Field(100, ge=1, description="global batch; at most the number of rows is used")
    lr: float = Field(1e-3, gt=0, description="learning rate of Adam; the peak of a one-cycle or cosine schedule")
    schedule: Schedule = Field("cosine", description="how the learning rate moves over the steps")
    halve_every: int | None = Field(
        None, ge=1, description="epochs between halvings, for schedule 'step'; epochs to wait, for 'plateau'"
    )
    beta1: float = Field(0.9, ge=0, lt=1, description="decay of Adam's mean of gradients")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty inside Adam")
    keep_best: bool = Field(False, description="end with the weights of the epoch that was best on held-out rows")
    precision: Precision | Literal["64-true"] = Field(
        "32-true", description="number format, as Lightning Fabric names it"
    )
    compile: bool = Field(False, description="compile the training step with torch.compile")
    accelerator: Accelerator = Field("auto", description="kind of device; auto takes a CUDA device if there is one")
    checkpoint_seconds: float = Field(30.0, ge=0, description="least time between two training states on disk")
    seed: int = Field(0, ge=0, description="seed of data order and noise")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.schedule == "step" and self.halve_every is None:
            raise ValueError("schedule='step' needs halve_every, the number of epochs between halvings")
        if self.schedule not in ("step", "plateau") and self.halve_every is not None:
            raise ValueError(f"halve_every={self.halve_every} has no effect with schedule='{self.schedule}'")
        return self
