"""Smaller networks from trained ones: some outputs of an encoder, some latent dimensions of a decoder.

Both work in place. What is left is an ordinary network of the smaller size, with the weights of what was kept.
"""

from __future__ import annotations

from functools import singledispatch

import torch
from torch import Tensor, nn

from vaelab.errors import InputError
from vaelab.nets.conditioning import ConditionReader, Embedded, Gated
from vaelab.nets.convolution import SpectralLinear
from vaelab.nets.mlp import MLP
from vaelab.nets.network import Decoder, Encoder
from vaelab.nets.recurrent import LSTMDecoder, LSTMEncoder


@singledispatch
def keep_outputs(network: nn.Module, index: Tensor) -> None:
    """Keep some of the numbers that an encoder or a condition's network emits, and drop the rows behind the others.

    Parameters
    ----------
    network
        Any encoder of the house, with or without an embedding, or a network from c to numbers; changed in place.
    index
        (m,) int64 outputs to keep, in their new order.

    Raises
    ------
    InputError
        The network is of another kind.
    """
    raise _unknown(network)


@singledispatch
def keep_latents(network: nn.Module, index: Tensor) -> None:
    """Keep some of the latent dimensions that a decoder reads, as if the others were always 0.

    Parameters
    ----------
    network
        Any decoder of the house, with or without gate and embedding; changed in place.
    index
        (m,) int64 dimensions to keep, in their new order.

    Raises
    ------
    InputError
        The network is of another kind.
    """
    raise _unknown(network)


@keep_outputs.register
def _(network: Encoder, index: Tensor) -> None:
    _keep_rows(network.head, index)
    network.out_features = len(index)


@keep_outputs.register
def _(network: LSTMEncoder, index: Tensor) -> None:
    _keep_rows(network.head, index)
    network.out_features = len(index)


@keep_outputs.register(MLP)
@keep_outputs.register(ConditionReader)
@keep_outputs.register(nn.Linear)
def _(network: nn.Module, index: Tensor) -> None:
    _keep_rows(network, index)


@keep_outputs.register
def _(network: Embedded, index: Tensor) -> None:
    keep_outputs(network.network, index)
    _resize(network, "out_features", len(index))


@keep_latents.register
def _(network: Decoder, index: Tensor) -> None:
    _keep_columns(network.body, network.latent_dim, index)
    network.latent_dim = len(index)


@keep_latents.register
def _(network: LSTMDecoder, index: Tensor) -> None:
    _keep_columns(network.body, network.latent_dim, index)
    network.latent_dim = len(index)


@keep_latents.register
def _(network: Embedded, index: Tensor) -> None:
    keep_latents(network.network, index)
    _resize(network, "latent_dim", len(index))


@keep_latents.register
def _(network: Gated, index: Tensor) -> None:
    keep_latents(network.decoder, index)
    if network.raw is None:
        network.vector = nn.Parameter(network.vector.detach()[index].clone())
    else:
        keep_outputs(network.raw, index)
    network.latent_dim = len(index)


def _keep_rows(body: nn.Module, index: Tensor) -> None:
    """Keep some outputs of the last dense layer."""
    layers = [layer for layer in body.modules() if isinstance(layer, nn.Linear)]
    last = layers[-1]
    if isinstance(last, SpectralLinear):
        _keep_spectral_rows(body, last, index)
        return
    _replace(last, last.weight.detach()[index], None if last.bias is None else last.bias.detach()[index])


def _keep_spectral_rows(body: nn.Module, last: SpectralLinear, index: Tensor) -> None:
    """Do the same where the layer divides by the norm of its weight, which is smaller for fewer rows.

    W/σ has rows of norm s ≤ 1 together, and the smaller layer would divide by s. The batch norm before it makes up for
    that: what stands between them only scales with its input.
    """
    before = list(body.modules())[-3:-1]
    if len(before) < 2:
        raise InputError("a spectral layer by itself", "one after batch norm and a ReLU", "Train a smaller one.")
    norm, activation = before
    if not isinstance(norm, nn.BatchNorm1d) or not isinstance(activation, nn.ReLU | nn.LeakyReLU):
        raise InputError(f"a spectral layer after {type(norm).__name__}", "one after batch norm and a ReLU")
    weight = last.weight.detach()
    v = nn.functional.normalize(weight.T @ last.u, dim=0)
    left, values, _ = torch.linalg.svd(weight[index], full_matrices=False)
    share = values[0] / (weight @ v).norm()
    with torch.no_grad():
        norm.weight.mul_(share)
        norm.bias.mul_(share)
    _replace(last, weight[index], last.bias.detach()[index])
    last.u = left[:, 0].clone()


def _keep_columns(body: nn.Module, latent_dim: int, index: Tensor) -> None:
    """Keep some of the first `latent_dim` inputs of the first dense layer, and of a skip, and all others."""
    perceptron = next((module for module in body.modules() if isinstance(module, MLP)), None)
    first = next(layer for layer in body.modules() if isinstance(layer, nn.Linear))
    read = [first]
    if perceptron is not None and perceptron.skip:
        read.append(perceptron.output)  # its input starts with that of the first layer
    for layer in read:
        if isinstance(layer, SpectralLinear):  # divides by the norm of its weight, which fewer columns make smaller
            raise InputError("a spectral layer that reads z", "a plain one", "Train again with the smaller latent_dim.")
        others = torch.arange(latent_dim, layer.in_features, device=index.device)
        columns = torch.cat([index, others]).to(layer.weight.device)
        _replace(layer, layer.weight.detach()[:, columns], layer.bias.detach())


def _replace(layer: nn.Linear, weight: Tensor, bias: Tensor | None) -> None:
    """Give a dense layer other weights, of another shape."""
    layer.weight = nn.Parameter(weight.clone(), requires_grad=layer.weight.requires_grad)
    if bias is not None:
        layer.bias = nn.Parameter(bias.clone(), requires_grad=layer.bias.requires_grad)
    layer.out_features, layer.in_features = weight.shape


def _resize(network: Embedded, name: str, size: int) -> None:
    """Set what a wrapper repeats of the network inside."""
    setattr(network, name, size)


def _unknown(network: nn.Module) -> InputError:
    return InputError(
        f"a network of type {type(network).__name__}",
        "a network of vaelab.nets",
        "Prune before wrapping it or absorbing a prior, or train again with the smaller latent_dim.",
    )
