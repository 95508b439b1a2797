"""The version of the package. This is its only definition: the build reads it, too."""

from __future__ import annotations

__all__ = ["version"]

__version__ = "2.0.0a1"


def version() -> str:
    """Return the version. Reading the installed package's metadata instead would cost a worker 2 MB of memory."""
    return __version__
