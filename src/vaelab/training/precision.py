"""Mixed precision that leaves the data as they are.

Fabric rounds a module's inputs to the lower precision. Grey levels and errors do not survive that; the layers of a
network round what they multiply by themselves.
"""

from __future__ import annotations

from typing import Any, final

from lightning_fabric.plugins.precision import MixedPrecision


@final
class MixedLayers(MixedPrecision):
    """Autocast inside the model, inputs in full precision."""

    def convert_input(self, data: Any) -> Any:
        """Return the data as they are."""
        return data
