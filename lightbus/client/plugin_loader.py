"""Which plugins a client has: those it was given, and those that its settings enable."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from ..config import Config
from ..exceptions import UsageError
from ..service.hooks import HookRegistry

__all__ = ["PluginLoader"]

logger = logging.getLogger("lightbus.plugins")


class PluginLoader:
    """
    Loads plugins once: at the first use of the bus, or as its worker starts.

    Args:
        config: enables some of those that are installed.
        hooks: get their methods.
        given: those of the program. Raises UsageError where one is no plugin.

    """

    def __init__(self, config: Config, hooks: HookRegistry, given: Sequence[Any]) -> None:
        self._config = config
        self._hooks = hooks
        self._given = _checked(given) if given else []
        self._plugins = self._given
        self._are_loaded = False

    def is_plugin_loaded(self, plugin_class: type) -> bool:
        """Return whether there is a plugin of a class by now: those of the settings come at first use of the bus."""
        return plugin_class in [type(plugin) for plugin in self._plugins]

    def load(self) -> None:
        """Add the methods of the plugins to the hooks. Where it raises, the next call tries again."""
        if self._are_loaded:
            return
        from ..plugins import load_plugins, register_plugin

        plugins = [*self._given, *(plugin for plugin in load_plugins(self._config) if not self._is_given(plugin))]
        self._are_loaded = True
        self._plugins = plugins
        for plugin in plugins:
            register_plugin(self._hooks, plugin)

    def _is_given(self, plugin: Any) -> bool:
        """Return whether the program has made such a plugin itself, and say that this one is not used then."""
        if all(type(each) is not type(plugin) for each in self._given):
            return False
        logger.warning(
            "%s is enabled in the settings, and the program gives one of its own, too (plugins=[...]). That one is "
            "used, with what it was given, since two would do everything twice. Leave one of the two out.",
            plugin,
        )
        return True


def _checked(given: Any) -> list[Any]:
    from ..plugins import LightbusPlugin

    for each in given if isinstance(given, Iterable) else [given]:
        if isinstance(each, type) and issubclass(each, LightbusPlugin):
            raise UsageError(f"plugins=[...] takes instances, and {each.__name__} is a class: {each.__name__}().")
        if not isinstance(each, LightbusPlugin) or each is given:
            raise UsageError(
                f"plugins=[...] takes a list of plugins, instances of LightbusPlugin, and not {each!r:.100}. One that "
                "is installed is enabled by its name in the settings: plugins.<name>.enabled."
            )
    return list(given)
