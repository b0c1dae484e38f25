"""Features of the Fréchet inception distance, from a weights file that the user gives.

A distance on these features is an FID only with the published weights (`Inception.published`), and two FIDs compare
only if images were resized alike (`Inception.preprocessing`). Nothing here downloads anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, Self, final

import torch
from torch import Tensor, nn

from vaelab.errors import InputError
from vaelab.metrics.inception_network import SIDE, InceptionNetwork
from vaelab.metrics.pixels import as_rgb, resize

PUBLISHED_FILE: Final = "pt_inception-2015-12-05-6726825d.pth"
"""Name of the published weights, which ends in the first digits of their sha256."""

_AT_ONCE: Final = 32  # images; each takes 15 MB on its way through
_PUBLISHED_DIGITS: Final = PUBLISHED_FILE.removesuffix(".pth").rpartition("-")[2]
_CLASSIFIER: Final = {"fc.weight": (1008, 2048), "fc.bias": (1008,)}  # in the file, above the features
_REMEDY: Final = (
    f"The published file is {PUBLISHED_FILE} (96 MB), of the project pytorch-fid; give its path with --inception or in "
    "the environment variable VAELAB_INCEPTION."
)


@final
class Inception(nn.Module):
    """Pixel values → features of the layer ``pool_3``.

    There is no training mode: `train` does nothing, since batch norm would then use the statistics of the batch, and an
    image's features would depend on its neighbours. No parameter takes a gradient, but gradients reach the images.

    Parameters
    ----------
    network
        With its weights.
    preprocessing
        ``"ttur"``: TensorFlow 1's bilinear resize to 299×299, then (x − 128)/128, as in the graph of the original
        program (Heusel et al. 2017). ``"pytorch-fid"``: x/255, bilinear resize with half-pixel centres, then 2x − 1, as
        in the PyTorch port of that name.
    sha256
        Of the weights file; hexadecimal.
    """

    kind = "inception"

    def __init__(
        self, network: InceptionNetwork, *, preprocessing: Literal["ttur", "pytorch-fid"], sha256: str
    ) -> None:
        super().__init__()
        if preprocessing not in ("ttur", "pytorch-fid"):
            raise InputError(f"preprocessing={preprocessing!r}", "'ttur' or 'pytorch-fid'")
        self.network = network
        self.preprocessing = preprocessing
        self.sha256 = sha256
        self.requires_grad_(False)
        super().train(False)

    @property
    def fingerprint(self) -> str:
        """The sha256 of the weights file, then the preprocessing: features differ by either."""
        return f"{self.sha256} {self.preprocessing}"

    @property
    def published(self) -> bool:
        """Whether the weights are the published ones, on which a Fréchet distance is the FID."""
        return self.sha256.startswith(_PUBLISHED_DIGITS)

    def train(self, mode: bool = True) -> Self:
        """Do nothing; see the class."""
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Return features.

        Parameters
        ----------
        images
            (n, 3, H, W) RGB or (n, 1, H, W) grey pixel values 0 … 255; `vaelab.metrics.pixels.pixel_values` makes them.

        Returns
        -------
        Tensor
            (n, 2048), in the precision and on the device of the weights.

        Raises
        ------
        InputError
            Another shape.
        """
        return torch.cat([self._features(part) for part in images.split(_AT_ONCE)])

    def _features(self, images: Tensor) -> Tensor:
        rgb = as_rgb(images.to(self.network.Conv2d_1a_3x3.conv.weight))
        if self.preprocessing == "ttur":
            ready = (resize(rgb, (SIDE, SIDE), "tf1-bilinear") - 128) / 128
        else:
            ready = 2 * resize(rgb / 255, (SIDE, SIDE), "bilinear") - 1
        return self.network(ready)  # type: ignore[no-any-return]


def load_inception(path: Path | str, *, preprocessing: Literal["ttur", "pytorch-fid"]) -> Inception:
    """Read a weights file; no code in it can run.

    Parameters
    ----------
    path
        The published file, whatever its name, or one with the same layers.
    preprocessing
        See `Inception`.

    Returns
    -------
    Inception
        On the CPU.

    Raises
    ------
    InputError
        The file is missing, unreadable, cut off, or holds other layers than these.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no file {path}", "weights of the Inception network", _REMEDY)
    tensors = _read(path)
    with torch.device("meta"):  # no time for initial values that are replaced at once
        network = InceptionNetwork()
    _check(path, tensors, {name: tuple(value.shape) for name, value in network.state_dict().items()})
    weights = {name: tensors[name].float() for name in network.state_dict()}
    network.load_state_dict(weights, assign=True)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Inception(network, preprocessing=preprocessing, sha256=sha256)


def _read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file, without the batch counters that batch norm keeps for training."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a spoilt pickle may raise anything
        # not torch's own words, which advise to let the file run code
        got = f"an unreadable file {path} ({type(error).__name__})"
        raise InputError(got, "a whole file of weights, not a TorchScript archive", _REMEDY) from error
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise InputError(f"{path}, which holds no table of named tensors", "weights of the Inception network", _REMEDY)
    return {str(name): value for name, value in found.items() if not str(name).endswith(".num_batches_tracked")}


def _check(path: Path, tensors: Mapping[str, Tensor], network: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse tensors other than the network's and its classifier's."""
    wanted = {**network, **_CLASSIFIER}
    issues = {
        "missing": sorted(wanted.keys() - tensors.keys()),
        "unexpected": sorted(tensors.keys() - wanted.keys()),
        "misshapen": sorted(n for n in wanted.keys() & tensors.keys() if tuple(tensors[n].shape) != wanted[n]),
    }
    said = [f"{what} tensors ({_listed(names)})" for what, names in issues.items() if names]
    if said:
        raise InputError(f"{path} with {'; '.join(said)}", f"the {len(wanted)} tensors of this network", _REMEDY)


def _listed(names: list[str], most: int = 4) -> str:
    return f"{len(names)}: {', '.join(names[:most])}" + (", …" if len(names) > most else "")
