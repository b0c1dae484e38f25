"""p(x | z), and how the variance of a Gaussian one is obtained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from vaelab.errors import InputError
from vaelab.spec import Value
from vaelab.specs.columns import Column

if TYPE_CHECKING:
    from vaelab import model

VarianceShape = Literal["iso-i", "diag-i", "iso-d", "diag-d"]

FLOOR = 1e-6
"""Of γ, relative to the variance of the data."""

_FLOOR_OF_SINGLE = 1e-2


def _spelled(name: object) -> object:
    """Columns of arrays are known by their place."""
    return str(name) if isinstance(name, int) else name


@dataclass(frozen=True)
class DataFacts:
    """What a likelihood is built for.

    Attributes
    ----------
    event_shape
        Of the data.
    data_variance
        Mean variance of a dimension, in the network's units: where a learned γ starts, and the floor's scale.
    levels
        Of each column of a mixed table, 0 for numbers.
    ordered
        Whether those have an order.
    gaps
        Pattern of each column's gaps, 0 for none; empty where nothing is missing.
    """

    event_shape: tuple[int, ...]
    data_variance: float
    levels: tuple[int, ...] = ()
    ordered: tuple[bool, ...] = ()
    gaps: tuple[int, ...] = ()


class Variance(Value):
    """How γ, the decoder variance, is obtained."""

    axis: ClassVar[str] = "variance"

    def check(self, shape: VarianceShape) -> None:
        """Refuse a shape that it cannot have, by a ValueError."""

    def floor(self, shape: VarianceShape) -> float:
        """Return the smallest γ by default, relative to the variance of the data."""
        return FLOOR

    def build(self, shape: VarianceShape, floor: float, facts: DataFacts) -> model.Variance:
        """Build it; `floor` is in the network's units squared."""
        raise NotImplementedError

    def of_codes(self, floor: float, code_variance: float) -> model.Variance:
        """Build the γ' of a second stage; a γ given for the data says nothing about codes."""
        from vaelab.model import LearnedVariance

        # With d = r = κ nothing pulls γ' down, and near the variance of the codes ignoring u is a local optimum, in
        # which a profiled γ' often stays. Starting below it and rising slowly leaves that optimum out.
        return LearnedVariance(0.1 * code_variance, lr_scale=3.0, floor=floor)


class Profiled(Variance):
    """The mean squared error of every batch, and in the end of all training rows (Takida et al. 2022, eq. 9a)."""

    kind: ClassVar[str] = "profiled"
    start: float | None = Field(
        None,
        gt=0,
        le=1,
        description="its most for the first 30 % of the steps, relative to the variance of the data; default: 1, and "
        "where a table is explained no better than by a Gaussian, 0.01 once more",
    )

    def floor(self, shape: VarianceShape) -> float:
        """Return a larger one for single errors.

        Their logarithm rewards a few exact pixels more than it punishes wrong ones: with little floor it likes blank
        images best.
        """
        return _FLOOR_OF_SINGLE if shape == "diag-d" else FLOOR

    def build(self, shape: VarianceShape, floor: float, facts: DataFacts) -> model.Variance:
        """Build it."""
        from vaelab.model import ProfiledVariance

        start = None if self.start in (None, 1) else self.start * facts.data_variance
        diagonal, per_sample = shape.startswith("diag"), shape.endswith("-d")
        return ProfiledVariance(diagonal=diagonal, per_sample=per_sample, floor=floor, start=start)


class Learned(Variance):
    """A parameter, or an output of the decoder where it differs between rows."""

    kind: ClassVar[str] = "learned"
    initial: float | None = Field(None, gt=0, description="where it starts; default: the variance of the data")
    lr_scale: float = Field(10.0, gt=0, description="its learning rate, relative to lr")

    def build(self, shape: VarianceShape, floor: float, facts: DataFacts) -> model.Variance:
        """Build it."""
        from vaelab.model import DecodedVariance, LearnedVariance

        initial = facts.data_variance if self.initial is None else self.initial
        diagonal = shape.startswith("diag")
        if shape.endswith("-d"):
            return DecodedVariance(initial, diagonal=diagonal, floor=floor)
        own = facts.event_shape if diagonal else None
        return LearnedVariance(initial, event_shape=own, lr_scale=self.lr_scale, floor=floor)

    def of_codes(self, floor: float, code_variance: float) -> model.Variance:
        """Build one that starts at the codes' scale, as in the paper (Dai & Wipf 2019)."""
        from vaelab.model import LearnedVariance

        return LearnedVariance(code_variance, lr_scale=self.lr_scale, floor=floor)


class Fixed(Variance):
    """A number."""

    kind: ClassVar[str] = "fixed"
    value: float = Field(1.0, gt=0, description="the variance, in the network's units squared")

    def check(self, shape: VarianceShape) -> None:
        """Refuse more than one number."""
        if shape != "iso-i":
            raise ValueError(f"variance='fixed' is one number; leave shape={shape!r} out")

    def build(self, shape: VarianceShape, floor: float, facts: DataFacts) -> model.Variance:
        """Build it."""
        from vaelab.model import FixedVariance

        return FixedVariance(self.value)


class Likelihood(Value):
    """A family of p(x | z).

    Attributes
    ----------
    takes
        Which data.
    """

    axis: ClassVar[str] = "likelihood"
    takes: ClassVar[Literal["pixels", "numbers", "columns"]] = "pixels"

    def build(self, facts: DataFacts) -> model.Likelihood:
        """Build it."""
        raise NotImplementedError

    def hiding(self, entries: int) -> model.Hiding | None:
        """Return what hides some of so many entries of a row from the encoder in training; nothing by default."""
        return None

    def of_codes(self, code_variance: float) -> model.Variance:
        """Build the γ' of a second stage."""
        return Profiled().of_codes(FLOOR * code_variance, code_variance)

    def check(self, event_shape: tuple[int, ...], network: str) -> None:
        """Refuse data that it is not for.

        Raises
        ------
        InputError
            Pixels are wanted, or a table.
        """
        if self.takes == "pixels" and len(event_shape) != 3:
            got = f"likelihood={self.kind!r} for a table"
            raise InputError(got, "pixels in [0, 1]", "Use likelihood='gaussian'.")
        if self.takes == "columns" and (len(event_shape) == 3 or network == "lstm"):
            raise InputError(f"likelihood={self.kind!r} without a table", "rows (n, d)", "Use likelihood='gaussian'.")


class WithVariance(Likelihood):
    """What Gaussian likelihoods share; itself no value."""

    variance: Variance = Field(Profiled(), description="how the decoder variance is obtained")
    shape: VarianceShape = Field(
        "iso-i", description="one decoder variance; one per dimension (diag-i), per row (iso-d), or both (diag-d)"
    )
    floor: float | None = Field(
        None,
        gt=0,
        description="smallest decoder variance, relative to the data's; default: 1e-6, 0.01 for profiled diag-d",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self.variance.check(self.shape)
        return self

    def least(self, data_variance: float) -> float:
        """Return the floor of γ in the network's units squared."""
        return (self.floor or self.variance.floor(self.shape)) * data_variance

    def of_codes(self, code_variance: float) -> model.Variance:
        """Build the γ' of a second stage."""
        return self.variance.of_codes((self.floor or FLOOR) * code_variance, code_variance)


class Auto(WithVariance):
    """Gaussian; mixed for a table with columns of text, categories or dates, or with missing entries."""

    kind: ClassVar[str] = "auto"
    takes: ClassVar[Literal["pixels", "numbers", "columns"]] = "numbers"

    def chosen(self, *, mixed: bool) -> Gaussian | Mixed:
        """Return the likelihood for such data, with the same variance."""
        return (Mixed if mixed else Gaussian)(variance=self.variance, shape=self.shape, floor=self.floor)

    def build(self, facts: DataFacts) -> model.Likelihood:
        """Build it for numbers."""
        return self.chosen(mixed=False).build(facts)


class Gaussian(WithVariance):
    """Numbers with noise of variance γ."""

    kind: ClassVar[str] = "gaussian"
    takes: ClassVar[Literal["pixels", "numbers", "columns"]] = "numbers"

    def build(self, facts: DataFacts) -> model.Likelihood:
        """Build it; the mean of pixels goes through a sigmoid."""
        from vaelab import model

        link: Literal["sigmoid", "identity"] = "sigmoid" if len(facts.event_shape) == 3 else "identity"
        return model.Gaussian(self.variance.build(self.shape, self.least(facts.data_variance), facts), link=link)


class Mixed(WithVariance):
    """Tables of numbers and categories, also with missing entries."""

    kind: ClassVar[str] = "mixed"
    takes: ClassVar[Literal["pixels", "numbers", "columns"]] = "columns"
    numbers: Literal["scores", "standardised", "chosen"] = Field(
        "scores",
        description="bring them to normal scores by rank, and back into range and grid; or standardise them; or "
        "choose, by which of the two entries are told from the others of their row better",
    )
    columns: dict[Annotated[str, BeforeValidator(_spelled)], Column] = Field(
        {},
        description="name → what it is taken for: auto, scores, standardised, category, ordered, identifier, drop",
    )
    ties: Literal["found", "none"] = Field(
        "found", description="columns that others determine in all training rows, such as sums, do so in samples too"
    )

    hidden: float = Field(
        0.0, ge=0, le=0.5, description="share of the entries that every step of training hides from the encoder"
    )
    scored: Literal["seen", "known"] = Field(
        "seen", description="what is scored where entries are hidden: those that the encoder sees, or all"
    )

    @model_validator(mode="after")
    def _same_for_all_rows(self) -> Self:
        if self.shape.endswith("-d"):
            raise ValueError("likelihood='mixed' has the same variances for all rows; use shape='diag-i'")
        return self

    def build(self, facts: DataFacts) -> model.Likelihood:
        """Build it."""
        from vaelab import model

        numbers = DataFacts((facts.levels.count(0),), facts.data_variance)
        variance = self.variance.build(self.shape, self.least(facts.data_variance), numbers)
        return model.Mixed(facts.levels, variance, gaps=facts.gaps, ordered=facts.ordered)

    def hiding(self, entries: int) -> model.Hiding | None:
        """Return what hides entries, where any are to be."""
        from vaelab import model

        return model.Hiding(entries, self.hidden, self.scored) if self.hidden else None


class Bernoulli(Likelihood):
    """Pixels in [0, 1] by their cross-entropy."""

    kind: ClassVar[str] = "bernoulli"

    def build(self, facts: DataFacts) -> model.Likelihood:
        """Build it."""
        from vaelab import model

        return model.Bernoulli()


class ContinuousBernoulli(Likelihood):
    """Pixels in [0, 1] by the cross-entropy with its constant (Loaiza-Ganem & Cunningham 2019)."""

    kind: ClassVar[str] = "continuous_bernoulli"

    def build(self, facts: DataFacts) -> model.Likelihood:
        """Build it."""
        from vaelab import model

        return model.ContinuousBernoulli()


class LogisticMixture(Likelihood):
    """Bytes by a discretised mixture of logistics (Salimans et al. 2017)."""

    kind: ClassVar[str] = "logistic_mixture"
    components: int = Field(10, ge=1, description="of the mixture")

    def build(self, facts: DataFacts) -> model.Likelihood:
        """Build it."""
        from vaelab import model

        return model.DiscretizedLogisticMixture(self.components)
