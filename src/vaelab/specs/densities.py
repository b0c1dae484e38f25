"""Laws to fit on the codes, beside the prior: what each is called and which options it has.

How one is fitted and rebuilt stands in `vaelab.latent.laws`, under its kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from vaelab.spec import Value
from vaelab.training.settings import FitSettings

PRIOR = "prior"


class Density(Value):
    """A law on codes.

    Attributes
    ----------
    gradient
        Whether it is trained by gradient, and takes some codes to choose its weights by.
    bound
        Whether its log-density is a lower bound.
    """

    axis: ClassVar[str] = "densities"
    gradient: ClassVar[bool] = False
    bound: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """Under which it is fitted, compared and asked for."""
        return self.kind

    @property
    def title(self) -> str:
        """What it is, in a sentence."""
        return self.kind.replace("_", " ")

    @property
    def order(self) -> float:
        """Place from simple to complex: where scores do not tell them apart, the simpler one is taken."""
        return 1.5

    def resolve(self, rows: int) -> Density:
        """Fill in what depends on the number of codes."""
        return self


class Gaussian(Density):
    """One Gaussian with a full covariance."""

    kind: ClassVar[str] = "gaussian"
    title: ClassVar[str] = "one Gaussian"
    order: ClassVar[float] = 0.0


class Mixture(Density):
    """A mixture of Gaussians."""

    kind: ClassVar[str] = "mixture"
    short: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        f"mixture_{k}": {"components": k, "covariance": "full"} for k in (10, 100)
    }
    components: int | None = Field(None, ge=1, description="default: chosen on held-out codes")
    covariance: Literal["full", "diag"] | None = Field(None, description="default: chosen on held-out codes")
    codes: Literal["draws", "means"] = Field(
        "draws", description="means: of the posterior, of all rows, as the program of RAE fits them"
    )

    @model_validator(mode="after")
    def _sized(self) -> Self:
        if self.codes == "means" and self.components is None:
            raise ValueError("codes='means' without components; give their number")
        return self

    @property
    def name(self) -> str:
        """With the number of components, a covariance other than the full one, and what it is of."""
        parts = ["mixture", *([] if self.components is None else [str(self.components)])]
        full = self.covariance == "full" and self.components is not None
        parts += [] if full or self.covariance is None else [self.covariance]
        return "_".join([*parts, *(["means"] if self.codes == "means" else [])])

    @property
    def title(self) -> str:
        """With the number of components where it is given."""
        return "a mixture" if self.components is None else f"a mixture of {self.components}"

    @property
    def order(self) -> float:
        """By the number of components; one that is chosen counts as 50."""
        return 1 + (self.components or 50) / 1e6


class BayesianMixture(Density):
    """A mixture whose number of components, at most 10, the data decide by variational inference."""

    kind: ClassVar[str] = "bayesian_mixture"
    title: ClassVar[str] = "a Bayesian mixture"
    order: ClassVar[float] = 1 + 11e-6


class Trained(Density):
    """What is trained by gradient; itself no value."""

    gradient: ClassVar[bool] = True

    @property
    def length(self) -> FitSettings:
        """How it is trained."""
        raise NotImplementedError

    def resolve(self, rows: int) -> Trained:
        """Fill in the length of the training."""
        return self.model_copy(update={"training": self.length.resolve(rows)})


class Flow(Trained):
    """A normalising flow; needs the extra `flow`."""

    kind: ClassVar[str] = "flow"
    title: ClassVar[str] = "a flow"
    order: ClassVar[float] = 2.0
    training: FitSettings = Field(FitSettings(), description="its training")

    @property
    def length(self) -> FitSettings:
        """How it is trained."""
        return self.training


_MANY, _WIDE, _NARROW = 10_000, (1024, 1024, 1024), (256, 256, 256)


class SecondStage(Trained):
    """A second VAE, whose data are codes (Dai & Wipf 2019, section 4)."""

    kind: ClassVar[str] = "second_stage"
    title: ClassVar[str] = "stage two"
    order: ClassVar[float] = 3.0
    bound: ClassVar[bool] = True
    hidden: tuple[int, ...] | None = Field(
        None, min_length=1, description="hidden widths; default: three of 256, or of 1024 from 10,000 codes"
    )
    training: FitSettings = Field(FitSettings(), description="its training")

    @property
    def length(self) -> FitSettings:
        """How it is trained."""
        return self.training

    @property
    def widths(self) -> tuple[int, ...]:
        """Hidden widths, which are the paper's before `resolve`."""
        return self.hidden or _WIDE

    def resolve(self, rows: int) -> SecondStage:
        """Fill in the widths, and the length of the training."""
        resolved = self.set_params(training=self.training.resolve(rows))
        return resolved if self.hidden else resolved.set_params(hidden=_WIDE if rows >= _MANY else _NARROW)


class FlowMatching(Trained):
    """A velocity field that carries normals to codes (Lipman et al. 2023)."""

    kind: ClassVar[str] = "flow_matching"
    title: ClassVar[str] = "flow matching"
    order: ClassVar[float] = 2.5
    width: int | None = Field(None, ge=1, description="of the residual blocks; default: 256, or 512 from 10,000 codes")
    blocks: int = Field(3, ge=1, le=1000, description="residual blocks")
    coupling: Literal["independent", "optimal_transport"] = Field(
        "independent", description="of normals with the codes of a batch; the assignment straightens the paths"
    )
    steps: int = Field(25, ge=1, le=10_000, description="of the midpoint rule that draws")
    guidance: float = Field(0.0, ge=0, description="draws more typical of their condition; 0 for the law itself")
    training: FitSettings = Field(
        FitSettings(batch_size=256, ema=0.999), description="its training, of a moving average of the weights"
    )

    @property
    def length(self) -> FitSettings:
        """How it is trained."""
        return self.training

    def resolve(self, rows: int) -> FlowMatching:
        """Fill in the width, and the length of the training."""
        resolved = self.set_params(training=self.training.resolve(rows))
        return resolved if self.width else resolved.set_params(width=512 if rows >= _MANY else 256)


def ordered(laws: Iterable[Density]) -> list[Density]:
    """From simple to complex."""
    return sorted(laws, key=lambda law: law.order)


def named() -> list[Density]:
    """Every law that has a name, from simple to complex, with its defaults."""
    return ordered(Density.of(name) for name in Density.kinds())


def title_of(name: str) -> str:
    """Return what a density is, in a sentence; of one with options that no name stands for, its name."""
    if name == PRIOR:
        return "the prior"
    return next((law.title for law in named() if law.name == name), name.replace("_", " "))
