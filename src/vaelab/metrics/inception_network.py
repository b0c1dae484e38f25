"""The Inception network of the Fréchet inception distance, as tables of convolutions.

Szegedy et al. 2016, in the version of the TensorFlow graph "inception-2015-12-05" that Heusel et al. 2017 used. Its
layers have the names that they have in the published PyTorch conversion of its weights. It differs from other
Inception-v3 networks:

- average pools leave the padding out of their means;
- the last block takes a maximum where the paper takes an average;
- batch norm adds 0.001 to the variance, and convolutions have no bias;
- what comes out is the layer ``pool_3``, the global average below the classifier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

SIDE = 299
"""Height and width of the images that the network was trained on."""

WIDTH = 2048
"""Features."""


@dataclass(frozen=True)
class _Conv:
    """One convolution of a table; its input channels follow from what is before it."""

    name: str
    channels: int
    kernel: tuple[int, int] = (1, 1)


_Step = _Conv | tuple[_Conv, ...]  # several in a step see the same input and are joined
_Branch = Sequence[_Step]


@final
class _Norm(nn.Module):
    """Batch norm by stored statistics only; it has no training mode that could use the batch's."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name, value in {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}.items():
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=1e-3)


@final
class _Unit(nn.Module):
    """Convolution, batch norm, ReLU; "same" padding where the stride is 1 and `pad` is left on."""

    def __init__(self, inputs: int, conv: _Conv, *, stride: int = 1, pad: bool = True) -> None:
        super().__init__()
        height, width = conv.kernel
        padding = (height // 2, width // 2) if pad else (0, 0)
        self.conv = nn.Conv2d(inputs, conv.channels, conv.kernel, stride=stride, padding=padding, bias=False)
        self.bn = _Norm(conv.channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


@final
class _Block(nn.Module):
    """Branches side by side and a pooled one after them, joined along the channels.

    Parameters
    ----------
    inputs
        Channels that come in.
    branches
        Tables of convolutions, one after the other.
    pool
        ``"average"`` or ``"max"`` over 3×3 with stride 1, then a 1×1 convolution; or ``"reduce"``: a maximum of stride
        2 without one, and stride 2 in the last convolution of each branch, both unpadded, so that the side is halved.
    pooled
        Channels of the pooled branch; those that come in for ``"reduce"``.
    """

    def __init__(
        self, inputs: int, branches: Sequence[_Branch], *, pool: Literal["average", "max", "reduce"], pooled: int
    ) -> None:
        super().__init__()
        self.pool = pool
        self.paths: list[list[list[str]]] = []
        self.outputs = pooled
        for branch in branches:
            steps = [step if isinstance(step, tuple) else (step,) for step in branch]
            channels = inputs
            for step in steps:
                halves = pool == "reduce" and step is steps[-1]
                for conv in step:
                    self.add_module(conv.name, _Unit(channels, conv, stride=2 if halves else 1, pad=not halves))
                channels = sum(conv.channels for conv in step)
            self.paths.append([[conv.name for conv in step] for step in steps])
            self.outputs += channels
        if pool != "reduce":
            self.branch_pool = _Unit(inputs, _Conv("branch_pool", pooled))

    def forward(self, x: Tensor) -> Tensor:
        joined = []
        for path in self.paths:
            out = x
            for names in path:
                parts = [self.get_submodule(name)(out) for name in names]
                out = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
            joined.append(out)
        return torch.cat([*joined, self._pooled(x)], 1)

    def _pooled(self, x: Tensor) -> Tensor:
        if self.pool == "reduce":
            return F.max_pool2d(x, 3, stride=2)
        if self.pool == "max":
            x = F.max_pool2d(x, 3, stride=1, padding=1)
        else:
            x = F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        return self.branch_pool(x)  # type: ignore[no-any-return]


def _grid_35(inputs: int, pooled: int) -> _Block:
    """5×5 and twice 3×3, on 35×35 pixels."""
    branches: list[_Branch] = [
        [_Conv("branch1x1", 64)],
        [_Conv("branch5x5_1", 48), _Conv("branch5x5_2", 64, (5, 5))],
        [_Conv("branch3x3dbl_1", 64), _Conv("branch3x3dbl_2", 96, (3, 3)), _Conv("branch3x3dbl_3", 96, (3, 3))],
    ]
    return _Block(inputs, branches, pool="average", pooled=pooled)


def _to_17(inputs: int) -> _Block:
    branches: list[_Branch] = [
        [_Conv("branch3x3", 384, (3, 3))],
        [_Conv("branch3x3dbl_1", 64), _Conv("branch3x3dbl_2", 96, (3, 3)), _Conv("branch3x3dbl_3", 96, (3, 3))],
    ]
    return _Block(inputs, branches, pool="reduce", pooled=inputs)


def _grid_17(inputs: int, middle: int) -> _Block:
    """7×7 once and twice, each split into a row and a column, on 17×17 pixels."""
    row, column = (1, 7), (7, 1)
    branches: list[_Branch] = [
        [_Conv("branch1x1", 192)],
        [_Conv("branch7x7_1", middle), _Conv("branch7x7_2", middle, row), _Conv("branch7x7_3", 192, column)],
        [
            _Conv("branch7x7dbl_1", middle),
            _Conv("branch7x7dbl_2", middle, column),
            _Conv("branch7x7dbl_3", middle, row),
            _Conv("branch7x7dbl_4", middle, column),
            _Conv("branch7x7dbl_5", 192, row),
        ],
    ]
    return _Block(inputs, branches, pool="average", pooled=192)


def _to_8(inputs: int) -> _Block:
    branches: list[_Branch] = [
        [_Conv("branch3x3_1", 192), _Conv("branch3x3_2", 320, (3, 3))],
        [
            _Conv("branch7x7x3_1", 192),
            _Conv("branch7x7x3_2", 192, (1, 7)),
            _Conv("branch7x7x3_3", 192, (7, 1)),
            _Conv("branch7x7x3_4", 192, (3, 3)),
        ],
    ]
    return _Block(inputs, branches, pool="reduce", pooled=inputs)


def _grid_8(inputs: int, pool: Literal["average", "max"]) -> _Block:
    """3×3 branches that fork into a row and a column, on 8×8 pixels."""
    row, column = (1, 3), (3, 1)
    branches: list[_Branch] = [
        [_Conv("branch1x1", 320)],
        [_Conv("branch3x3_1", 384), (_Conv("branch3x3_2a", 384, row), _Conv("branch3x3_2b", 384, column))],
        [
            _Conv("branch3x3dbl_1", 448),
            _Conv("branch3x3dbl_2", 384, (3, 3)),
            (_Conv("branch3x3dbl_3a", 384, row), _Conv("branch3x3dbl_3b", 384, column)),
        ],
    ]
    return _Block(inputs, branches, pool=pool, pooled=192)


@final
class InceptionNetwork(nn.Module):
    """From images to ``pool_3``; initialised at random, and without gradients."""

    def __init__(self) -> None:
        super().__init__()
        square = (3, 3)
        self.Conv2d_1a_3x3 = _Unit(3, _Conv("1a", 32, square), stride=2, pad=False)
        self.Conv2d_2a_3x3 = _Unit(32, _Conv("2a", 32, square), pad=False)
        self.Conv2d_2b_3x3 = _Unit(32, _Conv("2b", 64, square))
        self.Conv2d_3b_1x1 = _Unit(64, _Conv("3b", 80))
        self.Conv2d_4a_3x3 = _Unit(80, _Conv("4a", 192, square), pad=False)
        self.Mixed_5b = _grid_35(192, 32)
        self.Mixed_5c = _grid_35(self.Mixed_5b.outputs, 64)
        self.Mixed_5d = _grid_35(self.Mixed_5c.outputs, 64)
        self.Mixed_6a = _to_17(self.Mixed_5d.outputs)
        self.Mixed_6b = _grid_17(self.Mixed_6a.outputs, 128)
        self.Mixed_6c = _grid_17(self.Mixed_6b.outputs, 160)
        self.Mixed_6d = _grid_17(self.Mixed_6c.outputs, 160)
        self.Mixed_6e = _grid_17(self.Mixed_6d.outputs, 192)
        self.Mixed_7a = _to_8(self.Mixed_6e.outputs)
        self.Mixed_7b = _grid_8(self.Mixed_7a.outputs, "average")
        self.Mixed_7c = _grid_8(self.Mixed_7b.outputs, "max")
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, 299, 299) in [−1, 1] → (n, 2048)."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = F.max_pool2d(x, 3, stride=2)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        x = F.max_pool2d(x, 3, stride=2)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        return x.mean((2, 3))
