"""q(z | x): the form of its covariance."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from vaelab.spec import Value

if TYPE_CHECKING:
    from vaelab import model


Bound = Literal["elbo", "iwae"]


class Posterior(Value):
    """A family of q(z | x).

    Attributes
    ----------
    degenerate
        Whether it has no density, and so no KL.
    """

    axis: ClassVar[str] = "posterior"
    degenerate: ClassVar[bool] = False

    @property
    def drawn(self) -> int:
        """Draws of z per row and step."""
        return 1

    @property
    def bounded(self) -> Bound:
        """By what log p(x) is bounded in training."""
        return "elbo"

    def build(self, scale: Literal["exp", "softplus"]) -> model.Posterior:
        """Build it; `scale` is how the encoder's numbers become σ."""
        raise NotImplementedError


class Random(Posterior):
    """What posteriors with a density share; itself no value."""

    draws: int = Field(1, ge=1, description="of z per row and step")
    bound: Bound = Field(
        "elbo", description="what training raises: the ELBO, or the importance-weighted bound of so many draws, iwae"
    )

    @property
    def drawn(self) -> int:
        """Draws of z per row and step."""
        return self.draws

    @property
    def bounded(self) -> Bound:
        """By what log p(x) is bounded in training."""
        return self.bound


class Diagonal(Random):
    """A variance for every latent dimension and row."""

    kind: ClassVar[str] = "diagonal"

    def build(self, scale: Literal["exp", "softplus"]) -> model.Posterior:
        """Build it."""
        from vaelab import model

        return model.Diagonal(scale)


class Isotropic(Random):
    """One variance for all rows and dimensions, learned unless it is given."""

    kind: ClassVar[str] = "isotropic"
    variance: float | None = Field(None, gt=0, description="fixed; default: learned")

    def build(self, scale: Literal["exp", "softplus"]) -> model.Posterior:
        """Build it."""
        from vaelab import model

        return model.Isotropic(self.variance or 1.0, learned=self.variance is None)


class Full(Random):
    """A full covariance for every row, by its Cholesky factor."""

    kind: ClassVar[str] = "full"

    def build(self, scale: Literal["exp", "softplus"]) -> model.Posterior:
        """Build it."""
        from vaelab import model

        return model.FullCovariance()


class Deterministic(Posterior):
    """No noise: an autoencoder."""

    kind: ClassVar[str] = "deterministic"
    degenerate: ClassVar[bool] = True

    def build(self, scale: Literal["exp", "softplus"]) -> model.Posterior:
        """Build it."""
        from vaelab import model

        return model.Deterministic()
