"""What vaelab raises: what was got, what was wanted, and what to do about it."""

from __future__ import annotations


class VaelabError(Exception):
    """Root of every error that vaelab raises on purpose."""


class InputError(VaelabError, ValueError):
    """The caller gave something that cannot be used; raised before any work starts.

    Parameters
    ----------
    got
        What was found.
    wanted
        What would have been accepted.
    remedy
        A call or a change that mends it.
    """

    def __init__(self, got: str, wanted: str, remedy: str = "") -> None:
        self.got, self.wanted, self.remedy = got, wanted, remedy
        super().__init__(f"Got {got}; wanted {wanted}." + (f" {remedy}" if remedy else ""))

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str, str]]:
        """Rebuild from the three parts, so that the error crosses process borders."""
        return type(self), (self.got, self.wanted, self.remedy)


class NotNumbersError(InputError, TypeError):
    """Something that is no number stands where one should; also the `TypeError` that scikit-learn asks for."""


class RunFolderError(InputError):
    """A run folder is missing, incomplete, foreign, corrupt or from a newer version."""


class MissingExtraError(VaelabError, ImportError):
    """An optional dependency is needed and absent."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package '{package}'. Install it with: pip install 'vaelab[{extra}]'")


class NonFiniteObjectiveError(VaelabError, ArithmeticError):
    """Training met a loss that is not a number; the last good state stays on disk."""


class VaelabWarning(UserWarning):
    """Something that works, but that the caller would want to know."""
