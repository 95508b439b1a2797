"""The version of the package. It is written down here alone: the build reads it, too."""

from __future__ import annotations

__all__ = ["version"]

__version__ = "2.0.0a1"


def version() -> str:
    """Return it. To ask the installed package's metadata would take a worker 2 MB, for a line of its log."""
    return __version__
