"""How a condition enters: the prior, the decoder's gate, and the networks that read it."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from vaelab.spec import Value


class Condition(Value):
    """Every network gets a condition c; the value is the prior that z has, given c."""

    axis: ClassVar[str] = "condition"
    attention: bool | Literal["vector"] = Field(
        True, description="let the decoder switch latent dimensions off: depending on c; vector: the same for every c"
    )
    hidden: tuple[int, ...] = Field((64,), min_length=1, description="hidden widths of the networks that read c")


class Standard(Condition):
    """p(z) = N(0, I), whatever c is."""

    kind: ClassVar[str] = "standard"


class Conditional(Condition):
    """p(z | c), a Gaussian whose mean and variances depend on c."""

    kind: ClassVar[str] = "conditional"


class Shared(Condition):
    """p(z | c) with the encoder's own weights; of a `SequenceVAE`."""

    kind: ClassVar[str] = "shared"


class Tied(Condition):
    """q(z | x, c) = p(z | c): codes of the condition alone, for comparison (Zheng et al. 2022, section 3.3)."""

    kind: ClassVar[str] = "tied"
