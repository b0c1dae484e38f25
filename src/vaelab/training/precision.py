"""Number formats that leave the data and the objective as they are.

Fabric rounds a module's inputs to the lower precision, and double outputs to single. Grey levels and errors do not
survive that; the layers of a network round what they multiply by themselves.
"""

from __future__ import annotations

from typing import Any, final

from lightning_fabric.plugins.precision import DoublePrecision, MixedPrecision


@final
class MixedLayers(MixedPrecision):
    """Autocast inside the model, inputs in full precision."""

    def convert_input(self, data: Any) -> Any:
        """Return the data as they are."""
        return data


@final
class Doubles(DoublePrecision):
    """Double precision whose objectives stay double: Lightning's rounds what comes out, and so its gradient."""

    def convert_output(self, data: Any) -> Any:
        """Leave data as they are."""
        return data
