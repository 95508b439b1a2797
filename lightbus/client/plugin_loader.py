"""Which plugins a client has: those it was given, and those that its settings enable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..config import Config
from ..service.hooks import HookRegistry

__all__ = ["PluginLoader"]


class PluginLoader:
    """Loads plugins once: at the first use of the bus, or as its worker starts."""

    def __init__(self, config: Config, hooks: HookRegistry, given: Sequence[Any]) -> None:
        self._config = config
        self._hooks = hooks
        self._given = list(given)
        self._are_loaded = False

    def load(self) -> None:
        """Add the methods of the plugins to the hooks. Where it raises, the next call tries again."""
        if self._are_loaded:
            return
        from ..plugins import load_plugins, register_plugin

        plugins = [*self._given, *load_plugins(self._config)]
        self._are_loaded = True
        for plugin in plugins:
            register_plugin(self._hooks, plugin)
