"""The plugins of a client: those the program gives, and those its settings enable."""

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
        config: the settings, which enable installed plugins.
        hooks: the registry to which the plugins' methods are added.
        given: the program's own plugins. Raises UsageError for an object that is not a plugin.

    """

    def __init__(self, config: Config, hooks: HookRegistry, given: Sequence[Any]) -> None:
        self._config = config
        self._hooks = hooks
        self._given = _checked(given) if given else []
        self._plugins = self._given
        self._are_loaded = False

    def is_plugin_loaded(self, plugin_class: type) -> bool:
        """Return whether a plugin of this class is loaded; those of the settings load at first use of the bus."""
        return plugin_class in [type(plugin) for plugin in self._plugins]

    def load(self) -> None:
        """Add the methods of the plugins to the hooks. If it raises, the next call tries again."""
        if self._are_loaded:
            return
        from ..plugins import load_plugins, register_plugin

        plugins = [*self._given, *(plugin for plugin in load_plugins(self._config) if not self._is_given(plugin))]
        self._are_loaded = True
        self._plugins = plugins
        for plugin in plugins:
            register_plugin(self._hooks, plugin)

    def _is_given(self, plugin: Any) -> bool:
        """Return whether the program gave a plugin of this class; log that the one of the settings is not used then."""
        if all(type(each) is not type(plugin) for each in self._given):
            return False
        logger.warning(
            "%s is enabled in the settings, and the program gives one of its own, too (plugins=[...]). The program's "
            "is used, with its own options, since two would do everything twice. Leave one of the two out.",
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
