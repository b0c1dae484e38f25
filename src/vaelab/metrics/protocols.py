"""Protocols: everything that changes a distance between samples, as frozen, named, versioned records.

Two numbers compare if their protocols have the same hash, their extractors the same weights, and their references the
same content. A protocol says all of the first; a `Reading` carries all three.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vaelab.errors import InputError

PUBLISHED_INCEPTION = "6726825d"
"""First digits of the sha256 of the published weights, which are also in their file's name."""

Preparation = Literal["ttur", "pytorch-fid", "network"]


class Protocol(BaseModel):
    """What is measured, on how many, after which treatment.

    A change in what a field means is a new `version`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: int = 1
    kind: Literal["image", "table"] = Field("image", description="what it applies to")
    extractor: Literal["inception", "classifier", "pca", "identity", "own"] = Field(description="features")
    weights: str = Field("", description="first digits of the sha256 of the extractor's published weights")
    preparation: Preparation = Field(
        "network",
        description="ttur: TensorFlow 1's bilinear resize to 299 × 299 without half-pixel centres, then (x − 128)/128; "
        "pytorch-fid: bilinear resize to 299 × 299 with half-pixel centres, then 2x/255 − 1; network: no resize, x/255 "
        "for images, columns standardised by the training rows for tables",
    )
    celeba_crop: int | None = Field(None, description="side of the centre crop of CelebA, where that is the data")
    reference: Literal["test", "train"] = Field("test", description="split that is compared with")
    reference_count: int = Field(10_000, ge=2, description="its rows, at most")
    generated_count: int = Field(10_000, ge=2, description="generated rows; never more than the reference has")
    observation_noise: bool = Field(False, description="generated rows with the decoder's noise, not only its mean")
    quantise: Literal["round", "truncate", "none"] = Field("round", description="to 8 bits, on both sides")
    stretch: bool = Field(False, description="each generated image is stretched to the full range by itself")
    jpeg: Literal["none", "reference", "both"] = Field("none", description="who goes through a JPEG file, quality 75")
    seed: int = Field(0, ge=0, description="of the generated rows, and of every random choice of a measure")
    components: int = Field(64, ge=1, description="of the extractor 'pca', at most")
    kernel_subsets: int = Field(100, ge=1, description="subsets of the kernel distance")
    kernel_subset_size: int = Field(1000, ge=2, description="rows in each")
    neighbours_precision: int = Field(3, ge=1, description="k of precision and recall")
    neighbours_density: int = Field(5, ge=1, description="k of density and coverage")
    projections: int = Field(500, ge=1, description="directions of the sliced Wasserstein distance")
    source: str = Field("", description="where it comes from, for people")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        inception = self.extractor == "inception"
        if inception != (self.preparation != "network"):
            raise ValueError(f"preparation={self.preparation!r} does not go with extractor={self.extractor!r}")
        if inception != bool(self.weights):
            raise ValueError("published weights belong to the extractor 'inception', and to it alone")
        pixels = self.quantise != "none" or self.stretch or self.jpeg != "none"
        if self.kind == "table" and (inception or pixels):
            raise ValueError("a table has no pixels to quantise, stretch, compress or show to Inception")
        return self

    @property
    def hash(self) -> str:
        """Eight digits that change with everything that changes a number; not with name or source."""
        content = self.model_dump(mode="json", exclude={"name", "source"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]

    def derive(self, **changes: object) -> Protocol:
        """Return a protocol with some fields changed, whose name says so: ``classifier-10k+quantise=none``.

        Raises
        ------
        InputError
            No such field, or values that do not go together.
        """
        fixed = [key for key in changes if key in ("name", "version", "source", "extractor")]
        if fixed:
            raise InputError(
                f"a changed {', '.join(fixed)}", "changes of how numbers are made", "Start from another one."
            )
        name = "+".join([self.name, *(f"{key}={value}" for key, value in sorted(changes.items()))])
        try:
            return Protocol.model_validate({**self.model_dump(), **changes, "name": name, "source": ""})
        except ValidationError as error:
            what = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise InputError(f"protocol {name}", "fields that a protocol has, with values that fit", what) from error


_TTUR = {"extractor": "inception", "weights": PUBLISHED_INCEPTION, "preparation": "ttur"}
_PORT = {"extractor": "inception", "weights": PUBLISHED_INCEPTION, "preparation": "pytorch-fid"}

_TABLE: tuple[dict[str, object], ...] = (
    {
        "name": "ttur-10k",
        **_TTUR,
        "source": "Heusel et al., NeurIPS 2017, and their program; 10,000 8-bit images against 10,000 test images",
    },
    {
        "name": "pytorch-fid-10k",
        **_PORT,
        "source": "the PyTorch port of the above, pytorch-fid; differs in how images are resized",
    },
    {
        "name": "lucic-2018",
        **_TTUR,
        "quantise": "none",
        "seed": 42,
        "celeba_crop": 160,
        "source": "Lucic et al., NeurIPS 2018, and their program: unquantised",
    },
    {
        "name": "dai-wipf-program",
        **_TTUR,
        "quantise": "none",
        "stretch": True,
        "celeba_crop": 128,
        "source": "the program of Dai & Wipf, ICLR 2019: each generated image stretched, real ones not",
    },
    {
        "name": "dai-wipf-program-unstretched",
        **_TTUR,
        "quantise": "none",
        "celeba_crop": 128,
        "source": "the same without the stretch; whether the paper's table has it is not known, so report both",
    },
    {
        "name": "dai-wipf-program-cifar10",
        **_TTUR,
        "quantise": "none",
        "stretch": True,
        "jpeg": "reference",
        "source": "the same for CIFAR-10, whose real images went through JPEG files",
    },
    {
        "name": "takida-2022",
        **_PORT,
        "celeba_crop": 140,
        "source": "Takida et al., Neurocomputing 2022: pytorch-fid on 10,000 images",
    },
    {
        "name": "classifier-10k",
        "extractor": "classifier",
        "source": "features of a small classifier trained on the labelled training split; needs no download",
    },
    {
        "name": "pca-10k",
        "extractor": "pca",
        "source": "leading principal components of the training images, for images without labels",
    },
    {
        "name": "tabular",
        "kind": "table",
        "extractor": "identity",
        "quantise": "none",
        "version": 2,  # the first was of means, which lack the noise that samples of tables have
        "observation_noise": True,
        "source": "standardised columns as they are",
    },
    {
        "name": "tabular-pca",
        "kind": "table",
        "extractor": "pca",
        "quantise": "none",
        "version": 2,
        "observation_noise": True,
        "source": "leading principal components of the standardised columns, for wide tables",
    },
)

PROTOCOLS: dict[str, Protocol] = {entry["name"]: Protocol.model_validate(entry) for entry in _TABLE}  # type: ignore[misc]
"""Name → protocol."""


def protocol(name: str) -> Protocol:
    """Return a protocol by name; ``name+field=value`` changes fields and is a protocol of its own.

    >>> protocol("classifier-10k+quantise=none").quantise
    'none'

    Raises
    ------
    InputError
        No such protocol or field.
    """
    base, *changes = name.split("+")
    if base not in PROTOCOLS:
        close = difflib.get_close_matches(base, PROTOCOLS, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else ""
        raise InputError(f"protocol {base!r}", f"one of {', '.join(PROTOCOLS)}", hint)
    pairs = [change.partition("=") for change in changes]
    if not pairs:
        return PROTOCOLS[base]
    if any(not (key and equals) for key, equals, _ in pairs):
        raise InputError(f"protocol {name!r}", "name+field=value", "Such as classifier-10k+quantise=none.")
    return PROTOCOLS[base].derive(**{key: value for key, _, value in pairs})
