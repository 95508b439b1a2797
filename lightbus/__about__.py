"""The version of the installed package."""

from __future__ import annotations

from functools import cache

__all__ = ["version"]


@cache
def version() -> str:
    """Return the version, as the package's metadata has it; `"unknown"` where it runs uninstalled."""
    from importlib.metadata import PackageNotFoundError, version  # its import takes milliseconds, most never ask

    try:
        return version("lightbus")
    except PackageNotFoundError:
        return "unknown"
