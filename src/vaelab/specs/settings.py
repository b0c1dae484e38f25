"""Settings of a whole training, composed of one value per axis.

The command line's flags, the estimators' arguments, a run's ``config.yaml`` and the presets are all this tree.
"""

from __future__ import annotations

import math
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from vaelab.arguments import check_memory
from vaelab.errors import InputError
from vaelab.spec import Spec
from vaelab.specs import densities as laws
from vaelab.specs.adversaries import Adversary
from vaelab.specs.conditions import Condition
from vaelab.specs.likelihoods import Auto as AutoLikelihood
from vaelab.specs.likelihoods import Likelihood
from vaelab.specs.networks import Auto, Network
from vaelab.specs.penalties import KL, Penalty
from vaelab.specs.posteriors import Diagonal, Posterior
from vaelab.training.settings import Compute, FitSettings

_GENERATING = {"posterior": "deterministic", "penalties": (), "densities": (), "likelihood": "gaussian(fixed(1))"}
"""Of a GAN, whose likelihood only says in which range rows are."""


class Settings(Spec):
    """Everything that decides what is trained and how; data apart."""

    latent_dim: int | Literal["auto"] = Field(
        32, description="latent dimensions; superfluous ones are left idle by training, or dropped after it with auto"
    )
    network: Network = Field(Auto(), description="encoder and decoder")
    likelihood: Likelihood = Field(AutoLikelihood(), description="p(x|z)")
    posterior: Posterior = Field(Diagonal(), description="q(z|x)")
    condition: Condition | None = Field(None, description="give every network a condition: the label, from a data set")
    penalties: tuple[Penalty, ...] = Field(
        (KL(),), description="added to the distortion; nothing by default for a deterministic posterior"
    )
    densities: tuple[laws.Density, ...] = Field(
        (laws.Gaussian(), laws.Mixture(), laws.SecondStage()), description="laws to fit on the codes, beside the prior"
    )
    adversary: Adversary | None = Field(
        None, description="train the decoder alone, against this, in place of a VAE: a GAN (--baseline has seven)"
    )
    training: FitSettings = Field(FitSettings(), description="of the VAE")
    compute: Compute = Field(Compute(), description="on what to compute")
    held_out: float = Field(0.1, ge=0, le=0.9, description="share of the training rows (at most 5,000) to compare on")
    seed: int = Field(0, ge=0, lt=2**64, description="seed of initial weights, splits, data order and noise")

    @field_validator("latent_dim", mode="plain")
    @classmethod
    def _counted(cls, value: Any) -> Any:
        """Take a whole number, or the word; as one check, so that a mistake is said once."""
        if value == "auto":
            return value
        if isinstance(value, bool) or not isinstance(value, int | float | np.number) or float(value) % 1:
            raise ValueError("Input should be a whole number, or 'auto'")
        if value < 1:
            raise ValueError("Input should be greater than or equal to 1, or 'auto'")
        return int(value)

    @field_validator("penalties", "densities", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        """Take a single value for a list of one."""
        return value if isinstance(value, tuple | list) else () if value is None else (value,)

    @model_validator(mode="before")
    @classmethod
    def _without_kl(cls, values: Any) -> Any:
        """Leave out by default what a deterministic posterior, or a GAN, cannot have."""
        if isinstance(values, dict) and values.get("adversary") is not None:
            return {**_GENERATING, **values}
        if isinstance(values, dict) and "penalties" not in values and "posterior" in values:
            try:
                degenerate = Posterior.of(values["posterior"]).degenerate
            except InputError as error:
                raise ValueError(str(error)) from error  # which `explain` finds again
            return {**values, "penalties": ()} if degenerate else values
        return values

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        kinds = [penalty.kind for penalty in self.penalties]
        if len(set(kinds)) != len(kinds):
            raise ValueError(f"penalties {', '.join(kinds)} name one twice")
        if self.posterior.degenerate and "kl" in kinds:
            raise ValueError("posterior='deterministic' has no KL; use 'mmd', 'code_norm' or others")
        if not self.posterior.degenerate and "kl" not in kinds:
            raise ValueError("penalties without 'kl' for a posterior with noise; add it, or use 'deterministic'")
        if self.posterior.bounded == "iwae" and self.penalty("kl") != 1:
            raise ValueError("bound='iwae' with a KL of another weight than 1, which is part of it; use bound='elbo'")
        if self.compute.precision == "64-true":
            raise ValueError("precision='64-true' is for vaelab.fit; leave it out")
        if self.compute.compile and any(penalty.twice_differentiated for penalty in self.penalties):
            raise ValueError("penalty 'jacobian' with compile=True; leave compile out")
        trainings = [self.training, *(law.length for law in self.densities if isinstance(law, laws.Trained))]
        watching = next((each.watches for each in trainings if each.watches), None)
        if not self.held_out and watching:
            raise ValueError(f"{watching} watches held-out rows; leave held_out above 0")
        if any(each.augment is not None for each in trainings[1:]):
            raise ValueError("augment for codes; it is for training, of rows")
        if self.condition is not None and self.condition.kind == "shared" and self.network.kind != "lstm":
            raise ValueError("condition='shared' is for network='lstm'; use condition='conditional'")
        tied = self.condition is not None and self.condition.kind == "tied"
        if tied and (self.posterior.kind != "diagonal" or not self.network.embeds):
            raise ValueError("condition='tied' is for a diagonal posterior, and not for network='lstm'")
        if self.latent_dim == "auto" and self.posterior.kind != "diagonal":
            raise ValueError(
                f"latent_dim='auto' for posterior={self.posterior.kind!r}, of which no axes can be counted"
            )
        if self.adversary is not None:
            self._check_generating()
        names = [law.name for law in self.densities]
        if len(set(names)) != len(names):
            raise ValueError(f"densities {', '.join(names)} name one twice")
        return self

    def _check_generating(self) -> None:
        """Refuse what a GAN has not, or this one cannot do."""
        if self.adversary is not None and not self.adversary.accumulates and self.training.accumulate > 1:
            parts = f"accumulate={self.training.accumulate} for adversary={self.adversary.kind!r}"
            raise ValueError(f"{parts}, whose balance moves by a whole batch; leave accumulate out")
        encoding = {
            "densities": bool(self.densities),
            "penalties": bool(self.penalties),
            "condition": self.conditional,
            "latent_dim='auto'": self.latent_dim == "auto",
            f"posterior={self.posterior.kind!r}": not self.posterior.degenerate,
            f"likelihood={self.likelihood.kind!r}": self.likelihood.kind not in ("gaussian", "bernoulli"),
            "compile=True": self.compute.compile,
        }
        if wrong := [name for name, there in encoding.items() if there]:
            raise ValueError(f"adversary with {', '.join(wrong)}, which a GAN has not; use --baseline, or leave it out")

    @property
    def size(self) -> int:
        """The number of latent dimensions.

        Raises
        ------
        InputError
            It is to be found by training.
        """
        if self.latent_dim == "auto":
            raise InputError("latent_dim='auto' without a training that finds it", "a number")
        return self.latent_dim

    @property
    def conditional(self) -> bool:
        """Whether the networks take a condition."""
        return self.condition is not None

    def penalty(self, kind: str) -> float:
        """Return the weight of a penalty; 0 for one that is not there."""
        return next((getattr(each, "weight", 1.0) for each in self.penalties if each.kind == kind), 0.0)

    def density(self, name: str) -> laws.Density:
        """Return how a density is fitted: as settings say, or by default.

        Raises
        ------
        InputError
            There is none of this name.
        """
        return next((law for law in self.densities if law.name == name), None) or laws.Density.of(name)

    def suited(self, *, mixed: bool) -> Self:
        """Fill in the likelihood.

        Parameters
        ----------
        mixed
            Whether the data are a table that is coded column by column.
        """
        likelihood = self.likelihood
        chosen = likelihood.chosen(mixed=mixed) if isinstance(likelihood, AutoLikelihood) else likelihood
        return self.model_copy(update={"likelihood": chosen})

    def resolve(self, rows: int, event_shape: tuple[int, ...]) -> Self:
        """Fill in what depends on the data: the network, the lengths of the trainings, a likelihood that is still open.

        Raises
        ------
        InputError
            The settings do not suit rows of this shape.
        """
        training = self.training
        if self.adversary is not None and training.epochs is None:
            training = training.model_copy(update={"epochs": self.adversary.length(rows, training.batch_size)})
        training = training.resolve(rows)
        network = self.network.resolve(event_shape, steps=training.length * max(1, rows // training.batch_size))
        if network.takes == "sequences" and (len(event_shape) == 3 or self.condition is None):
            raise InputError(f"network={network.kind!r} without sequences", "points and their past", "Use SequenceVAE.")
        suited = self.suited(mixed=False)
        suited.likelihood.check(event_shape, network.kind)
        if self.posterior.drawn > 1:
            self._check_draws(min(training.batch_size, rows), math.prod(event_shape))
        self._check_parts(min(training.batch_size, rows), network)
        chosen = tuple(law.resolve(rows) for law in self.densities)
        return suited.model_copy(update={"network": network, "training": training, "densities": chosen})

    def _check_parts(self, batch: int, network: Network) -> None:
        """Refuse a batch that is too small for what it is cut into: accumulated parts, and steps of a critic."""
        parts, steps = min(self.training.accumulate, batch), 1 if self.adversary is None else self.adversary.steps
        least, rows = network.least_batch, batch // max(1, parts) // steps
        cut = [f"{batch} rows in {parts} parts"] * (parts > 1) + [f"{steps} critic steps"] * (steps > 1)
        if rows < least:
            got = f"batches of {rows} row{'s' * (rows != 1)} for {network.kind!r}"
            wanted = f"at least {least}{', for its batch norm' * (least > 1)}"
            remedy = "Use a larger batch_size" + ", or a smaller accumulate" * (parts > 1)
            remedy += ", or network='mlp'." if least > 1 else "."
            raise InputError(got + (f" ({', '.join(cut)})" if cut else ""), wanted, remedy)
        if parts > 1 and steps > 1 and batch % (parts * steps):
            raise InputError(
                f"batches of {' for '.join(cut)}, which leaves rows out",
                f"a batch_size and accumulate such that {steps} divides every part",
                f"Such as accumulate={max(n for n in range(1, parts) if n == 1 or not batch % (n * steps))}.",
            )

    def _check_draws(self, rows: int, numbers: int) -> None:
        """Refuse more draws than a step has memory for: codes, means and what they cost, of rows of so many numbers."""
        draws, size = self.posterior.drawn, 1 if self.latent_dim == "auto" else self.latent_dim
        needed = 12.0 * draws * rows * (size + numbers)
        check_memory(f"draws={draws:,} of z for each row", needed, "Use fewer draws, or smaller batches.")
