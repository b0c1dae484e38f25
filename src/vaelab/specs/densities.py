"""Laws to fit on the codes, beside the prior."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from vaelab.spec import Value
from vaelab.training.settings import FitSettings


class Density(Value):
    """A law on codes; how it is fitted stands in the registry of `vaelab.latent`, under its kind."""

    axis: ClassVar[str] = "densities"

    @property
    def name(self) -> str:
        """Under which it is fitted, compared and asked for."""
        return self.kind

    def resolve(self, rows: int) -> Density:
        """Fill in what depends on the number of codes."""
        return self


class Gaussian(Density):
    """One Gaussian with a full covariance."""

    kind: ClassVar[str] = "gaussian"


class Mixture(Density):
    """A mixture of Gaussians."""

    kind: ClassVar[str] = "mixture"
    short: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        f"mixture_{k}": {"components": k, "covariance": "full"} for k in (10, 100)
    }
    components: int | None = Field(None, ge=1, description="default: chosen on held-out codes")
    covariance: Literal["full", "diag"] | None = Field(None, description="default: chosen on held-out codes")

    @property
    def name(self) -> str:
        """With the number of components, and a covariance other than the full one, where they are given."""
        number = "" if self.components is None else f"_{self.components}"
        full = self.covariance == "full" and self.components is not None
        return f"mixture{number}" if full or self.covariance is None else f"mixture{number}_{self.covariance}"


class BayesianMixture(Density):
    """A mixture whose number of components, at most 10, the data decide by variational inference."""

    kind: ClassVar[str] = "bayesian_mixture"


class Trained(Density):
    """What is trained by gradient; itself no value."""

    fit: FitSettings = Field(FitSettings(), description="its training")

    def resolve(self, rows: int) -> Trained:
        """Fill in the length of the training."""
        return self.model_copy(update={"fit": self.fit.resolve(rows)})


class Flow(Trained):
    """A normalising flow; needs the extra `flow`."""

    kind: ClassVar[str] = "flow"


class SecondStage(Trained):
    """A second VAE, whose data are codes (Dai & Wipf 2019, section 4)."""

    kind: ClassVar[str] = "second_stage"
    hidden: tuple[int, ...] = Field((1024, 1024, 1024), min_length=1, description="hidden widths")
