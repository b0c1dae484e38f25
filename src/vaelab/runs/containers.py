"""Rows back in the container and dtype that they came in."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vaelab.data import rare
from vaelab.data.frames import frame_of, to_polars

if TYPE_CHECKING:
    from vaelab.runs.trained import Trained


def in_container(
    trained: Trained, values: Tensor, like: Any = None, *, rounded: bool = True, decided: bool = False
) -> Any:
    """Turn rows in the data's units into what the data of a training came in; see `Trained.returned`.

    Without `rounded`, columns that came as whole numbers are floating-point; `decided` is of rare levels.
    """
    facts, name = trained.facts, trained.scaling.dtype
    container, out = facts.container, values.cpu()
    if trained.schema is not None and container != "torch":
        coded, schema, dtypes = out.to(getattr(torch, name)), trained.schema, facts.dtypes
        coded = rare.decided(schema.columns, coded) if decided else coded
        if not rounded:
            whole = {column.name for column in schema.columns if column.whole and column.levels is None}
            columns = tuple(replace(c, dtype="float64") if c.name in whole else c for c in schema.columns)
            schema, dtypes = replace(schema, columns=columns), {k: v for k, v in dtypes.items() if k not in whole}
        if container == "numpy":
            return schema.to_array(coded, like=like)
        frame = schema.to_frame(coded, like=like)
        return frame if container == "pandas" else to_polars(frame, dtypes)
    if name == "uint8" and facts.kind == "image":
        out = out.clamp(0, 255).round().to(torch.uint8)
    else:
        out = out.to(getattr(torch, name, torch.float64))
    if container in ("torch", "numpy"):
        return out if container == "torch" else out.numpy()
    return frame_of(out.numpy(), facts.columns, polars=container == "polars")
