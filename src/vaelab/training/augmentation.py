"""Changes of training rows, drawn anew for every batch, on the device; held-out rows stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, cast

from pydantic import ConfigDict, Field

from vaelab.errors import InputError
from vaelab.spec import Value, place_of

if TYPE_CHECKING:
    from torch import Tensor


class Augment(Value):
    """What is done to every batch of training rows before the model sees it."""

    axis: ClassVar[str] = "augment"

    @classmethod
    def of(cls, value: object) -> Augment:
        """Return what a name, text, mapping or function stands for; see `Value.of`."""
        if callable(value) and not isinstance(value, Value | type):
            return OwnAugment(place=place_of(value), make=value)
        return super().of(value)

    def check(self, event_shape: tuple[int, ...]) -> None:
        """Refuse rows of another shape than it is for."""

    def __call__(self, x: Tensor) -> Tensor:
        """Change (B, *event_shape) rows in the network's units; draws come from torch's global generator."""
        raise NotImplementedError


class Flip(Augment):
    """Mirror some images, left to right."""

    kind: ClassVar[str] = "flip"
    share: float = Field(0.5, gt=0, le=1, description="chance of every image to be mirrored")

    def check(self, event_shape: tuple[int, ...]) -> None:
        """Refuse what are no images."""
        if len(event_shape) != 3:
            raise InputError(f"augment='flip' for rows of shape {event_shape}", "images (n, C, H, W)", "Leave it out.")

    def __call__(self, x: Tensor) -> Tensor:
        """Mirror (B, C, H, W)."""
        import torch

        mirrored = torch.rand(len(x), device=x.device) < self.share
        return torch.where(mirrored[:, None, None, None], x.flip(-1), x)


class OwnAugment(Augment):
    """A function of your own, of (B, *event_shape) rows in the network's units; a run knows where it is, not its code.

    It draws from torch's global generators, which are seeded for it.
    """

    kind: ClassVar[str] = "own"
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    place: str = Field("", description="of the function, for people")
    make: Callable[..., Any] | None = Field(None, exclude=True, repr=False)

    def check(self, event_shape: tuple[int, ...]) -> None:
        """Refuse to go without the function."""
        if self.make is None:
            got = f"an augmentation of your own ({self.place or 'without a name'}), whose code no run holds"
            raise InputError(got, "the function", "Train from Python, with FitSettings(augment=function).")

    def __call__(self, x: Tensor) -> Tensor:
        """Call the function.

        Raises
        ------
        InputError
            It returns something else than such rows.
        """
        assert self.make is not None  # checked before
        changed = self.make(x)
        shape, dtype = getattr(changed, "shape", None), getattr(changed, "dtype", None)
        if shape != x.shape or dtype != x.dtype:
            what = type(changed).__name__ if shape is None else f"{dtype} of shape {tuple(shape)}"
            got = f"an augmentation that returned {what} for rows of shape {tuple(x.shape)}"
            raise InputError(got, f"{x.dtype} of the same shape", "Change rows, not their size.")
        return cast("Tensor", changed)
