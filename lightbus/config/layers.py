"""Merge settings from several places, recording for each key the place it came from.

Knows nothing of what the settings mean. Errors name the place: "network.rpc_port (from the file bus.yaml) ...".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ..exceptions import InvalidConfiguration

__all__ = ["KeyPath", "Layer", "Merged", "merge"]

KeyPath: TypeAlias = tuple[str | int, ...]
"""The path of a setting: `("apis", "auth", "rpc_timeout")`; a number is an index in a list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """Nested settings (`values`) of one place (`origin`, as error texts name it: `"the file bus.yaml"`)."""

    origin: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """All layers as one mapping."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, str] = field(default_factory=dict)

    def origin_of(self, path: KeyPath) -> str | None:
        """Return the place that set this setting, or the section around it; None for a default."""
        while path and path not in self.origins:
            path = path[:-1]
        return self.origins.get(path)


def merge(layers: Iterable[Layer]) -> Merged:
    """
    Merge `layers`, the weakest first: sections key by key, lists and values as a whole.

    Raises InvalidConfiguration for a section that contains itself, as one with an anchor of YAML may.
    """
    merged = Merged()
    for layer in layers:
        try:
            _merge(layer.values, merged.values, (), layer.origin, merged.origins)
        except RecursionError as error:
            raise InvalidConfiguration(
                f"A section from {layer.origin} contains itself, or is nested too deeply to be one."
            ) from error
    return merged


def _merge(
    values: Mapping[str, Any], target: dict[str, Any], path: KeyPath, origin: str, origins: dict[KeyPath, str]
) -> None:
    for raw_key, value in values.items():
        key = str(raw_key)  # YAML parses some keys as numbers or, like `on`, as a bool
        here = (*path, key)
        if value is None and not _is_plugin_option(here):
            continue  # `bus:` with nothing below it, or an argument not given: the same as absent
        origins[here] = origin
        if not isinstance(value, Mapping):
            target[key] = value
            continue
        if not isinstance(target.get(key), dict):
            target[key] = {}
        _merge(value, target[key], here, origin, origins)


def _is_plugin_option(path: KeyPath) -> bool:
    """Return whether the setting belongs to a plugin, for which null may be a valid value."""
    return len(path) > 2 and path[0] == "plugins"
