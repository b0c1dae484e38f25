"""Rows back in the container and dtype that they came in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vaelab.data.frames import frame_of, to_polars

if TYPE_CHECKING:
    from vaelab.runs.trained import Trained


def in_container(trained: Trained, values: Tensor, like: Any = None) -> Any:
    """Turn rows in the data's units into what the data of a training came in; see `Trained.returned`."""
    facts, name = trained.facts, trained.scaling.dtype
    container, out = facts.container, values.cpu()
    if trained.schema is not None and container != "torch":
        coded = out.to(getattr(torch, name))
        if container == "numpy":
            return trained.schema.to_array(coded, like=like)
        frame = trained.schema.to_frame(coded, like=like)
        return frame if container == "pandas" else to_polars(frame, facts.dtypes)
    if name == "uint8" and facts.kind == "image":
        out = out.clamp(0, 255).round().to(torch.uint8)
    else:
        out = out.to(getattr(torch, name, torch.float64))
    if container in ("torch", "numpy"):
        return out if container == "torch" else out.numpy()
    return frame_of(out.numpy(), facts.columns, polars=container == "polars")
