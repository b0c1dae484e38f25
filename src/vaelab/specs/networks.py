"""Encoders and decoders: names of families with their options, or your own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field

from vaelab.errors import InputError
from vaelab.spec import Value

if TYPE_CHECKING:
    from torch import nn

Activation = Literal["relu", "leaky_relu", "prelu", "silu", "tanh"]
Takes = Literal["tables", "images", "sequences", "anything"]


@dataclass(frozen=True)
class Shapes:
    """What a pair of networks has to fit.

    Attributes
    ----------
    event_shape
        Of one x, as the encoder gets it.
    latent_dim
        Numbers that the decoder gets.
    encoder_outputs
        Numbers that the encoder returns for a row: the posterior's parameters.
    decoder_shape
        Shape of what the decoder returns for a row: the likelihood's parameters.
    condition_dim
        Width of the condition c that both get as a second argument, embedded; 0 for none.
    condition_shape
        Of the condition as it comes; () for none.
    """

    event_shape: tuple[int, ...]
    latent_dim: int
    encoder_outputs: int
    decoder_shape: tuple[int, ...]
    condition_dim: int = 0
    condition_shape: tuple[int, ...] = ()


class Network(Value):
    """A pair of networks.

    Attributes
    ----------
    takes
        Which data.
    scale
        How the encoder's numbers become σ, where they do.
    least_batch
        Rows that a step needs.
    embeds
        Whether c comes to it embedded; else it reads c as it comes.
    """

    axis: ClassVar[str] = "network"
    takes: ClassVar[Takes] = "images"
    scale: ClassVar[Literal["exp", "softplus"]] = "exp"
    least_batch: ClassVar[int] = 2  # for batch norm
    embeds: ClassVar[bool] = True

    @classmethod
    def of(cls, value: object) -> Network:
        """Return what a name, text, mapping, function of `Shapes` or pair of modules stands for; see `Value.of`."""
        if isinstance(value, str) and ":" in value:
            return Own(place=value)
        if callable(value) or isinstance(value, tuple):
            return Own.around(value)
        return super().of(value)

    def build(self, shapes: Shapes) -> tuple[nn.Module, nn.Module]:
        """Return encoder and decoder, with fresh weights from torch's global generator."""
        raise NotImplementedError

    def resolve(self, event_shape: tuple[int, ...], *, steps: int) -> Network:
        """Fill in what depends on the shape of the data and on the length of the training.

        Raises
        ------
        InputError
            The network does not take such data.
        """
        image = len(event_shape) == 3
        if self.takes == "images" and not image:
            got = f"network={self.kind!r} for rows of shape {event_shape}"
            raise InputError(got, "images (n, C, H, W)", "Use 'mlp'.")
        return self


class Auto(Network):
    """InfoGAN for images, a multilayer perceptron for tables."""

    kind: ClassVar[str] = "auto"
    takes: ClassVar[Takes] = "anything"

    def resolve(self, event_shape: tuple[int, ...], *, steps: int) -> Network:
        """Return the network for such data."""
        chosen: Network = InfoGAN() if len(event_shape) == 3 else MLP()
        return chosen.resolve(event_shape, steps=steps)

    def build(self, shapes: Shapes) -> tuple[nn.Module, nn.Module]:
        """Build the network for such data."""
        return self.resolve(shapes.event_shape, steps=10_000).build(shapes)


class MLP(Network):
    """Multilayer perceptrons."""

    kind: ClassVar[str] = "mlp"
    takes: ClassVar[Takes] = "anything"
    least_batch: ClassVar[int] = 1
    hidden: tuple[int, ...] = Field((256, 256), min_length=1, description="hidden widths")
    activation: Activation = Field("silu", description="after each hidden layer")
    skip: bool = Field(False, description="let the input join the last hidden layer")
    start: Literal["random", "linear"] | None = Field(
        None,
        description="weights of a table's network at first: random, or those that make it the best linear model of the "
        "rows; default: random, and where that ends no better than a Gaussian, or γ is one per column, the other too",
    )

    def build(self, shapes: Shapes) -> tuple[nn.Module, nn.Module]:
        """Build both, the decoder with the widths in reverse."""
        from vaelab import nets

        encoder = nets.MLPEncoder(
            shapes.event_shape,
            shapes.encoder_outputs,
            hidden=self.hidden,
            skip=self.skip,
            activation=self.activation,
            condition_dim=shapes.condition_dim,
        )
        decoder = nets.MLPDecoder(
            shapes.latent_dim,
            shapes.decoder_shape,
            hidden=self.hidden[::-1],
            skip=self.skip,
            activation=self.activation,
            condition_dim=shapes.condition_dim,
        )
        return encoder, decoder


class LSTM(Network):
    """Networks of a `SequenceVAE`, which read the points before a point."""

    kind: ClassVar[str] = "lstm"
    takes: ClassVar[Takes] = "sequences"
    least_batch: ClassVar[int] = 1
    embeds: ClassVar[bool] = False
    units: int = Field(32, ge=1, description="width of each LSTM")

    def build(self, shapes: Shapes) -> tuple[nn.Module, nn.Module]:
        """Build both."""
        from vaelab import nets

        if len(shapes.condition_shape) != 2:
            got = f"network='lstm' with a condition of shape {shapes.condition_shape}"
            raise InputError(got, "windows of earlier points (T, channels)", "Use SequenceVAE.")
        options: dict[str, Any] = {"condition_shape": shapes.condition_shape, "units": self.units}
        return (
            nets.LSTMEncoder(shapes.event_shape, shapes.encoder_outputs, **options),
            nets.LSTMDecoder(shapes.latent_dim, shapes.decoder_shape, **options),
        )


class Convolutional(Network):
    """What the families for images share; itself no value.

    Attributes
    ----------
    family
        What the names of encoder and decoder in `vaelab.nets` begin with.
    """

    family: ClassVar[str]

    norm_decay: float | None = Field(
        None, gt=0, lt=1, description="decay of batch norm's running averages; default: 0.99, less in short trainings"
    )

    def resolve(self, event_shape: tuple[int, ...], *, steps: int) -> Self:
        """Fill in the decay of running averages."""
        super().resolve(event_shape, steps=steps)
        # averages over more than a twentieth of a training lag behind its weights, and spoil what is seen of it
        decay = self.norm_decay or min(0.99, max(0.5, 1 - 20 / steps))
        return self.model_copy(update={"norm_decay": decay})

    def options(self, shapes: Shapes) -> dict[str, Any]:
        """Return the options of both networks."""
        return {"condition_dim": shapes.condition_dim, "norm_decay": self.norm_decay or 0.99}

    def build(self, shapes: Shapes) -> tuple[nn.Module, nn.Module]:
        """Build both."""
        from vaelab import nets

        encoder, decoder = getattr(nets, f"{self.family}Encoder"), getattr(nets, f"{self.family}Decoder")
        options = self.options(shapes)
        return (
            encoder(shapes.event_shape, shapes.encoder_outputs, **options),
            decoder(shapes.latent_dim, shapes.decoder_shape, **options),
        )


class InfoGAN(Convolutional):
    """The networks of Dai & Wipf 2019, after Chen et al. 2016; σ comes through a softplus, as in their program."""

    kind: ClassVar[str] = "infogan"
    family: ClassVar[str] = "InfoGAN"
    scale: ClassVar[Literal["exp", "softplus"]] = "softplus"


class Wide(Convolutional):
    """What families with a width share; itself no value."""

    base_width: int | None = Field(
        None, ge=1, description="channels after the first convolution; default: as published"
    )

    def options(self, shapes: Shapes) -> dict[str, Any]:
        """Add the width."""
        given = {} if self.base_width is None else {"base_width": self.base_width}
        return super().options(shapes) | given


class ResNet(Wide):
    """The residual networks of Dai & Wipf 2019."""

    kind: ClassVar[str] = "resnet"
    family: ClassVar[str] = "ResNet"


class Residual(Wide):
    """The residual networks of Zheng et al. 2022."""

    kind: ClassVar[str] = "residual"
    family: ClassVar[str] = "Residual"


class WAE(Wide):
    """The networks of Tolstikhin et al. 2018."""

    kind: ClassVar[str] = "wae"
    family: ClassVar[str] = "WAE"


class ARELBO(Wide):
    """The networks of Takida et al. 2022 for MNIST."""

    kind: ClassVar[str] = "arelbo"
    family: ClassVar[str] = "ARELBO"


class RAE(Wide):
    """The networks of Ghosh et al. 2020."""

    kind: ClassVar[str] = "rae"
    family: ClassVar[str] = "RAE"
    spectral: bool = Field(False, description="spectral normalisation of all layers")
    ends: Literal["normalised", "plain"] = Field(
        "normalised", description="plain: pixels as they are, no batch norm beside data and code (Takida et al. 2022)"
    )

    def options(self, shapes: Shapes) -> dict[str, Any]:
        """Add the normalisation and the kernels, which are larger for CelebA in the program."""
        kernel = 5 if min(shapes.event_shape[1:]) >= 64 else 4
        return super().options(shapes) | {"spectral": self.spectral, "kernel": kernel, "ends": self.ends}


class Own(Network):
    """Networks of your own: a function that gets `Shapes` and returns encoder and decoder, or the two modules.

    A run folder holds their weights and where the function is, and never code: who loads it gives the function again.
    """

    kind: ClassVar[str] = "own"
    takes: ClassVar[Takes] = "anything"
    least_batch: ClassVar[int] = 1
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    place: str = Field(
        "", pattern=r"^(.+:[^\W\d]\w*)?$", description="of the function: file.py:name or package.module:name"
    )
    make: Callable[[Shapes], tuple[Any, Any]] | None = Field(None, exclude=True, repr=False)

    @classmethod
    def around(cls, value: object) -> Own:
        """Return what a function or a pair of modules stands for.

        Raises
        ------
        InputError
            It is neither.
        """
        from torch import nn

        if isinstance(value, tuple) and len(value) == 2 and all(isinstance(part, nn.Module) for part in value):
            return cls(make=lambda shapes: copy.deepcopy(value))
        if callable(value) and not isinstance(value, nn.Module):
            return cls(place=_place_of(value), make=value)
        got = f"network of type {type(value).__name__}"
        raise InputError(got, "a name, a function of shapes, or a pair of modules (encoder, decoder)")

    def imported(self) -> Own:
        """Return the same with the function at its place; for places that a user has named, never one from a file.

        Raises
        ------
        InputError
            There is no such function.
        """
        return self if self.make is not None else self.model_copy(update={"make": _function_at(self.place)})

    def build(self, shapes: Shapes) -> tuple[nn.Module, nn.Module]:
        """Call the function.

        Raises
        ------
        InputError
            The function is not at hand, fails, or returns something else.
        """
        from torch import nn

        if self.make is None:
            known = f", such as network={self.place!r}" if self.place else ""
            remedy = f"Pass the function that makes them{known}."
            raise InputError("networks of your own, whose code no run holds", "the function", remedy)
        try:
            made = self.make(shapes)
        except Exception as error:
            got = f"{self.place or 'a network function'} that fails ({type(error).__name__}: {error})"
            raise InputError(got, "a function of Shapes that returns encoder and decoder") from error
        if not (
            isinstance(made, tuple | list) and len(made) == 2 and all(isinstance(part, nn.Module) for part in made)
        ):
            got = f"{self.place or 'a network function'} that returns {type(made).__name__}"
            raise InputError(got, "a pair of modules, encoder and decoder")
        return made[0], made[1]


def _function_at(place: str) -> Callable[..., Any]:
    """Import what stands at ``file.py:name`` or ``package.module:name``; only ever of a place that the user named."""
    import importlib
    import importlib.util
    from pathlib import Path

    source, colon, name = place.rpartition(":")
    if not colon or not name.isidentifier():
        raise InputError(f"network={place!r}", "file.py:function, module:function, or a name of a network")
    try:
        if source.endswith(".py"):
            path = Path(source)
            spec = importlib.util.spec_from_file_location(path.stem, path)
            if spec is None or spec.loader is None or not path.is_file():
                raise InputError(f"network={place!r}, where there is no file {source}", "a file of Python code")
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(source)
        found = getattr(module, name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"network={place!r} ({error})", "a function that can be imported") from error
    if not callable(found):
        raise InputError(f"network={place!r}, which is no function", "a function of Shapes")
    function: Callable[..., Any] = found
    return function


def _place_of(function: Callable[..., Any]) -> str:
    """Return where a function can be imported from; empty for one that cannot, as a lambda."""
    import sys

    module, name = getattr(function, "__module__", ""), getattr(function, "__qualname__", "")
    if module in ("", "__main__") or getattr(sys.modules.get(module), name, None) is not function:
        return ""
    return f"{module}:{name}"
