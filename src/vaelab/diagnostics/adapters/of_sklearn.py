"""Estimators in the manner of scikit-learn: linear maps and manifolds that have an inverse, and bottlenecks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vaelab.diagnostics.adapters.wrapping import Wrapped
from vaelab.errors import InputError

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "identity": nn.Identity,
    "logistic": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
}


def of_sklearn(model: object) -> Wrapped | None:
    """Read an estimator with ``transform`` and ``inverse_transform``, or an `MLPRegressor`; None for anything else.

    Codes of an `MLPRegressor` are the activations of its narrowest hidden layer, the first of several. The networks are
    made of its own weights, without copies.

    Raises
    ------
    InputError
        An `MLPRegressor` that is not fitted, has no hidden layer, or was not fitted to return its input.
    """
    source: Any = model
    name = f"a scikit-learn {type(model).__name__}"
    if callable(getattr(source, "transform", None)) and callable(getattr(source, "inverse_transform", None)):
        dtype = _fitted_dtype(model)
        encode, decode = _Flat(source.transform, dtype), _Flat(source.inverse_transform, dtype)
        return Wrapped(encode, decode, arrays=True, name=name)
    if all(hasattr(source, part) for part in ("hidden_layer_sizes", "activation", "predict", "partial_fit")):
        return _bottleneck(source, name)
    return None


class _Flat:
    """A method of an estimator, whose rows are of rank 2 and of the type that it was fitted on."""

    def __init__(self, method: Any, dtype: np.dtype[Any] | None) -> None:
        self.method, self.dtype = method, dtype

    def __call__(self, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        found = self.method(values.reshape(len(values), -1).astype(self.dtype or values.dtype, copy=False))
        return np.asarray(found.toarray() if hasattr(found, "toarray") else found)


def _fitted_dtype(model: object) -> np.dtype[Any] | None:
    """Type of what an estimator, or the last of a pipeline's, has learned; some take no other. None if none is seen."""
    steps = getattr(model, "steps", None)
    last = steps[-1][1] if steps else model
    learned = (value for name, value in getattr(last, "__dict__", {}).items() if name.endswith("_"))
    return next((one.dtype for one in learned if isinstance(one, np.ndarray) and one.dtype.kind == "f"), None)


def _bottleneck(model: Any, name: str) -> Wrapped:
    if not hasattr(model, "coefs_") or not hasattr(model, "n_outputs_"):
        raise InputError(f"{name} that is not fitted", "a fitted one", "Call fit(X, X).")
    ends = int(model.n_features_in_), int(model.n_outputs_)
    if ends[0] != ends[1] or model.out_activation_ != "identity":
        got = f"{name} of {ends[0]} inputs and {ends[1]} outputs ({model.out_activation_})"
        raise InputError(got, "one that returns its input", "Call fit(X, X).")
    if len(model.coefs_) < 2:
        raise InputError(f"{name} without hidden layers", "one at least", "Set hidden_layer_sizes.")
    widths = [weight.shape[1] for weight in model.coefs_[:-1]]
    narrowest = widths.index(min(widths)) + 1
    return Wrapped(_layers(model, 0, narrowest), _layers(model, narrowest, len(model.coefs_)), name=name)


def _layers(model: Any, first: int, end: int) -> nn.Sequential:
    """Layers first … end − 1, each but the model's last with its activation."""
    layers: list[nn.Module] = [nn.Flatten()]
    for index in range(first, end):
        weight, bias = _shared(model.coefs_[index].T), _shared(model.intercepts_[index])
        linear = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
        linear.weight, linear.bias = nn.Parameter(weight), nn.Parameter(bias)
        layers.append(linear)
        if index < len(model.coefs_) - 1:
            layers.append(_ACTIVATIONS[model.activation]())
    return nn.Sequential(*layers)


def _shared(values: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(values)
