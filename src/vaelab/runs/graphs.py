"""What a model does as functions of tensors in the user's units, each a module that `torch.export` can trace."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from vaelab.data.units import ConditionUnits, Ties, Units
from vaelab.errors import InputError
from vaelab.latent import LatentDensity, PriorDensity
from vaelab.latent.from_noise import draws_of
from vaelab.latent.mixtures import Mixture
from vaelab.model import no_encoder
from vaelab.model.from_noise import emission_of
from vaelab.runs.trained import FARTHEST, Trained

Graph = Literal["encode", "decode", "reconstruct", "score", "sample"]
GRAPHS: tuple[Graph, ...] = get_args(Graph)


class Port(NamedTuple):
    """One input or output: rows of a shape and a dtype."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype


class Function(nn.Module):
    """One function of a model, with what changes units inside.

    Attributes
    ----------
    inputs, output
        Its tensors.
    """

    def __init__(
        self,
        parts: Parts,
        inputs: tuple[Port, ...],
        output: Port,
        call: Callable[[Tensor, Tensor | None], Tensor],
        beside: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.inputs, self.output, self._call = inputs, output, call
        self.vae, self.units, self.condition, self.beside = parts.vae, parts.units, parts.condition, beside
        if parts.condition is not None:
            self.inputs = (*inputs, Port("c", parts.condition.shape, torch.float64))

    def forward(self, given: Tensor, c: Tensor | None = None) -> Tensor:
        """Map rows, codes or noise, and conditions where the model has them."""
        return self._call(given, c if self.condition is None or c is None else self.condition(c))


class Parts:
    """Copies of a model's parts on the CPU, in evaluation mode; networks of tables in float64 where it is wanted."""

    def __init__(self, trained: Trained, *, exact: bool) -> None:
        self.trained = trained
        self.dtype = torch.float64 if exact and trained.facts.kind == "table" else torch.float32
        self.vae = copy.deepcopy(trained.vae).cpu().to(self.dtype).eval()
        self.units = Units(trained.scaling)
        self.condition = None if trained.conditioning is None else ConditionUnits(trained.conditioning)
        self.size, self.event = self.vae.latent_dim, tuple(trained.facts.event_shape)

    @property
    def rows(self) -> Port:
        """Rows in the user's units."""
        return Port("x", self.event, self.units.dtype)

    @property
    def codes(self) -> Port:
        """Codes."""
        return Port("z", (self.size,), torch.float32)

    def known(self, x: Tensor, out: Tensor) -> Tensor:
        """Return what comes of rows, NaN for rows with gaps of whitened columns: a graph fills none."""
        if self.trained.schema is None or self.trained.components() is None:
            return out
        gone = x.isnan().any(1).view(-1, *(1,) * (out.ndim - 1))
        return torch.where(gone, torch.nan, out)

    def taken(self, x: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return rows and conditions as the networks take them."""
        return self.units.to_net(x, self.dtype), None if c is None else c.to(self.dtype)


def function_of(
    trained: Trained, what: Graph, *, density: str = "auto", score_draws: int = 16, exact: bool = True
) -> Function:
    """Return one function of a model.

    Parameters
    ----------
    trained
        The model; it is copied.
    what
        ``"encode"``: x → z, posterior means. ``"decode"``: z → x, decoder means. ``"reconstruct"``: x → x.
        ``"score"``: x → (n,) nats, `Trained.bound` with the noise of `score_samples`. ``"sample"``: standard normals
        → new x, with the decoder's noise for tables, as `Trained.sample`.
    density
        Of z, for ``"sample"``.
    score_draws
        Of z per row, for ``"score"``.
    exact
        Encode and score tables in float64, as `Trained` does.

    Notes
    -----
    Where the code of a mixed table is the whitened columns, rows with gaps give NaN but for ``"decode"`` and
    ``"sample"``: what `Trained` does with them is no graph.

    Raises
    ------
    InputError
        Another `what`, no such density, one whose draws are no map of normals, or a score of a model that has none.
    """
    if not isinstance(what, str) or what not in GRAPHS:
        raise InputError(f"what={what!r}", f"one of {', '.join(GRAPHS)}")
    if what == "sample":
        return _sample(trained, density)
    if what != "decode" and what in GRAPHS and not trained.encodes:
        raise no_encoder(f"what={what!r}")
    if what == "score":
        return _score(trained, score_draws, exact=exact)
    if what == "encode":
        return _encode(trained, exact=exact)
    return (_decode if what == "decode" else _reconstruct)(trained)


def _encode(trained: Trained, *, exact: bool) -> Function:
    parts = Parts(trained, exact=exact)

    def call(x: Tensor, c: Tensor | None) -> Tensor:
        return parts.known(x, parts.vae.encode(*parts.taken(x, c)).mean.float())

    return Function(parts, (parts.rows,), parts.codes, call)


def _decode(trained: Trained) -> Function:
    parts = Parts(trained, exact=False)

    def call(z: Tensor, c: Tensor | None) -> Tensor:
        return parts.units.from_net(parts.vae.decode(z, c))

    return Function(parts, (parts.codes,), parts.rows, call)


def _reconstruct(trained: Trained) -> Function:
    parts = Parts(trained, exact=False)

    def call(x: Tensor, c: Tensor | None) -> Tensor:
        return parts.known(x, parts.units.from_net(parts.vae.reconstruct(*parts.taken(x, c))))

    return Function(parts, (parts.rows,), parts.rows._replace(name="reconstruction"), call)


def _score(trained: Trained, draws: int, *, exact: bool) -> Function:
    parts = Parts(trained, exact=exact)
    law = None if trained.law_of_rows is None else _Law(trained.densities[trained.law_of_rows])
    noise = trained.score_noise(draws).to(parts.dtype)[:, None]

    def call(x: Tensor, c: Tensor | None) -> Tensor:
        own, c = parts.taken(x, c)
        if parts.dtype == torch.float64:
            own = own.clamp(-FARTHEST, FARTHEST)
        distortion, kl = parts.vae.elbo(own, c, noise=noise, law=law)
        return parts.known(x, -(distortion + kl).double() - parts.units.log_volume(x))

    return Function(parts, (parts.rows,), Port("nats", (), torch.float64), call, law)


def _sample(trained: Trained, density: str) -> Function:
    parts = Parts(trained, exact=False)
    law = copy.deepcopy(trained.generator(density).density).cpu().eval()
    if isinstance(law, PriorDensity):
        law = PriorDensity(parts.vae.prior)  # whose network, if it has one, is the encoder's
    draws, likelihood = draws_of(law), parts.vae.likelihood
    drawn = trained.draws_noise
    emission = emission_of(likelihood, parts.event) if drawn else None
    schema = trained.schema
    ties = None if schema is None or not any(column.tie for column in schema.columns) else Ties(schema)

    def call(noise: Tensor, c: Tensor | None) -> Tensor:
        z = draws.of(noise[:, : draws.normals], c).float()
        said = parts.vae.decoder(z, c)
        x = likelihood.mean(said) if emission is None else emission.of(said, noise[:, draws.normals :])
        own = parts.units.from_net(x)
        return own if ties is None else ties(own)

    beside = [law, *([] if ties is None else [ties])]
    width = draws.normals + (0 if emission is None else emission.normals)
    return Function(parts, (Port("noise", (width,), torch.float32),), parts.rows, call, nn.ModuleList(beside))


class _Law(nn.Module):
    """(n, κ) → (n,) log-density of a mixture, nats, by matrices that are inverted here: graphs solve no equations."""

    def __init__(self, density: LatentDensity) -> None:
        super().__init__()
        if not isinstance(density, Mixture):
            raise InputError(f"scores under {type(density).__name__}", "under a Gaussian or a mixture")
        exact = copy.deepcopy(density).cpu().double()
        whitening = torch.linalg.inv(exact.scale_trils)
        constant = whitening.diagonal(dim1=1, dim2=2).log().sum(1) - 0.5 * whitening.shape[1] * math.log(2 * math.pi)
        self.register_buffer("whitening", whitening)
        self.register_buffer("means", exact.means)
        self.register_buffer("constant", (exact.weights / exact.weights.sum()).log() + constant)

    def forward(self, z: Tensor) -> Tensor:
        """Score (n, κ) codes."""
        shift = z.double()[:, None] - self.get_buffer("means")
        white = (self.get_buffer("whitening") @ shift[..., None])[..., 0]
        return (self.get_buffer("constant") - 0.5 * white.square().sum(2)).logsumexp(1)
