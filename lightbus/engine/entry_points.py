"""The adapters of other packages, which settings name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..exceptions import InvalidConfiguration, did_you_mean

__all__ = ["named_factory"]


def named_factory(setting: str, name: str, *, group: str, built_in: Sequence[str]) -> Any:
    """
    Return the factory of an adapter from the entry point with this name.

    Args:
        setting: the setting that names it, for errors: `discovery.backend`, for example.
        name: the name of the entry point.
        group: the group of entry points.
        built_in: the names of the library's own adapters, for errors.

    Raises:
        InvalidConfiguration: no installed package has such an entry point, or it cannot be imported.

    """
    from importlib.metadata import entry_points  # imported here: it takes 2 MB, and few have their own adapters

    found = {point.name: point for point in entry_points(group=group)}
    if name not in found:
        known = [*built_in, *sorted(found)]
        raise InvalidConfiguration(
            f"{setting} is '{name}', and there is: {', '.join(known)}.{did_you_mean(name, known)} Install the package "
            f"that provides it (an entry point in the group {group}), or name another"
        )
    try:
        return found[name].load()
    except Exception as error:
        raise InvalidConfiguration(f"{setting} '{name}' ({found[name].value}) cannot be imported: {error}") from error
