"""What a page decodes with: a program that it runs, or outputs that were computed beforehand."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vaelab.errors import InputError
from vaelab.model import Mixed
from vaelab.runs.explorer.program import halved, program_of
from vaelab.runs.graphs import Parts
from vaelab.runs.trained import Trained

STEPS = 9  # along an axis, of outputs that were computed beforehand
_CHECKED = 64  # numbers of a row by which a page sees that it computes the same
_MOST_PRODUCTS = 250_000_000  # of a run, which take a browser about half a second
_MOST_STEPS = 5_000


class Decoding(NamedTuple):
    """How a page decodes.

    Attributes
    ----------
    network
        z (n, κ) and c (n, *shape) or None → (n, m): `Decoder` with the weights that the page has.
    program
        What the page runs, as plain values; None where it cannot.
    reason
        Why it cannot, in a sentence without an end.
    rounded
        Whether weights are rounded to float16.
    """

    network: Decoder
    program: dict[str, Any] | None
    reason: str
    rounded: bool


class Decoder(nn.Module):
    """z and c, in the network's units, to (n, m): a row in the user's units, then the probabilities of all levels.

    The levels of categories stand column after column, in the order of the table.
    """

    def __init__(self, trained: Trained) -> None:
        super().__init__()
        parts = Parts(trained, exact=False)
        self.vae, self.units, self.size = parts.vae, parts.units, parts.size

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """Decode."""
        said, likelihood = self.vae.decoder(z, c), self.vae.likelihood
        x = self.units.from_net(likelihood.mean(said)).flatten(1)
        if not isinstance(likelihood, Mixed):
            return x
        shares = likelihood.shares(said)
        return torch.cat([x, *(shares[place].to(x.dtype) for place in sorted(shares))], 1)


def decoding_of(trained: Trained, c: Tensor | None, *, most: float) -> Decoding:
    """Return how a page decodes.

    Parameters
    ----------
    trained
        The model.
    c
        (1, *shape) a condition, in the network's units; None for a model without.
    most
        Bytes that the program's constants may have.
    """
    network = Decoder(trained).eval()
    exact = {name: value.clone() for name, value in network.vae.decoder.state_dict().items()}
    rounded = halved(network.vae.decoder)
    z = torch.zeros(1, network.size)
    try:
        program = program_of(network, (z,) if c is None else (z, c), ("z", "c")[: 1 if c is None else 2])
        reason = ""
        if program.size > most:
            reason = f"the decoder has {program.size / 1e6:.3g} MB, more than the {most / 1e6:.3g} MB of a page"
        elif program.products > _MOST_PRODUCTS or len(program.steps) > _MOST_STEPS:
            reason = "a browser would take too long for the decoder"
    except InputError as error:
        reason = str(error.got)
    if not reason:
        return Decoding(network, program.plain() | {"check": _check(network, c)}, "", rounded)
    network.vae.decoder.load_state_dict(exact)
    return Decoding(network, None, reason, False)


def _check(network: Decoder, c: Tensor | None) -> dict[str, Any]:
    """Return a code, and what some places of its output are."""
    z = torch.linspace(-1.5, 1.5, network.size)[None]
    with torch.no_grad():
        wanted = network(z, c)[0].double()
    places = torch.linspace(0, len(wanted) - 1, min(_CHECKED, len(wanted))).round().long()
    given = [z[0].tolist()] if c is None else [z[0].tolist(), c.flatten().tolist()]
    return {"given": given, "places": places.tolist(), "values": wanted[places].tolist()}


@torch.no_grad()
def outputs_along(network: Decoder, axes: list[dict[str, Any]], c: Tensor | None) -> Tensor:
    """(axes · STEPS, m) what comes out where one axis moves from its low to its high end, and the others rest."""
    codes = []
    rest = torch.zeros(network.size)
    for axis in axes:
        rest[axis["index"]] = axis["centre"]
    for axis in axes:
        for value in torch.linspace(axis["low"], axis["high"], STEPS):
            codes.append(rest.clone())
            codes[-1][axis["index"]] = value
    return decoded(network, torch.stack(codes), c)


@torch.no_grad()
def decoded(network: Decoder, z: Tensor, c: Tensor | None) -> Tensor:
    """(n, m) outputs of codes, under their conditions or one for all, a few at a time."""
    parts, step = [], max(1, 2**22 // max(1, math.prod(network.units.event_shape)))
    for start in range(0, len(z), step):
        own = z[start : start + step]
        given = None if c is None else c.expand(len(own), *c.shape[1:]) if len(c) == 1 else c[start : start + step]
        parts.append(network(own, given))
    return torch.cat(parts)
