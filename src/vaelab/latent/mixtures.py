"""Gaussian mixtures on latent codes, and how the size of a mixture is chosen."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, Self, TypeVar, final

import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from vaelab.arguments import short_seed
from vaelab.errors import InputError
from vaelab.latent.codes import Codes
from vaelab.latent.densities import LatentDensity, Normals, clearly_better
from vaelab.latent.stepwise import stepwise_em
from vaelab.training import stream

Covariance = Literal["full", "diag"]

LEAST_TO_CHOOSE = 20
"""Codes; with fewer, no two mixtures can be told apart."""

RIDGE = 1e-5
"""Added to the variances of every component."""

MOST = 50_000
"""Codes that a mixture is fitted on, at most."""

FEW = 5_000
"""Below so many codes the size of a mixture is chosen by BIC: too few could be held out to tell sizes apart."""

_SIZES_OF_FEW = (1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 30, 40)
_FITS_OF_FEW = 5

_BLOCK = 4096  # rows scored at once
_TO_CHOOSE = 25_000  # codes that a size is chosen on, four fifths to fit and a fifth to score
_MANY = 5e8  # products in one step of EM, above which it is done on batches


def check_parameters(weights: Tensor, means: Tensor, factors: Tensor) -> None:
    """Refuse what is no mixture: (k,) weights, (k, κ) means and (k, κ, κ) Cholesky factors.

    Raises
    ------
    InputError
        Shapes differ, weights are negative or do not sum to 1, or a factor is singular.
    """
    k = weights.shape[0] if weights.ndim == 1 else 0
    shaped = means.ndim == 2 and len(means) == k > 0 and tuple(factors.shape) == (*means.shape, means.shape[1])
    if not shaped or not bool((factors.diagonal(dim1=1, dim2=2) > 0).all()):
        shapes = ", ".join(str(tuple(each.shape)) for each in (weights, means, factors))
        raise InputError(f"a saved mixture of {shapes}", "(k,), (k, κ) and (k, κ, κ), with factors of full rank")
    if not bool((weights >= 0).all()) or abs(float(weights.sum()) - 1) > 1e-3:
        raise InputError("a saved mixture with weights that are no probabilities", "numbers from 0 that sum to 1")


@final
class Mixture(LatentDensity):
    """A mixture of k Gaussians, fitted by scikit-learn's EM or variational inference; k = 1 is the single Gaussian.

    Parameters
    ----------
    weights
        (k,) summing to one.
    means
        (k, κ).
    scale_trils
        (k, κ, κ) lower Cholesky factors of the covariances.
    covariance
        Which structure was fitted.
    """

    weights: Tensor
    means: Tensor
    scale_trils: Tensor

    def __init__(self, weights: Tensor, means: Tensor, scale_trils: Tensor, *, covariance: Covariance = "full") -> None:
        super().__init__()
        self.covariance = covariance
        self.register_buffer("weights", weights)
        self.register_buffer("means", means)
        # rows first, as a loaded one has it: products of another layout differ in their last bits
        self.register_buffer("scale_trils", scale_trils.contiguous())

    @property
    def components(self) -> int:
        """K."""
        return len(self.weights)

    @classmethod
    def fit(cls, codes: Codes, *, components: int, covariance: Covariance = "full", seed: int = 0) -> Self:
        """Fit on one fresh draw per row (at most 50,000 rows).

        Time is that of rows × components × κ² (full) or κ (diagonal) numbers per step of EM: for 50,000 rows and 100
        full components a step takes about a second at κ = 16 and six at κ = 64 on one core, and there are at most 200.

        Raises
        ------
        InputError
            Fewer rows than components.
        """
        return cls._of(maximise(draws(codes, MOST, seed)[0], components, covariance, seed), codes, covariance)

    @classmethod
    def fit_bayesian(cls, codes: Codes, *, components: int = 10, seed: int = 0) -> Self:
        """Fit at most k full components, whose number the data decide, by variational inference: see `infer`.

        Rows and time are those of `fit`.

        Raises
        ------
        InputError
            Fewer rows than components.
        """
        return cls._of(infer(draws(codes, MOST, seed)[0], components, seed), codes, "full")

    @classmethod
    def _of(cls, found: Maximum, codes: Codes, covariance: Covariance) -> Self:
        placed = [part.to(codes.loc) for part in (found.weights, found.means, torch.linalg.cholesky(found.covariances))]
        return cls(placed[0], placed[1], placed[2], covariance=covariance)

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> Self:
        """Rebuild from `state_dict`.

        Raises
        ------
        InputError
            It is no mixture's.
        """
        check_parameters(state["weights"], state["means"], state["scale_trils"])
        factors = state["scale_trils"]
        covariance: Covariance = "diag" if bool((factors.tril(-1) == 0).all()) else "full"
        return cls(state["weights"], state["means"], factors, covariance=covariance)

    @classmethod
    def select(
        cls, codes: Codes, *, components: int | None = None, covariance: Covariance | None = None, seed: int = 0
    ) -> Self:
        """Choose k and the covariance structure, where not given.

        Of fewer than 5,000 codes without a given k: by BIC, and if that is above 1 the mean of five such mixtures,
        each fitted to fresh draws from a start of its own: on unseen codes it is better than any of them. Idle
        dimensions, of which it takes no notice, have a normal law of their own. Else on codes held out of the fit: see
        `choose`.
        """
        if components is None and LEAST_TO_CHOOSE <= len(codes) < FEW:
            return cls._of_few(codes, covariance, seed)

        def of(part: Codes, k: int, structure: Covariance) -> Self:
            return cls.fit(part, components=k, covariance=structure, seed=seed)

        return choose(of, codes, components=components, covariance=covariance, seed=seed)

    @classmethod
    def _of_few(cls, codes: Codes, covariance: Covariance | None, seed: int) -> Self:
        """Choose by BIC (Schwarz 1978), of the dimensions that are used."""
        used = ~codes.idle
        if 0 < int(used.sum()) < len(used):
            mean, std = codes.moments()
            return cls._of_few(codes.of_dimensions(used), covariance, seed)._beside(used, mean, std)
        z, _ = draws(codes, None, seed)
        found: list[tuple[float, Self]] = []
        for structure in [covariance] if covariance else _structures():
            own: list[float] = []
            for k in _SIZES_OF_FEW:
                if k > 1 and (10 * k > len(codes) or min(own) < min(own[-2:])):  # two in a row are worse than another
                    break
                one = cls._quietly(codes, k, structure, seed)
                own.append(one._freedom * math.log(len(z)) - 2 * float(one.log_prob(z).double().sum()))
                found.append((own[-1], one))
        best = min(found, key=lambda each: each[0])[1]
        if best.components == 1:
            return best
        others = [cls._quietly(codes, best.components, best.covariance, seed + n) for n in range(1, _FITS_OF_FEW)]
        parts = [best, *others]
        return cls(
            torch.cat([part.weights for part in parts]) / len(parts),
            torch.cat([part.means for part in parts]),
            torch.cat([part.scale_trils for part in parts]),
            covariance=best.covariance,
        )

    @classmethod
    def _quietly(cls, codes: Codes, components: int, covariance: Covariance, seed: int) -> Self:
        from sklearn.exceptions import ConvergenceWarning

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a size that does not settle is judged as it is
            return cls.fit(codes, components=components, covariance=covariance, seed=seed)

    @property
    def _freedom(self) -> int:
        size = self.means.shape[1]
        spread = size * (size + 1) // 2 if self.covariance == "full" else size
        return self.components * (1 + size + spread) - 1

    def _beside(self, used: Tensor, mean: Tensor, std: Tensor) -> Self:
        """Return the law of all dimensions, of which these are the used ones; the others are independent normals."""
        means, factors = mean.repeat(self.components, 1), std.diag().repeat(self.components, 1, 1)
        means[:, used] = self.means
        factors[:, used.nonzero(), used.nonzero()[:, 0]] = self.scale_trils
        return type(self)(self.weights, means, factors, covariance=self.covariance)

    def _law(self) -> MixtureSameFamily:
        parts = MultivariateNormal(self.means, scale_tril=self.scale_trils, validate_args=False)
        return MixtureSameFamily(Categorical(self.weights, validate_args=False), parts, validate_args=False)

    def draw(self, n: int, c: Tensor | None, normals: Normals) -> Tensor:
        """Draw (n, κ)."""
        if not n:
            return self.means.new_empty(0, self.means.shape[1])
        which = torch.multinomial(self.weights, n, replacement=True, generator=normals.generator)
        noise = normals.like(n, self.means)
        out = torch.empty_like(noise)
        for k in range(self.components):  # one factor at a time, instead of n copies of κ × κ
            chosen = which == k
            out[chosen] = self.means[k] + noise[chosen] @ self.scale_trils[k].T
        return out

    def log_prob(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """(n,) nats."""
        law, block = self._law(), max(1, _BLOCK * 10 // self.components)
        return torch.cat([law.log_prob(part) for part in z.split(block)])

    def extra_repr(self) -> str:
        """Show what was fitted in ``repr``."""
        return f"components={self.components}, covariance={self.covariance!r}"


class Maximum(NamedTuple):
    """A Gaussian mixture where its likelihood is greatest, or its posterior mean; float64 on the CPU.

    Attributes
    ----------
    weights, means, covariances
        (k,), (k, d), (k, d, d).
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor


def maximise(rows: Tensor, components: int, covariance: Covariance, seed: int) -> Maximum:
    """Fit k Gaussians to (n, d) rows by scikit-learn's EM, or where that takes minutes by `stepwise_em`.

    Raises
    ------
    InputError
        Fewer rows than components.
    """
    from sklearn.mixture import GaussianMixture

    _check_enough(rows, components)
    numbers = rows.shape[1] ** (2 if covariance == "full" else 1)
    if len(rows) * components * numbers > _MANY:
        try:
            found = stepwise_em(rows.double(), components, ridge=RIDGE, seed=seed, diagonal=covariance == "diag")
        except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
            got = f"codes whose covariance is singular within a component ({error})"
            raise InputError(
                got, "codes of comparable scales", "Use fewer components, or a diagonal covariance."
            ) from error
        return Maximum(*(part.cpu() for part in found))
    # float64 and a ridge well above rounding, since idle dimensions make some covariances nearly alike
    model = GaussianMixture(
        components,
        covariance_type=covariance,
        max_iter=200,
        reg_covar=RIDGE,
        random_state=short_seed(seed),
        init_params="k-means++",
    ).fit(rows.double().cpu().numpy())
    covariances = torch.as_tensor(model.covariances_)
    full = torch.diag_embed(covariances) if covariance == "diag" else covariances
    return Maximum(torch.as_tensor(model.weights_), torch.as_tensor(model.means_), full)


def infer(rows: Tensor, components: int, seed: int) -> Maximum:
    """Fit k Gaussians with priors to (n, d) rows, and return the means of their posterior.

    Weights have a (truncated) Dirichlet-process prior of concentration 1/k, so that components which the data do not
    need fade away; means and precisions have scikit-learn's default Gaussian-Wishart prior. This is what the program of
    Ghosh et al. 2020 reports its best scores with. Posterior means are put in the place of the parameters; the
    predictive density is a mixture of Student's t, which n rows of every component bring close to that.

    Raises
    ------
    InputError
        Fewer rows than components.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import BayesianGaussianMixture

    _check_enough(rows, components)
    model = BayesianGaussianMixture(
        n_components=components,
        covariance_type="full",
        weight_concentration_prior=1 / components,
        max_iter=200,
        reg_covar=RIDGE,
        random_state=short_seed(seed),
        init_params="k-means++",
    )
    with warnings.catch_warnings():
        # the bound creeps long after the density has settled
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(rows.double().cpu().numpy())
    weights = torch.as_tensor(model.weights_)
    return Maximum(weights / weights.sum(), torch.as_tensor(model.means_), torch.as_tensor(model.covariances_))


def _check_enough(rows: Tensor, components: int) -> None:
    if len(rows) < max(components, 2):
        raise InputError(f"{len(rows)} codes", f"at least {max(components, 2)} for {components} components")


D = TypeVar("D", bound=LatentDensity)


def choose(
    fit: Callable[[Codes, int, Covariance], D],
    codes: Codes,
    *,
    components: int | None,
    covariance: Covariance | None,
    seed: int,
) -> D:
    """Fit mixtures, and choose k and the covariance structure, where not given, by the likelihood of held-out codes.

    Candidates are fitted on at most 20,000 codes, the winner on all. A larger mixture must be better than the best
    smaller one by more than twice the standard error of their difference, or the search stops.

    Parameters
    ----------
    fit
        Fits k components of a structure to codes.
    codes
        To fit, with their conditions if the density is conditional; its score is then log p(z | c).
    components, covariance
        What is given.
    seed
        Of the split and the draws.
    """
    if components is not None and covariance is not None:
        return fit(codes, components, covariance)
    if len(codes) < LEAST_TO_CHOOSE:
        return fit(codes, components or 1, covariance or "diag")
    order = torch.randperm(len(codes), generator=stream("cpu", seed, "select")).to(codes.loc.device)[:_TO_CHOOSE]
    cut = max(1, len(order) // 5)
    rest = codes.subset(order[cut:])
    z, c = draws(codes.subset(order[:cut]), None, seed + 1)
    counts = [k for k in (1, 2, 5, 10, 20, 50, 100, 200) if k * 10 <= len(rest)] or [1]
    best: tuple[Tensor, int, Covariance] | None = None
    for structure in [covariance] if covariance else _structures():
        for k in [components] if components else counts:
            scores = fit(rest, k, structure).log_prob(z, c).double()
            if best is not None and not clearly_better(scores, best[0]):
                if structure == best[2]:
                    break
                continue
            best = scores, k, structure
    assert best is not None
    return fit(codes, best[1], best[2])


def draws(codes: Codes, most: int | None, seed: int) -> tuple[Tensor, Tensor | None]:
    """One fresh (z, c) for every row, or for `most` rows chosen at random."""
    if most is not None and len(codes) > most:
        chosen = torch.randperm(len(codes), generator=stream("cpu", seed, "rows"))[:most].to(codes.loc.device)
        codes = codes.subset(chosen)
    return codes.pairs(generator=stream(codes.loc.device, seed, "draws"))


def vector_conditions(codes: Codes) -> Tensor:
    """(n, width) conditions of the codes.

    Raises
    ------
    InputError
        They have none, or sequences.
    """
    if codes.c is None:
        raise InputError("codes without conditions", "codes with conditions", "Fit a Mixture.")
    index = torch.arange(len(codes), device=codes.loc.device)
    shape = tuple(codes.c.index_select(0, index[:1]).shape[1:])
    if len(shape) != 1:
        raise InputError(
            f"a mixture given conditions of shape {shape}",
            "vectors of shape (width,)",
            "Use the density second_stage, flow or flow_matching, which read sequences.",
        )
    return codes.c.index_select(0, index)


def _structures() -> tuple[Covariance, ...]:
    return ("full", "diag")
